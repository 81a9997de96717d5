"""Random packs of the data sets on disk, one data set a file: true names, keys, shapes of a sample and types, no data.

A layout names its function here (`Layout.sampler`), which takes the layout and the folder to write into, and writes the same at every
call.
"""

import pickle
from pathlib import Path
from typing import Any


def write_pickle(path: Path, content: Any) -> None:
    """A pickle, and the folder that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))


def quiet(done: int, total: int) -> None:
    """The progress of a preparation that nobody watches."""
