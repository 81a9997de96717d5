"""Writes random packs of the data sets on disk, one data set per file: with real names, keys, types and shapes of a sample, but random
numbers.

A layout names its function here (`Layout.sampler`). The function takes the layout and the folder to write into, and writes the same at
every call.
"""

import pickle
from pathlib import Path
from typing import Any


def write_pickle(path: Path, content: Any) -> None:
    """Write a pickle, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))


def quiet(done: int, total: int) -> None:
    """A progress function that shows nothing."""
