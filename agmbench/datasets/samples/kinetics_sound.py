"""Random packs of Kinetics-Sounds: 31 clips for training and 8 for test."""

from pathlib import Path

import numpy as np

from agmbench.datasets.clips import Clip
from agmbench.datasets.files import Layout
from agmbench.datasets.kinetics_sound import BANDS, CLASSES, FRAMES, LISTS, Prepared
from agmbench.datasets.samples.clips import write_prepared
from agmbench.datasets.samples.noise import write_picture, write_sound

TRAIN, TEST = 31, 8


def ogm_ge(layout: Layout, root: Path) -> None:
    """Write the lists, four pictures per clip, and sounds, every other one as a filterbank."""
    draw = np.random.default_rng(0)
    for part, count in (("train", TRAIN), ("test", TEST)):
        clips = []
        for number in range(count):
            letters = "".join(draw.choice(list("abcdefghijkXYZ0123_-"), 11).tolist())
            clips.append(f"{letters}_{number:06}_{number + 10:06}" if part == "train" else f"{letters}_{number}")
            _write_clip(root, clips[-1], draw, as_bands=number % 2 == 0)
        (root / LISTS[part]).write_text("".join(f"{clip},10,{number % len(CLASSES)}\n" for number, clip in enumerate(clips)))


def _write_clip(root: Path, name: str, draw: np.random.Generator, as_bands: bool) -> None:
    if as_bands:
        (root / "audio").mkdir(parents=True, exist_ok=True)
        np.save(root / "audio" / f"{name}.npy", draw.normal(size=(FRAMES, BANDS)).astype(np.float32))
    else:
        write_sound(root / "audio" / f"{name}.wav", draw, seconds=0.3)
    for frame in range(1, 5):
        write_picture(root / "visual" / name / f"frame_{frame:05}.jpg", draw)


def prepared(layout: Prepared, root: Path) -> None:
    """Write a prepared folder."""
    every = [Clip(f"{number:011}_0", number % len(CLASSES)) for number in range(TRAIN + TEST)]
    write_prepared(layout, {"train": every[:TRAIN], "test": every[TRAIN:]}, root)
