"""Strangers' pickles, read by a machine of our own that can do nothing but hold data.

A pickle is a program for a stack machine. Python's own calls whatever the program names, and numpy's constructors take its word for
what memory holds, so that a forged one runs code, ends the process or takes all memory. Here a name is one of the exact pairs
(module, name) of `CALLS` and what answers is a function of this file; there is no instruction that makes an object of a class or
sets its attributes. Nothing is made larger than the file because the file says so: not an array, not a memo, and not what is written
once and referred to many times.
"""

import codecs
import re
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from math import prod
from types import FunctionType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Call = Callable[..., Any]

TIMES, FLOOR = 16, 64 << 20  # what is held may be so many times the file's size in bytes, and this much in any case
LARGEST, DIMENSIONS = 2**64, 64
PLAIN = re.compile(r"[biufcSU][1-9]\d{0,9}")
OBJECTS = re.compile(r"O[48]?")
SCALARS = {str, bytes, int, float, bool, type(None)}
CONTAINERS = {list, tuple, dict, set, frozenset, np.ndarray}


def read(file: BinaryIO, size: int) -> Any:
    """What the pickle in a file of `size` bytes holds; raises an `Exception` if that is no data."""
    try:
        return _Machine(file, size).run()
    except (IndexError, TypeError) as error:  # of an empty stack, or a call with too many arguments
        raise ValueError("its instructions do not fit one another") from error


class _DType:
    """The type of an array's elements, as `numpy.dtype` and its state say it."""

    def __init__(self, text: Any) -> None:
        if not isinstance(text, str) or not (PLAIN.fullmatch(text) or OBJECTS.fullmatch(text)):
            raise ValueError(f"it has an array of the type {_shown(text)}; expected numbers, bool or text of fixed width")
        self.text, self.order = text, "="

    def set(self, state: Any) -> None:
        """Take the byte order of a state; fields and subarrays, which come with it too, are no plain numbers."""
        if type(state) is not tuple or len(state) < 5 or state[1] not in ("<", ">", "|", "=") or any(state[2:5]):
            raise ValueError("it has an array of fields; expected numbers, bool or text of fixed width")
        self.order = state[1]

    @property
    def objects(self) -> bool:
        return self.text[0] == "O"

    def plain(self) -> np.dtype[Any]:
        """As numpy's own; never one whose elements are pointers."""
        if self.objects:
            raise ValueError("it has an object where a number or text is due")
        return np.dtype(self.order + self.text)


class _Machine:
    """Reads one file, once."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._read, self._readline, self.size = file.read, file.readline, size
        self.most = TIMES * size + FLOOR
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}
        self.blank: dict[int, Array] = {}  # arrays that wait for their contents
        self.repeated, self.shared = 0, False

    def run(self) -> Any:
        """Follow the instructions to the end."""
        next_code, steps = self._read, STEPS
        while (code := next_code(1)) != b".":
            if code not in steps:
                raise ValueError(f"it has the instruction {code!r}, which data do not need" if code else "it is cut short")
            steps[code](self)
        found = self.stack.pop()
        if self.shared:
            _check_held(found, self.most)
        return found

    # what is in the file

    def take(self, count: int) -> bytes:
        data = self._read(count) if count <= self.size else b""
        if len(data) < count:
            raise ValueError("it is cut short")
        return data

    def number(self, width: int) -> int:
        """An unsigned number of so many bytes."""
        return int.from_bytes(self.take(width), "little")

    def sized(self, width: int) -> bytes:
        """Bytes after their number, which takes `width` bytes."""
        return self.take(self.number(width))

    def line(self) -> bytes:
        line = self._readline()
        if not line.endswith(b"\n"):
            raise ValueError("it is cut short")
        return line[:-1]

    # the stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        """What was pushed since the last mark."""
        items = self.stack
        self.stack = self.below.pop()
        return items

    def remember(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def recall(self, place: int) -> Any:
        if place not in self.memo:
            raise ValueError("it refers to what it has not said")
        return self.again(self.memo[place])

    def again(self, value: Any) -> Any:
        """A value that is referred to once more, for a few bytes of the file whatever its size."""
        if type(value) in CONTAINERS:
            self.shared = True  # it may not be complete yet: what is held is added up at the end
        else:
            self.repeated += _bytes(value)
            if self.repeated > self.most:
                raise ValueError(f"it holds more than {self.most} bytes, written once and repeated")
        return value

    # containers

    def append(self, items: Iterable[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError(f"it appends to what is of type {type(self.stack[-1]).__name__}")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not dict:
            raise ValueError(f"it sets items of what is of type {type(self.stack[-1]).__name__}")
        self.stack[-1].update(_pairs(items))

    def add(self, items: Iterable[Any]) -> None:
        if type(self.stack[-1]) is not set:
            raise ValueError(f"it adds to what is of type {type(self.stack[-1]).__name__}")
        self.stack[-1].update(map(_key, items))

    # names, calls and states

    def reduce(self) -> Any:
        given, call = self.pop(), self.pop()
        if type(call) is not FunctionType or type(given) is not tuple:  # no function but those of CALLS is ever on the stack
            raise ValueError(f"it calls what is of type {type(call).__name__}")
        return call(self, *given)

    def build(self) -> None:
        state, thing = self.pop(), self.stack[-1]
        if isinstance(thing, _DType):
            thing.set(state)
        elif id(thing) in self.blank:
            self.fill(thing, *state)
            del self.blank[id(thing)]
        else:
            raise ValueError(f"it sets the state of what is of type {type(thing).__name__}")

    def fill(self, array: Array, version: Any, shape: Any, dtype: Any, fortran: Any, raw: Any) -> None:
        """Give a blank array its contents. It is the same object as before, for others may refer to it already."""
        plain: Any
        if isinstance(dtype, _DType) and dtype.objects:
            plain = np.dtype(object)
            if type(raw) is not list or len(raw) != self.count(shape):
                raise ValueError("it has an array of objects that are not as many as its shape says")
            if any(type(item) is np.ndarray and (item.dtype == object or id(item) in self.blank) for item in raw):
                raise ValueError("it has an array of objects in another")  # numpy frees them one in the other, on the C stack
        else:
            held, plain = self.contents(raw, dtype, shape)
            raw = bytes(held)
        state: Any = (1, shape, plain, bool(fortran), raw)
        array.__setstate__(state)

    def contents(self, raw: Any, dtype: Any, shape: Any) -> tuple[bytes | bytearray, np.dtype[Any]]:
        """The bytes of an array and their type, exactly as many as there are to be."""
        if not isinstance(dtype, _DType):
            raise ValueError("it has an array without a type")
        plain, count, raw = dtype.plain(), self.count(shape), _raw(raw)
        if plain.itemsize > self.size or count * plain.itemsize != len(raw):
            raise ValueError(f"it has {len(raw)} bytes for an array of the shape {list(shape)} and type {plain}")
        if plain.kind == "b":
            raw = (np.frombuffer(raw, np.uint8) != 0).tobytes()  # numpy counts on 0 and 1
        if (
            plain.kind == "U"
            and np.frombuffer(raw, np.dtype("u4").newbyteorder(plain.byteorder)).max(initial=0) > sys.maxunicode
        ):
            raise ValueError("it has text of letters that there are not")
        return raw, plain

    def count(self, shape: Any) -> int:
        """How many elements; no dimension, and no array but for its empty dimensions, is larger than the file."""
        if type(shape) is not tuple or len(shape) > DIMENSIONS or any(type(n) is not int or n < 0 for n in shape):
            raise ValueError("it has an array of a shape that is none")
        if prod(max(n, 1) for n in shape) > self.size:
            raise ValueError(f"it has an array of the shape {list(shape)} in {self.size} bytes")
        return prod(shape)


def _shown(value: Any) -> str:
    """A word of the file, for an error; of anything else the type, for to write it may take for ever."""
    return repr(value[:60]) if isinstance(value, str) else type(value).__name__


def _raw(raw: Any) -> bytes | bytearray:
    """Bytes, which Python 2 wrote as text."""
    if isinstance(raw, str):
        return raw.encode("latin1")
    if not isinstance(raw, bytes | bytearray):
        raise ValueError(f"it has a value of type {type(raw).__name__} where bytes are due")
    return raw


def _bytes(value: Any) -> int:
    """The size of a value that contains no others."""
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    return int(value.nbytes) if isinstance(value, np.ndarray | np.generic) else 8


def _parts(value: Any) -> Iterable[Any]:
    if type(value) is dict:
        return (*value.keys(), *value.values())
    if type(value) is np.ndarray:
        parts: list[Any] = value.ravel().tolist() if value.dtype == object else []
        return parts
    return value if type(value) in CONTAINERS else ()


def _check_held(top: Any, most: int) -> None:
    """Raise if a value contains itself, or more bytes than `most` where each value counts as often as it is contained."""
    held: dict[int, int | None] = {}  # None: its parts are being counted
    waiting = [top]
    while waiting:
        value = waiting[-1]
        if id(value) not in held:
            held[id(value)] = None
            for part in _parts(value):
                if id(part) not in held:
                    waiting.append(part)
                elif held[id(part)] is None:
                    raise ValueError(f"it has a value of type {type(part).__name__} that contains itself")
        else:
            waiting.pop()
            if held[id(value)] is None:
                total = held[id(value)] = _bytes(value) + sum(held[id(part)] or 0 for part in _parts(value))
                if total > most:
                    raise ValueError(f"it holds more than {most} bytes, written once and repeated")


def _key(value: Any) -> Any:
    """What a dictionary is asked by; a tuple in a tuple may take for ever to be hashed."""
    if type(value) in SCALARS or isinstance(value, np.generic):
        return value
    if type(value) is tuple and all(type(part) in SCALARS for part in value):
        return value
    raise ValueError(f"it has a key of type {type(value).__name__}; expected text or numbers")


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(map(_key, items[::2]), items[1::2], strict=True))


# what a pickle may call, by exact module and name


def _reconstruct(machine: _Machine, kind: Any, shape: Any, code: Any) -> Array:
    array = np.empty(0, dtype=np.int8)
    machine.blank[id(array)] = array
    return array


def _scalar(machine: _Machine, dtype: Any, raw: Any) -> Any:
    raw, plain = machine.contents(raw, dtype, ())
    return np.frombuffer(raw, plain)[0]


def _frombuffer(machine: _Machine, raw: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> Array:
    raw, plain = machine.contents(raw, dtype, shape)
    array: Array = np.ndarray(shape, plain, raw, order="F" if order == "F" else "C")
    return array if axes is None else array.transpose(axes)


def _dtype(machine: _Machine, text: Any, align: Any = False, copy: Any = False) -> _DType:
    return _DType(text)


def _ordered(machine: _Machine, items: Any = ()) -> dict[Any, Any]:
    return _pairs([part for pair in items for part in _pair(pair)])


def _pair(pair: Any) -> Any:
    if type(pair) not in (list, tuple) or len(pair) != 2:
        raise ValueError("it has a dictionary of what are no pairs")
    return pair


def _defaulting(machine: _Machine, factory: Any = None) -> dict[Any, Any]:
    return {}  # what is missing is missing


def _encode(machine: _Machine, text: Any, encoding: Any) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"it has bytes in the encoding {_shown(encoding)}; expected 'latin1'")
    return bytes(_raw(text))


def _bytearray(machine: _Machine, raw: Any = b"", encoding: Any = "latin-1") -> bytearray:
    return bytearray(_encode(machine, raw, encoding))


def _set(machine: _Machine, items: Any = ()) -> set[Any]:
    return set(map(_key, items))


def _frozenset(machine: _Machine, items: Any = ()) -> frozenset[Any]:
    return frozenset(map(_key, items))


def _complex(machine: _Machine, real: Any, imaginary: Any) -> complex:
    return complex(float(real), float(imaginary))


def _empty(machine: _Machine) -> bytes:
    return b""


def _named(machine: _Machine) -> None:
    raise ValueError("it calls a type that is named and no more")


_CORES = ("numpy.core", "numpy._core")  # of numpy 1 and 2
_BUILTINS = ("__builtin__", "builtins")  # of Python 2 and 3
_TYPES = ("list", "dict", "tuple", "str", "int", "float", "bool")  # what a defaultdict makes
CALLS: Mapping[tuple[str, str], Call] = {
    ("numpy", "ndarray"): _named,
    ("numpy", "dtype"): _dtype,
    **{(f"{core}.multiarray", "_reconstruct"): _reconstruct for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): _scalar for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _frombuffer for core in _CORES},
    ("collections", "OrderedDict"): _ordered,
    ("collections", "defaultdict"): _defaulting,
    ("_codecs", "encode"): _encode,
    **{(builtins, "bytes"): _empty for builtins in _BUILTINS},
    **{(builtins, "bytearray"): _bytearray for builtins in _BUILTINS},
    **{(builtins, "set"): _set for builtins in _BUILTINS},
    **{(builtins, "frozenset"): _frozenset for builtins in _BUILTINS},
    **{(builtins, "complex"): _complex for builtins in _BUILTINS},
    **{(builtins, name): _named for builtins in _BUILTINS for name in _TYPES},
}


def _call(module: Any, name: Any) -> Call:
    if type(module) is not str or type(name) is not str or (module, name) not in CALLS:
        asked = f"{_shown(module)}.{_shown(name)}".replace("'", "")
        raise ValueError(f"it asks for {asked}; only numpy arrays and builtin containers are read")
    return CALLS[module, name]


# the instructions, by their codes; `pickletools` tells what each is


def _int(text: bytes) -> int | bool:
    return text == b"01" if text in (b"00", b"01") else _within(int(text))


def _within(number: int) -> int:
    if not -LARGEST <= 2 * number < 2 * LARGEST:
        raise ValueError("it has a number of more than 64 bits")
    return number


def _long(data: bytes) -> int:
    return _within(int.from_bytes(data[:10], "little", signed=True)) if len(data) <= 9 else _within(LARGEST)


def _unquoted(text: bytes) -> str:
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
        raise ValueError("it has text without quotes")
    return codecs.escape_decode(text[1:-1])[0].decode("latin1")


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _three(machine: _Machine) -> tuple[Any, Any, Any]:
    third, second, first = machine.pop(), machine.pop(), machine.pop()
    return first, second, third


def _two(machine: _Machine) -> tuple[Any, Any]:
    second, first = machine.pop(), machine.pop()
    return first, second


def _drop(machine: _Machine) -> None:
    if machine.stack:
        machine.pop()
    else:
        machine.marked()


_PUSHED: Mapping[bytes, Callable[[_Machine], Any]] = {
    b"N": lambda m: None,
    b"\x88": lambda m: True,
    b"\x89": lambda m: False,
    b"I": lambda m: _int(m.line()),
    b"J": lambda m: struct.unpack("<i", m.take(4))[0],
    b"K": lambda m: m.take(1)[0],
    b"M": lambda m: m.number(2),
    b"L": lambda m: _within(int(m.line().removesuffix(b"L"))),
    b"\x8a": lambda m: _long(m.sized(1)),
    b"\x8b": lambda m: _long(m.sized(4)),
    b"F": lambda m: float(m.line()),
    b"G": lambda m: struct.unpack(">d", m.take(8))[0],
    b"S": lambda m: _unquoted(m.line()),
    b"U": lambda m: m.sized(1).decode("latin1"),
    b"T": lambda m: m.sized(4).decode("latin1"),
    b"C": lambda m: m.sized(1),
    b"B": lambda m: m.sized(4),
    b"\x8e": lambda m: m.sized(8),
    b"\x96": lambda m: bytearray(m.sized(8)),
    b"V": lambda m: m.line().decode("raw-unicode-escape"),
    b"\x8c": lambda m: _utf8(m.sized(1)),
    b"X": lambda m: _utf8(m.sized(4)),
    b"\x8d": lambda m: _utf8(m.sized(8)),
    b"]": lambda m: [],
    b"}": lambda m: {},
    b")": lambda m: (),
    b"\x8f": lambda m: set(),
    b"l": lambda m: m.marked(),
    b"t": lambda m: tuple(m.marked()),
    b"d": lambda m: _pairs(m.marked()),
    b"\x91": lambda m: frozenset(map(_key, m.marked())),
    b"\x85": lambda m: (m.pop(),),
    b"\x86": _two,
    b"\x87": _three,
    b"2": lambda m: m.again(m.stack[-1]),
    b"g": lambda m: m.recall(int(m.line())),
    b"h": lambda m: m.recall(m.take(1)[0]),
    b"j": lambda m: m.recall(m.number(4)),
    b"c": lambda m: _call(m.line().decode(), m.line().decode()),
    b"\x93": lambda m: _call(*_two(m)),
    b"R": lambda m: m.reduce(),
}
_DONE: Mapping[bytes, Callable[[_Machine], Any]] = {
    b"(": lambda m: m.mark(),
    b"0": _drop,
    b"1": lambda m: m.marked(),
    b"a": lambda m: m.append([m.pop()]),
    b"e": lambda m: m.append(m.marked()),
    b"s": lambda m: m.set_items([*_two(m)]),
    b"u": lambda m: m.set_items(m.marked()),
    b"\x90": lambda m: m.add(m.marked()),
    b"p": lambda m: m.remember(int(m.line())),
    b"q": lambda m: m.remember(m.take(1)[0]),
    b"r": lambda m: m.remember(m.number(4)),
    b"\x94": lambda m: m.remember(len(m.memo)),
    b"b": lambda m: m.build(),
    b"\x80": lambda m: m.take(1),
    b"\x95": lambda m: m.take(8),
}


def _pushing(make: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    def step(machine: _Machine) -> None:
        value = make(machine)  # which may set the stack
        machine.stack.append(value)

    return step


STEPS: Mapping[bytes, Callable[[_Machine], Any]] = {code: _pushing(make) for code, make in _PUSHED.items()} | dict(_DONE)
