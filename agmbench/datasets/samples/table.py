"""A random table of forty rows: a picture, three numbers, a label and a split."""

from pathlib import Path

import numpy as np
from PIL import Image

from agmbench.datasets.files import Layout
from agmbench.datasets.table import FILE


def files(layout: Layout, root: Path) -> None:
    """Write `table.csv` and the pictures that it names."""
    draw = np.random.default_rng(0)
    (root / "pictures").mkdir(parents=True)
    lines = ["picture,sensor_a,sensor_b,sensor_c,label,split"]
    for number in range(40):
        pixels = draw.integers(0, 256, (12, 12), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "pictures" / f"{number}.png")
        numbers = ",".join(f"{value:.3f}" for value in draw.normal(size=3))
        part = ("train", "train", "train", "valid", "test", "dev")[number // 2 % 6]
        lines.append(f"pictures/{number}.png,{numbers},{('no', 'yes')[number % 2]},{part}")
    (root / FILE).write_text("\n".join(lines) + "\n")
