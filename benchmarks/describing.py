"""Measures how long `agmbench data describe` takes for a csv of a million rows and seven columns, one of paths and one of text.

python benchmarks/describing.py [ROWS]
"""

import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

FILES = 1000  # number of pictures that the paths name
WORDS = np.array(["red", "green", "blue", "dog", "cat", "runs", "sleeps", "over", "under"])


def table(folder: Path, rows: int) -> Path:
    """Write the table and the pictures that it names, and return the path of the table."""
    draw, places = np.random.default_rng(0), np.arange(rows)
    (folder / "png").mkdir()
    for number in range(FILES):
        Image.fromarray(draw.integers(0, 256, (12, 12), dtype=np.uint8)).save(folder / "png" / f"{number}.png")
    columns: dict[str, Any] = {"picture": [f"png/{place % FILES}.png" for place in places]}
    columns |= {"said": [" ".join(words) for words in WORDS[draw.integers(0, len(WORDS), (rows, 5))]]}
    columns |= {f"x_{place}": draw.normal(size=rows).round(3) for place in range(2)}
    columns |= {"speaker": draw.integers(0, 5000, rows), "id": places, "label": np.array(list("abcde"))[places % 5]}
    pd.DataFrame(columns).to_csv(folder / "big.csv", index=False)
    return folder / "big.csv"


def main(rows: int) -> None:
    with TemporaryDirectory() as name:
        path = table(Path(name), rows)
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "agmbench", "data", "describe", str(path)], check=True, stdout=subprocess.DEVNULL)
        took, used = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            f"{rows:,} rows: {took:.1f} s, of the processor {used.ru_utime + used.ru_stime:.1f} s, {used.ru_maxrss / 1e6:.1f} GB at most"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
