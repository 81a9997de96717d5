"""Random packs of CREMA-D: eight actors with one clip in each of the six emotions."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from agmbench.datasets.clips import Clip
from agmbench.datasets.cremad import CLASSES, Prepared, Raw
from agmbench.datasets.samples.clips import write_prepared
from agmbench.datasets.samples.noise import write_picture, write_sound, write_video

ACTORS = range(1001, 1009)
SAID = tuple(zip(CLASSES, ("DFA", "IEO", "ITH", "IWW", "MTI", "TIE"), strict=True))
LISTED = 8  # number of clips in each list except the first, which has all others


def images(layout: Raw, root: Path) -> None:
    """Write sounds, three pictures per clip, and the layout's lists."""

    def write(name: str, draw: np.random.Generator) -> None:
        for frame in (0, 30, 60):
            write_picture(root / "Image-01-FPS" / name / f"{frame:05d}.jpg", draw)

    _write(layout, root, write)


def videos(layout: Raw, root: Path) -> None:
    """Write sounds, videos of a fifth of a second, and the layout's lists."""
    _write(layout, root, lambda name, draw: write_video(root / "VideoFlash" / f"{name}.flv", draw, seconds=0.2))


def _write(layout: Raw, root: Path, write_pictures: Callable[[str, np.random.Generator], None]) -> None:
    draw = np.random.default_rng(0)
    names = [f"{actor}_{sentence}_{emotion}_XX" for actor in ACTORS for emotion, sentence in SAID]
    for name in names:
        write_sound(root / layout.sounds / f"{name}.wav", draw, seconds=0.3)
        write_pictures(name, draw)
    mixed = draw.permutation(names).tolist()
    for path in [*layout.lists.values()][:0:-1]:
        _write_list(root / path, mixed[:LISTED])
        mixed = mixed[LISTED:]
    _write_list(root / next(iter(layout.lists.values())), mixed)


def _write_list(path: Path, names: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{name},{name[9:12]}\n" for name in names))


def prepared(layout: Prepared, root: Path) -> None:
    """Write a prepared folder of 40 clips for training and 8 for test."""
    every = [Clip(f"{actor}_DFA_{emotion}_XX", n) for actor in ACTORS for n, emotion in enumerate(CLASSES)]
    write_prepared(layout, {"train": every[:40], "test": every[40:]}, root)
