"""CMU-MOSEI in the form of the CMU-MultimodalSDK: computational sequences, aligned with words at each reading, or once by `prepare`."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from agmbench.contracts import Unsuitable
from agmbench.datasets import prepared
from agmbench.datasets.arrays import Array, check_shape
from agmbench.datasets.checksums import checksum
from agmbench.datasets.csd import Aligned, ComputationalSequence, within
from agmbench.datasets.files import Held, Layout, Progress, found
from agmbench.datasets.mosei_labels import KINDS, Kind, as_targets
from agmbench.datasets.sequences import PARTS, Part, finite, held
from agmbench.datasets.stored import Stored
from agmbench.datasets.untrusted import regular

NAME = "mosei"
FILES: Mapping[str, str] = {
    "text": "CMU_MOSEI_TimestampedWordVectors.csd",
    "audio": "CMU_MOSEI_COVAREP.csd",
    "vision": "CMU_MOSEI_Visual*.csd",
}
LABELS, SEGMENTS = "CMU_MOSEI_Labels.csd", "CMU_MOSEI_Labels.csv"


class Segment(NamedTuple):
    """A line of `CMU_MOSEI_Labels.csv`: segment `number` of a `video`, its times in seconds, and its part (train, valid or test)."""

    video: str
    number: str
    start: float
    end: float
    part: str


def read_segments(path: Path) -> list[Segment]:
    """Read the segments that belong to a part. In the file, split 0 is train, 1 valid, 2 test, and 3 none."""
    regular(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        return [
            Segment(row["file"], row["index"], float(row["start"]), float(row["end"]), PARTS[int(row["split"])])
            for row in rows
            if row["split"] != "3"
        ]
    except (KeyError, IndexError, TypeError, ValueError, csv.Error) as error:
        said = " ".join(str(error).split())
        raise Unsuitable(f"{path} should have columns file, index, start, end and split (0 to 3); found {said}") from error


class Spoken(NamedTuple):
    """A segment that has words, which are the rows `words` of its video. `labels` `[7]` are its sentiment and its emotions."""

    id: str
    video: str
    words: slice
    labels: Array

    @property
    def length(self) -> int:
        return int(self.words.stop - self.words.start)


class Recordings:
    """The SDK's files below a folder, and the segments of each part that have words and labels. Of each segment, only the first `length`
    words are kept."""

    def __init__(self, root: Path, length: int) -> None:
        self.length = length
        self.paths = {modality: next(iter(sorted(root.glob(name)))) for modality, name in FILES.items()}
        self.sequences = {modality: ComputationalSequence(path) for modality, path in self.paths.items()}
        self.files = [*self.paths.values(), root / LABELS, root / SEGMENTS]
        self._labels = ComputationalSequence(root / LABELS)
        check_shape(f"{root / LABELS} features", (0, self._labels.width), (None, 7))
        listed = read_segments(root / SEGMENTS)
        self.parts: dict[str, list[Spoken]] = {part: [] for part in PARTS}
        self._times: dict[str, tuple[Array, Array]] = {}
        for segment in listed:
            if (spoken := self._spoken(segment)) is not None:
                self.parts[segment.part].append(spoken)
        self.dropped = len(listed) - sum(map(len, self.parts.values()))

    def _spoken(self, segment: Segment) -> Spoken | None:
        if not all(segment.video in sequence for sequence in (*self.sequences.values(), self._labels)):
            return None
        times, judged = self._intervals(segment.video)
        rows = within(times, segment.start, segment.end)
        match = np.flatnonzero(np.abs(judged - [segment.start, segment.end]).max(axis=1) < 0.01)
        if rows.stop == rows.start or not len(match):
            return None
        labels = self._labels.features(segment.video, slice(match[0], match[0] + 1))[0]
        kept = slice(rows.start, min(rows.stop, rows.start + self.length))
        return Spoken(f"{segment.video}[{segment.number}]", segment.video, kept, labels)

    def _intervals(self, video: str) -> tuple[Array, Array]:
        """The times of the words and of the labels of a video. Those of the last video are cached, because the segments of a video follow
        one another."""
        if video not in self._times:
            for sequence in (*self.sequences.values(), self._labels):
                sequence.check(video)
            self._times = {video: (self.sequences["text"].intervals(video), self._labels.intervals(video))}
        return self._times[video]


class CSD(Layout):
    """Computational sequences of the CMU-MultimodalSDK, aligned with words each time they are read, and a list with the split of each
    segment."""

    name = "csd"
    signs: ClassVar[tuple[str, ...]] = (*FILES.values(), LABELS, SEGMENTS)
    sampler = "agmbench.datasets.samples.mosei:csd"

    def read(self, root: Path, **options: Any) -> Held:
        recordings = Recordings(root, options["length"])
        words, parts = recordings.sequences["text"], {}
        for part, some in recordings.parts.items():
            places, lengths = [(spoken.video, spoken.words) for spoken in some], np.array([spoken.length for spoken in some])
            inputs = {
                m: Stored(Aligned(sequence, words, places, recordings.length), finite, lengths)
                for m, sequence in recordings.sequences.items()
            }
            labels = np.array([spoken.labels for spoken in some]).reshape(-1, 7)
            parts[part] = _part(inputs, labels, [spoken.id for spoken in some], options["kind"], str(root / LABELS))
        sizes = {m: (recordings.length, sequence.width) for m, sequence in recordings.sequences.items()}
        return held(parts, sizes, recordings.files, options["protocol"], KINDS, _notes(recordings.dropped))


class Prepared(Layout):
    """Sequences that `prepare` has aligned once, as arrays mapped from disk."""

    name = "prepared"
    signs = (f"prepared-*/{prepared.MANIFEST}",)
    sampler = "agmbench.datasets.samples.mosei:prepared"

    def read(self, root: Path, **options: Any) -> Held:
        made = prepared.read(root, NAME, {"length": options["length"]})
        parts = {}
        for part in PARTS:
            lengths = made.array(part, "length")
            arrays = {modality: made.array(part, modality) for modality in FILES}
            inputs = {modality: Stored(array, finite, lengths) for modality, array in arrays.items()}
            where = f"{made.folder / part}/labels.npy"
            labels = np.array(made.array(part, "labels"))
            parts[part] = _part(inputs, labels, made.manifest["facts"]["ids"][part], options["kind"], where)
        sizes = {modality: array.shape[1:] for modality, array in arrays.items()}
        notes = _notes(made.manifest["facts"]["dropped"])
        return replace(held(parts, sizes, made.files, options["protocol"], KINDS, notes), checksums=made.checksums)


def prepare(source: Path, target: Path, progress: Progress, jobs: int, length: int) -> None:
    """Turn the sequences below `source` into arrays below `target`, with `length` words per segment."""
    found(NAME, source, [CSD()])
    recordings = Recordings(source, length)
    store = prepared.Store(target, _plan(recordings))
    if not store.whole:
        items = [
            (part, row, (recordings.paths, length, spoken))
            for part, some in recordings.parts.items()
            for row, spoken in enumerate(some)
        ]
        prepared.fill(store, items, _aligned, progress, jobs)


def _plan(recordings: Recordings) -> prepared.Plan:
    length, parts = recordings.length, recordings.parts
    widths = {modality: sequence.width for modality, sequence in recordings.sequences.items()}
    arrays = {
        part: {
            **{modality: ((len(some), length, width), "float32") for modality, width in widths.items()},
            "length": ((len(some),), "int64"),
            "labels": ((len(some), 7), "float32"),
        }
        for part, some in parts.items()
    }
    ids = {part: [spoken.id for spoken in some] for part, some in parts.items()}
    sources = {path.name: checksum(path) for path in recordings.files}
    return prepared.Plan(NAME, {"length": length}, sources, arrays, {"ids": ids, "dropped": recordings.dropped})


def _aligned(what: tuple[Mapping[str, Path], int, Spoken]) -> dict[str, Array]:
    paths, length, spoken = what
    sequences = {modality: _opened(path, path.stat().st_mtime_ns) for modality, path in paths.items()}
    places = [(spoken.video, spoken.words)]
    aligned = {m: Aligned(sequence, sequences["text"], places, length)[np.array([0])][0] for m, sequence in sequences.items()}
    return {**aligned, "length": np.asarray(spoken.length), "labels": spoken.labels}


@lru_cache(len(FILES))
def _opened(path: Path, changed: int) -> ComputationalSequence:
    """Open a file. A process opens each file only once, unless it has changed."""
    return ComputationalSequence(path)


def _part(inputs: Mapping[str, Stored], labels: Array, ids: Sequence[str], kind: Kind, where: str) -> Part:
    targets = as_targets(kind, labels[:, 1:] if kind == "emotions" else labels[:, :1], where)
    return Part(inputs, targets, np.arange(len(targets)), ids)


def _notes(dropped: int) -> list[str]:
    return [f"dropped segments without words or labels: {dropped}"] if dropped else []
