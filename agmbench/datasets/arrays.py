"""Arrays of numbers: what is expected of their shapes, and rows of them wherever they are."""

from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from agmbench.contracts import Unsuitable

Array = NDArray[Any]


def check_shape(what: str, found: Sequence[int], expected: Sequence[int | None]) -> None:
    """Raise unless a shape is as expected, `None` standing for any length."""
    if len(found) != len(expected) or any(b is not None and a != b for a, b in zip(found, expected, strict=True)):
        shown = ", ".join("N" if length is None else str(length) for length in expected)
        raise Unsuitable(f"{what} has the shape {list(found)}; expected [{shown}]")


def check_lengths(lengths: Mapping[str, int]) -> None:
    """Raise unless all are equal; the keys say what has that length."""
    if len(set(lengths.values())) > 1:
        raise Unsuitable("lengths disagree: " + ", ".join(f"{what} has {length}" for what, length in lengths.items()))


def check_labels(what: str, labels: Array, classes: int) -> None:
    """Raise unless all are class numbers."""
    labels = np.asarray(labels)
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise Unsuitable(f"{what} has the label {wrong.flat[0]}; expected 0 to {classes - 1}")


def take(array: Any, rows: Array) -> Array:
    """Rows of an array in any order; HDF5 itself takes rising ones alone."""
    if not isinstance(array, h5py.Dataset):
        return np.ascontiguousarray(array[rows])
    rising, back = np.unique(rows, return_inverse=True)
    taken: Array = array[rising][back]
    return taken
