"""AVE's published features: HDF5 files with one segment per second, their labels, and labels that others published for the same clips."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch

from agmbench.contracts import Unsuitable
from agmbench.datasets.arrays import Array, check_lengths
from agmbench.datasets.ave_lists import BACKGROUND, FILES, SECONDS, Event, places_of, read_events, rows_of, segment_labels
from agmbench.datasets.files import Held, Layout
from agmbench.datasets.stored import Stored, StoredSplit
from agmbench.datasets.untrusted import open_h5

KEY = "avadataset"  # the name of the array in every feature and label file
AUDIO, VISUAL, ANNOTATIONS = "audio_feature.h5", "visual_feature.h5", "Annotations.txt"


class Features(Layout):
    """The published features in the order of Annotations.txt, with one segment per second. The visual file is 4.1 GB and stays on disk.

    Labels are read from right_labels.h5 or labels.h5, or made from Annotations.txt. If mil_labels.h5 or labels_closs.h5 exist, they must
    agree with them. Without Annotations.txt the videos of the clips are not known, and dev is cut by clips.
    """

    name = "features"
    signs = (AUDIO, VISUAL, "train_order.h5", "val_order.h5", "test_order.h5")
    sampler = "agmbench.datasets.samples.ave:features"

    def read(self, root: Path, **options: Any) -> Held:
        copy = _opened(root)
        if copy.events is None and options["splits"] != "official":
            raise Unsuitable(
                f"{root / ANNOTATIONS} is missing: without it no clip's video is known, so splits can only be 'official'"
            )
        names, inputs = copy.videos, {"audio": Stored(copy.audio), "visual": Stored(copy.visual)}
        parts, notes = places_of({listed: [names[row] for row in rows] for listed, rows in copy.orders.items()}, options)
        chosen = rows_of(parts, copy.orders)
        known = [] if copy.events is None else [root / ANNOTATIONS]
        return Held(
            splits={name: StoredSplit(inputs, torch.from_numpy(copy.labels[rows]), rows) for name, rows in chosen.items()},
            shapes={"audio": copy.audio.shape[1:], "visual": copy.visual.shape[1:]},
            files=[*(root / sign for sign in self.signs), copy.source, *known],
            groups={"video": {name: [names[row] for row in rows] for name, rows in chosen.items()}} if known else {},
            notes=[*copy.notes, *notes],
        )


class _Copy(NamedTuple):
    """The content of a folder. `labels` `[N, 10]` are class numbers from the file `source`; `events` is `None` without Annotations.txt."""

    audio: h5py.Dataset
    visual: h5py.Dataset
    source: Path
    labels: Array
    events: Sequence[Event] | None
    orders: dict[str, Array]

    @property
    def videos(self) -> list[str]:
        """The video of each clip. If the videos are not known, each clip counts as a video of its own."""
        return [str(row) for row in range(len(self.labels))] if self.events is None else [e.video for e in self.events]

    @property
    def notes(self) -> list[str]:
        """What a user should know about this copy."""
        made = [f"labels were made from {ANNOTATIONS}"] if self.source.name == ANNOTATIONS else []
        return [*made, *(["there is no Annotations.txt: no clip's video is known"] if self.events is None else [])]


def _opened(root: Path) -> _Copy:
    """Open the files of a folder. Raises `Unsuitable` if they do not agree with one another."""
    audio = open_h5(root / AUDIO, KEY, (None, SECONDS, 128))
    visual = open_h5(root / VISUAL, KEY, (None, SECONDS, 7, 7, 512))
    annotations = root / ANNOTATIONS
    events = read_events(annotations) if annotations.exists() else None
    source, labels = _labels(root, events)
    lengths = {str(root / AUDIO): len(audio), str(root / VISUAL): len(visual), str(source): len(labels)}
    if events is not None:
        lengths[str(annotations)] = len(events)
    check_lengths(lengths)
    _check(root, source, labels)
    return _Copy(audio, visual, source, labels, events, _orders(root, len(labels)))


def _labels(root: Path, events: Sequence[Event] | None) -> tuple[Path, Array]:
    """The file from which the labels come, and the class numbers `[N, 10]`."""
    for path in (root / "right_labels.h5", root / "labels.h5"):
        if path.exists():
            hot = _whole(path, (None, SECONDS, BACKGROUND + 1))
            if wrong := np.argwhere((hot.max(axis=2) != 1) | (hot.sum(axis=2) != 1)).tolist():
                clip, second = wrong[0]
                raise Unsuitable(f"{path} has no single class for second {second} of clip {clip}; expected one 1 and else 0")
            return path, hot.argmax(axis=2).astype(np.int64)
    if not events:
        raise Unsuitable(f"{root} has no labels: expected right_labels.h5, labels.h5 or {ANNOTATIONS}")
    return root / ANNOTATIONS, segment_labels(events)


def _check(root: Path, source: Path, labels: Array) -> None:
    """Raise `Unsuitable` if a file of others' labels disagrees with `labels`."""
    for path, unlike in _unlike(root, labels):
        if unlike.any():
            where = f"{unlike.sum()} clips, the first {np.flatnonzero(unlike)[0]}"
            advice = "" if source.name == ANNOTATIONS else f"; without it labels are made from {ANNOTATIONS}"
            raise Unsuitable(f"{source} disagrees with {path.name} on {where}{advice}")


def _unlike(root: Path, labels: Array) -> list[tuple[Path, Array]]:
    """Each file with others' labels, and which clips have different labels there, `[N]`."""
    found, present = [], labels != BACKGROUND  # [N, 10]
    if (path := root / "labels_closs.h5").exists():
        foreground = _whole(path, (len(labels), SECONDS)) > 0
        found.append((path, (foreground != present).any(axis=1)))
    if (path := root / "mil_labels.h5").exists():
        kinds = _whole(path, (len(labels), BACKGROUND + 1)).argmax(axis=1)
        found.append((path, (present & (labels != kinds[:, None])).any(axis=1)))
    return found


def _orders(root: Path, count: int) -> dict[str, Array]:
    """The rows of each list. Raises `Unsuitable` if a row is not below `count` or occurs twice in the lists."""
    orders: dict[str, Array] = {}
    seen: dict[int, str] = {}
    for listed, name in FILES.items():
        path = root / f"{name}_order.h5"
        orders[listed] = _whole(path, (None,), "order").astype(np.int64)
        for row in orders[listed].tolist():
            if not 0 <= row < count:
                raise Unsuitable(f"{path} 'order' has the clip {row}; expected 0 to {count - 1}")
            if row in seen:
                raise Unsuitable(f"{path} 'order' has the clip {row}, which is in {seen[row]} too; expected each clip once")
            seen[row] = path.name
    return orders


def _whole(path: Path, shape: tuple[int | None, ...], key: str = KEY) -> Array:
    """A small array of an HDF5 file, read completely."""
    values: Array = open_h5(path, key, shape)[:]
    return values
