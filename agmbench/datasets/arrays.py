"""Checks of the shapes of arrays, and reading of rows of an array in memory or on disk."""

from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from agmbench.contracts import Unsuitable

Array = NDArray[Any]


def check_shape(what: str, found: Sequence[int], expected: Sequence[int | None]) -> None:
    """Raise `Unsuitable` unless a shape is as expected; `None` stands for any length. `what` names the array in the message."""
    if len(found) != len(expected) or any(b is not None and a != b for a, b in zip(found, expected, strict=True)):
        shown = ", ".join("N" if length is None else str(length) for length in expected)
        raise Unsuitable(f"{what} has the shape {list(found)}; expected [{shown}]")


def check_lengths(lengths: Mapping[str, int]) -> None:
    """Raise `Unsuitable` unless all lengths are equal. The keys name what has each length, for the message."""
    if len(set(lengths.values())) > 1:
        raise Unsuitable("lengths disagree: " + ", ".join(f"{what} has {length}" for what, length in lengths.items()))


def check_labels(what: str, labels: Array, classes: int) -> None:
    """Raise `Unsuitable` unless all labels are class numbers, 0 to `classes - 1`."""
    labels = np.asarray(labels)
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise Unsuitable(f"{what} has the label {wrong.flat[0]}; expected 0 to {classes - 1}")


def take(array: Any, rows: Array) -> Array:
    """Rows of an array, in any order. HDF5 itself only accepts row numbers that rise, so they are sorted for it."""
    if not isinstance(array, h5py.Dataset):
        return np.ascontiguousarray(array[rows])
    rising, back = np.unique(rows, return_inverse=True)
    taken: Array = array[rising][back]
    return taken
