"""Makes the arrays that a pickle describes, if the file really contains their data."""

import re
import sys
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agmbench.datasets.pickles.values import shown

Array = NDArray[Any]

DIMENSIONS = 64
PLAIN = re.compile(r"[biufcSU][1-9]\d{0,9}")
OBJECTS = re.compile(r"O[48]?")


class DType:
    """The type of the elements of an array, given by the arguments of `numpy.dtype` and its state. Raises `ValueError` for other types than
    numbers, bool, text of fixed width and objects."""

    def __init__(self, text: Any) -> None:
        if not isinstance(text, str) or not (PLAIN.fullmatch(text) or OBJECTS.fullmatch(text)):
            raise ValueError(f"it has an array of the type {shown(text)}; expected numbers, bool or text of fixed width")
        self.text, self.order = text, "="

    def set(self, state: Any) -> None:
        """Take the byte order from a state. Raises `ValueError` if the state also has fields or subarrays."""
        if type(state) is not tuple or len(state) < 5 or state[1] not in ("<", ">", "|", "=") or any(state[2:5]):
            raise ValueError("it has an array of fields; expected numbers, bool or text of fixed width")
        self.order = state[1]

    @property
    def objects(self) -> bool:
        return self.text[0] == "O"

    def plain(self) -> np.dtype[Any]:
        """The type as numpy's own. Raises `ValueError` for objects, whose elements would be pointers."""
        if self.objects:
            raise ValueError("it has an object where a number or text is due")
        return np.dtype(self.order + self.text)


class Arrays:
    """Makes the arrays of a file of `size` bytes; none may be larger than the file."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._blank: dict[int, Array] = {}  # arrays without contents yet, by `id`

    def blank(self) -> Array:
        """A new array without contents, which `fill` will add."""
        array = np.empty(0, dtype=np.int8)
        self._blank[id(array)] = array
        return array

    def waits(self, thing: Any) -> bool:
        """Whether `thing` is an array that is still without its contents."""
        return id(thing) in self._blank

    def fill(self, array: Array, version: Any, shape: Any, dtype: Any, fortran: Any, raw: Any) -> None:
        """Give a blank array its contents. It stays the same object, because other values may refer to it already."""
        plain: Any
        if isinstance(dtype, DType) and dtype.objects:
            held, plain = self._objects(raw, shape), np.dtype(object)
        else:
            raw, plain = self.contents(raw, dtype, shape)
            held = bytes(raw)
        state: Any = (1, shape, plain, bool(fortran), held)
        array.__setstate__(state)
        del self._blank[id(array)]

    def _objects(self, items: Any, shape: Any) -> Any:
        """The elements of an array of objects. Raises `ValueError` if their number does not fit the shape, or if an element is itself such
        an array."""
        if type(items) is not list or len(items) != self._count(shape):
            raise ValueError("it has an array of objects that are not as many as its shape says")
        if any(type(item) is np.ndarray and (item.dtype == object or self.waits(item)) for item in items):
            raise ValueError("it has an array of objects in another")  # numpy frees nested ones recursively, on the C stack
        return items

    def contents(self, raw: Any, dtype: Any, shape: Any) -> tuple[bytes | bytearray, np.dtype[Any]]:
        """The bytes of an array and their type. Raises `ValueError` if the number of bytes does not fit the shape and the type."""
        if not isinstance(dtype, DType):
            raise ValueError("it has an array without a type")
        plain, count, raw = dtype.plain(), self._count(shape), raw_bytes(raw)
        if plain.itemsize > self._size or count * plain.itemsize != len(raw):
            raise ValueError(f"it has {len(raw)} bytes for an array of the shape {list(shape)} and type {plain}")
        if plain.kind == "b":
            raw = (np.frombuffer(raw, np.uint8) != 0).tobytes()  # numpy relies on bools being 0 or 1
        if (
            plain.kind == "U"
            and np.frombuffer(raw, np.dtype("u4").newbyteorder(plain.byteorder)).max(initial=0) > sys.maxunicode
        ):
            raise ValueError("it has text of letters that there are not")
        return raw, plain

    def _count(self, shape: Any) -> int:
        """The number of elements of an array. Raises `ValueError` if it exceeds the size of the file, not counting empty dimensions."""
        if type(shape) is not tuple or len(shape) > DIMENSIONS or any(type(n) is not int or n < 0 for n in shape):
            raise ValueError("it has an array of a shape that is none")
        if prod(max(n, 1) for n in shape) > self._size:
            raise ValueError(f"it has an array of the shape {list(shape)} in {self._size} bytes")
        return prod(shape)


def raw_bytes(raw: Any) -> bytes | bytearray:
    """The bytes of a value, which Python 2 wrote as text."""
    if isinstance(raw, str):
        return raw.encode("latin1")
    if not isinstance(raw, bytes | bytearray):
        raise ValueError(f"it has a value of type {type(raw).__name__} where bytes are due")
    return raw
