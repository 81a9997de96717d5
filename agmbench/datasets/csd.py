"""Computational sequences of the CMU-MultimodalSDK: one HDF5 file per kind of feature, with rows `[n, F]` and their times per video."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from agmbench.contracts import Unsuitable
from agmbench.datasets.arrays import Array, check_shape
from agmbench.datasets.sequences import padded
from agmbench.datasets.untrusted import h5_array, h5_file


class ComputationalSequence:
    """A `.csd` file: `/<root>/data/<video id>/{features [n, F], intervals [n, 2]}`, with intervals in seconds. Rows are read only when
    asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        file = h5_file(path)
        roots = [name for name in file if isinstance(file[name], h5py.Group) and "data" in file[name]]
        if len(roots) != 1:
            raise Unsuitable(
                f"{path} is not a computational sequence: expected one '<root>/data'; it has {', '.join(file) or 'nothing'}"
            )
        self.root: str = roots[0]
        self._data = file[self.root]["data"]

    @cached_property
    def videos(self) -> list[str]:
        """The ids of its videos."""
        return list(self._data)

    def __contains__(self, video: str) -> bool:
        return video in self._data

    def check(self, video: str) -> None:
        """Raise `Unsuitable` unless a video has rows as wide as those of the first video, and a time for each. Only shapes are read."""
        features, intervals = (self._part(video, name).shape for name in ("features", "intervals"))
        check_shape(f"{self.path} '{video}' features", features, (None, self.width))
        check_shape(f"{self.path} '{video}' intervals", intervals, (features[0], 2))

    def intervals(self, video: str) -> Array:
        """Begin and end of each row of a video, `[n, 2]`, in seconds."""
        intervals: Array = self._part(video, "intervals")[:]
        return intervals

    def features(self, video: str, rows: slice = slice(None)) -> Array:
        """The features of some rows of a video, `[n, F]`; without `rows`, of all."""
        features: Array = self._part(video, "features")[rows]
        return features

    @cached_property
    def width(self) -> int:
        """F, the number of features per row in the first video."""
        return int(self._part(self.videos[0], "features").shape[1])

    def _part(self, video: str, name: str) -> h5py.Dataset:
        if name not in self._data[video]:
            raise Unsuitable(f"{self.path} '{video}' has no '{name}'; it has {', '.join(self._data[video]) or 'nothing'}")
        return h5_array(f"{self.path} '{video}' {name}", self._data[video][name])


def within(intervals: Array, start: float, end: float) -> slice:
    """The rows whose middle is in `[start, end)`. The intervals have to be in order of time."""
    first, last = np.searchsorted(intervals.mean(axis=1), [start, end])
    return slice(int(first), int(last))


@dataclass(frozen=True)
class Aligned:
    """A sequence aligned to words, indexed like an array `[N, length, F]` and read from disk. Each word has the mean of the rows whose
    middle is in its time, or zeros if there are none. Segment i has the words in rows `segments[i][1]` of video `segments[i][0]`."""

    sequence: ComputationalSequence
    words: ComputationalSequence
    segments: Sequence[tuple[str, slice]]
    length: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.segments), self.length, self.sequence.width

    def __getitem__(self, rows: Array) -> Array:
        return np.stack([padded(self._segment(*self.segments[row]), self.length) for row in rows])

    def _segment(self, video: str, words: slice) -> Array:
        if self.sequence is self.words:
            return self.sequence.features(video, words)
        times = self.words.intervals(video)[words]
        middles = self.sequence.intervals(video).mean(axis=1)
        first, last = np.searchsorted(middles, times[:, 0]), np.searchsorted(middles, times[:, 1])
        begin, end = int(first.min()), int(last.max())
        found = self.sequence.features(video, slice(begin, end)).astype(np.float64)
        totals = np.vstack([np.zeros(found.shape[1]), np.where(np.isfinite(found), found, 0).cumsum(axis=0)])
        sums: Array = totals[last - begin] - totals[first - begin]
        means: Array = sums / np.maximum(last - first, 1)[:, None]
        return means
