"""Writes a random prepared folder of a data set of clips."""

from pathlib import Path

import numpy as np

from agmbench.datasets import prepared
from agmbench.datasets.arrays import Array
from agmbench.datasets.clips import Clips, Lists, Prepared, labelled
from agmbench.datasets.media import SIDE
from agmbench.datasets.samples import quiet


def write_prepared(layout: Prepared, lists: Lists, root: Path) -> None:
    """Write a folder with these clips, like one that `agmbench data prepare` makes."""
    draw, clips = np.random.default_rng(0), Clips(lists, None, None)
    items = layout.items(lists, ((int(draw.integers(2**31)), layout.sound, layout.frames) for _ in clips.all))
    prepared.fill(prepared.Store(root, layout.plan(clips, {}, layout.frames)), items, drawn, quiet, jobs=1)


def drawn(what: tuple[tuple[int, tuple[int, ...], int], int | None]) -> dict[str, Array]:
    """The arrays of a random clip."""
    (seed, sound, frames), label = what
    draw = np.random.default_rng(seed)
    pictures = draw.integers(0, 256, (frames, SIDE, SIDE, 3), dtype=np.uint8)
    return labelled({"audio": draw.normal(size=sound).astype(np.float32), "visual": pictures}, label)
