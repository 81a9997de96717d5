"""Opens files from untrusted sources: only regular files, whose content cannot run code and cannot refer to another file.

If something is wrong, `Unsuitable` is raised with one line that names the file, what was found and what was expected.
"""

import stat
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from agmbench.contracts import Unsuitable
from agmbench.datasets import pickles
from agmbench.datasets.arrays import Array, check_shape

KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def regular(path: Path) -> Path:
    """Return the path if it is that of a regular file, else raise `Unsuitable`. Reading a pipe could wait forever, and a device may never
    end."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise Unsuitable(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise Unsuitable(f"{path} cannot be read: {_said(error)}") from error
    if not stat.S_ISREG(mode):
        raise Unsuitable(f"{path} cannot be read: it is {KINDS.get(stat.S_IFMT(mode), 'a device')}; expected a file")
    return path


def load_pickle(path: Path) -> Any:
    """Read an untrusted pickle, which may contain only numpy arrays and builtin containers."""
    size = regular(path).stat().st_size
    try:
        with path.open("rb") as file:
            return pickles.read(file, size)
    except (Exception, SystemExit) as error:  # a broken pickle raises nearly anything
        raise Unsuitable(f"{path} cannot be read as a pickle: {_said(error)}") from error


def load_npy(path: Path, shape: tuple[int | None, ...] | None = None) -> Array:
    """Map an array from disk. Raises `Unsuitable` unless it has the expected `shape`, in which `None` stands for any length."""
    regular(path)
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        said = "it holds objects and no numbers, or is not a file of NumPy" if "pickle" in f"{error}" else _said(error)
        raise Unsuitable(f"{path} cannot be read as an array: {said}") from error
    if shape is not None:
        check_shape(str(path), array.shape, shape)
    return array


def h5_file(path: Path) -> h5py.File:
    """Open an HDF5 file for reading. Raises `Unsuitable` if it has a link to another file."""
    regular(path)
    try:
        file = h5py.File(path, "r")
        away = file.id.links.visit(_leads_away, info=True)
    except (OSError, RuntimeError) as error:
        raise Unsuitable(f"{path} cannot be read as HDF5: {_said(error)}") from error
    if away is not None:
        raise Unsuitable(f"{path} '{away.decode(errors='replace')}' is a link out of the file; expected the data themselves")
    return file


def _leads_away(name: bytes, link: Any) -> bytes | None:
    return None if link.type in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT) else name


def h5_array(where: str, found: Any) -> h5py.Dataset:
    """Return an array of HDF5 if its numbers are in its own file, else raise `Unsuitable`: only that file enters the fingerprint."""
    if not isinstance(found, h5py.Dataset):
        raise Unsuitable(f"{where} is of type {type(found).__name__}; expected an array")
    if found.external or found.is_virtual:
        raise Unsuitable(f"{where} keeps its numbers in another file; expected the data themselves")
    return found


def open_h5(path: Path, key: str, shape: tuple[int | None, ...] | None = None) -> h5py.Dataset:
    """Open one array of an HDF5 file. Its numbers are read from disk when it is indexed."""
    file = h5_file(path)
    if key not in file:
        raise Unsuitable(f"{path} has no key '{key}'; it has {', '.join(sorted(file)) or 'none'}")
    found = h5_array(f"{path} '{key}'", file[key])
    if shape is not None:
        check_shape(f"{path} '{key}'", found.shape, shape)
    return found


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
