"""Random packs of AVE: twelve clips in the layout `features`, eight in the other layouts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from agmbench.datasets.ave import SPECTROGRAM, Prepared, named
from agmbench.datasets.ave_features import ANNOTATIONS, KEY
from agmbench.datasets.ave_lists import BACKGROUND, EVENTS, FILES, SECONDS, Event, segment_labels
from agmbench.datasets.files import Layout
from agmbench.datasets.samples.clips import write_prepared
from agmbench.datasets.samples.noise import write_clip, write_picture


def features(layout: Layout, root: Path) -> None:
    """Write random features, with labels and annotations that agree."""
    draw = np.random.default_rng(0)
    events = _events(12)
    parts = np.split(draw.permutation(12), [8, 10])
    contents = {
        "audio_feature": (KEY, draw.random((12, SECONDS, 128), dtype=np.float32)),
        "visual_feature": (KEY, draw.random((12, SECONDS, 7, 7, 512), dtype=np.float32)),
        "labels": (KEY, np.eye(BACKGROUND + 1, dtype=np.float32)[segment_labels(events)]),
        **{f"{FILES[listed]}_order": ("order", rows) for listed, rows in zip(FILES, parts, strict=True)},
    }
    for name, (key, values) in contents.items():
        with h5py.File(root / f"{name}.h5", "w") as file:
            file[key] = values
    _write_events(root / ANNOTATIONS, events)


def prepared(layout: Prepared, root: Path) -> None:
    """Write a prepared folder."""
    write_prepared(layout, named(_lists()), root)


def clip(layout: Layout, root: Path) -> None:
    """Write a spectrogram and ten pictures per clip."""
    draw, lists = np.random.default_rng(0), _lists()
    _write_lists(root, lists)
    (root / "Audio-1004-SE").mkdir()
    for event in _all(lists):
        heard = draw.normal(-8, 2, SPECTROGRAM).astype(np.float32)
        (root / "Audio-1004-SE" / f"{event.video}.pkl").write_bytes(heard.dumps())
        for number in range(SECONDS):
            write_picture(root / "Image-01-FPS-SE" / event.video / f"{number:05d}.jpg", draw)


def official(layout: Layout, root: Path) -> None:
    """Write AVE_Dataset with short random clips."""
    draw, lists, raw = np.random.default_rng(0), _lists(), root / "AVE_Dataset"
    (raw / "AVE").mkdir(parents=True)
    _write_lists(raw, lists)
    _write_events(raw / ANNOTATIONS, _all(lists))
    for event in _all(lists):
        write_clip(raw / "AVE" / f"{event.video}.mp4", draw)


def _events(count: int) -> list[Event]:
    return [Event(number % 4, f"sample-{number:04d}", number % 3, SECONDS - number % 4) for number in range(count)]


def _lists() -> dict[str, list[Event]]:
    events = _events(8)
    return {"train": events[:4], "valid": events[4:6], "test": events[6:]}


def _all(lists: Mapping[str, Sequence[Event]]) -> list[Event]:
    return [event for events in lists.values() for event in events]


def _write_events(path: Path, events: Sequence[Event]) -> None:
    path.write_text("".join(f"{EVENTS[e.kind]}&{e.video}&good&{e.start}&{e.end}\n" for e in events))


def _write_lists(root: Path, lists: Mapping[str, Sequence[Event]]) -> None:
    for split, events in lists.items():
        _write_events(root / f"{FILES[split]}Set.txt", events)
