"""Reads the array that a cell of a table names or contains: a file of NumPy, torch or HDF5, a row of one, or a list of numbers."""

import re
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agmbench.contracts import Unsuitable
from agmbench.datasets.arrays import Array
from agmbench.datasets.untrusted import h5_array, h5_file, load_npy, regular

WITHIN = (list, tuple, np.ndarray, bytes)  # types of cells that contain the data themselves instead of the name of a file
warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)  # torch warns before it refuses such a file anyway
ARRAY = re.compile(r"(.*?\.(npy|npz|pt|pth|h5|hdf5))(?::(.+))?", re.IGNORECASE | re.DOTALL)


def numbers_of(cell: Any) -> Array:
    """The numbers in a cell, which may be nested lists of equal length. Raises `Unsuitable` if they are not."""
    try:
        return _numbers(np.array([numbers_of(part) for part in cell]) if isinstance(cell[0], WITHIN) else np.asarray(cell))
    except (IndexError, ValueError) as error:
        raise Unsuitable(f"{cell!r:.100} is not an array of numbers") from error


def array_cell(cell: str) -> tuple[str, list[str]]:
    """The file and the keys of a cell such as `features.h5:audio:17`."""
    found = ARRAY.fullmatch(cell.strip())
    if not found:
        raise Unsuitable(f"'{cell}' does not name an array; expected .npy, .npz:key, .pt, .h5:key")
    return found[1], found[3].split(":") if found[3] else []


def _has_names(content: Any) -> bool:
    return isinstance(content, dict) or hasattr(content, "keys")


def _within(content: Any, key: str, path: Path) -> Any:
    """The entry of a file's content with this name, or its row of this number. Raises `Unsuitable` if there is none."""
    if _has_names(content):
        if key not in content:
            raise Unsuitable(f"{path} has no key '{key}'; it has {', '.join(map(str, content)) or 'none'}")
        return content[key]
    if not (key.isdecimal() and int(key) < len(content)):
        raise Unsuitable(f"{path} has no row '{key}'; it has {len(content)}")
    return content[int(key)]


def read_array(path: Path, keys: Sequence[str]) -> Array:
    """Read an array of a file. Each key is a name in the content so far or, if that is an array, the number of a row."""
    array: Any = _file(path, regular(path).stat().st_mtime_ns)
    for key in keys:
        array = _within(array, key, path)
    if _has_names(array):
        names = list(array)
        if len(names) != 1:
            raise Unsuitable(
                f"{path} holds {', '.join(map(str, names)) or 'nothing'}; say which, as in {path.name}:{(names or ['key'])[0]}"
            )
        array = array[names[0]]
    if path.suffix.lower() in (".h5", ".hdf5") and hasattr(array, "external"):
        array = h5_array(str(path), array)[()]
    return _numbers(array.detach().numpy() if isinstance(array, Tensor) else np.asarray(array), path)


def _numbers(array: Array, path: Path | str = "the cell") -> Array:
    if array.dtype.kind not in "fiub" or not array.ndim:
        raise Unsuitable(f"{path} holds {array.dtype} of shape {list(array.shape)}; expected an array of numbers")
    return array


@lru_cache(maxsize=64)
def _file(path: Path, changed: int) -> Any:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return load_npy(path)
    if suffix in (".h5", ".hdf5"):
        return h5_file(path)
    try:
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # numpy and torch raise what they like on a broken file
        said = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
        raise Unsuitable(f"{path} cannot be read as {'arrays' if suffix == '.npz' else 'tensors'}: {said[:200]}") from error
