"""Random packs of AV-MNIST: 60 samples for training and 20 for test."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile

from agmbench.datasets.avmnist_raw import CLASSES, IDX, SIZE, build
from agmbench.datasets.files import Layout
from agmbench.datasets.samples import quiet

COUNTS = {"train": 60, "test": 20}


def pack(layout: Layout, root: Path) -> None:
    """Write the six arrays of MultiBench's pack."""
    random = np.random.default_rng(0)
    for folder in ("image", "audio"):
        (root / folder).mkdir(parents=True)
    for part, count in COUNTS.items():
        np.save(root / "image" / f"{part}_data.npy", random.uniform(-60, 200, (count, 784)))
        np.save(root / "audio" / f"{part}_data.npy", random.integers(0, 256, (count, SIZE, SIZE), dtype=np.uint8))
        np.save(root / f"{part}_labels.npy", (np.arange(count) % CLASSES).astype(np.uint8))


def prepared(layout: Layout, root: Path) -> None:
    """Write a folder that is prepared from random raw files."""
    with TemporaryDirectory() as source:
        write_raw(Path(source))
        build(Path(source), root, quiet, 1)


def write_raw(source: Path) -> None:
    """Write tiny random raw files below `source`: 60 and 20 images in IDX files, and two takes of each digit by one of the speakers."""
    random: Any = np.random.default_rng(0)
    (source / "mnist").mkdir(parents=True)
    for part, count in COUNTS.items():
        lengths = [np.array(shape, ">u4").tobytes() for shape in ((count, 28, 28), (count,))]
        pixels = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        images, targets = (source / "mnist" / name for name in IDX[part])
        images.write_bytes(bytes([0, 0, 8, 3]) + lengths[0] + pixels.tobytes())
        targets.write_bytes(bytes([0, 0, 8, 1]) + lengths[1] + bytes(n % CLASSES for n in range(count)))
    (source / "fsdd" / "recordings").mkdir(parents=True)
    for digit in range(CLASSES):
        for take in (0, 40):
            path = source / "fsdd" / "recordings" / f"{digit}_theo_{take}.wav"
            soundfile.write(path, random.normal(0, 0.1, 1200 + 100 * digit), 8000, subtype="PCM_16")
