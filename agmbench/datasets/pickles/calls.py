"""The functions that a pickle may call, by their exact module and name. Any other name is refused."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from agmbench.datasets.pickles.arrays import Array, DType, raw_bytes
from agmbench.datasets.pickles.machine import Machine
from agmbench.datasets.pickles.values import key, pairs, shown

Call = Callable[..., Any]


def _reconstruct(machine: Machine, kind: Any, shape: Any, code: Any) -> Array:
    return machine.arrays.blank()


def _scalar(machine: Machine, dtype: Any, raw: Any) -> Any:
    raw, plain = machine.arrays.contents(raw, dtype, ())
    return np.frombuffer(raw, plain)[0]


def _frombuffer(machine: Machine, raw: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> Array:
    raw, plain = machine.arrays.contents(raw, dtype, shape)
    array: Array = np.ndarray(shape, plain, raw, order="F" if order == "F" else "C")
    return array if axes is None else array.transpose(axes)


def _dtype(machine: Machine, text: Any, align: Any = False, copy: Any = False) -> DType:
    return DType(text)


def _ordered(machine: Machine, items: Any = ()) -> dict[Any, Any]:
    return pairs([part for pair in items for part in _pair(pair)])


def _pair(pair: Any) -> Any:
    if type(pair) not in (list, tuple) or len(pair) != 2:
        raise ValueError("it has a dictionary of what are no pairs")
    return pair


def _defaulting(machine: Machine, factory: Any = None) -> dict[Any, Any]:
    return {}  # a plain dictionary: a missing key stays missing


def _encode(machine: Machine, text: Any, encoding: Any) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"it has bytes in the encoding {shown(encoding)}; expected 'latin1'")
    return bytes(raw_bytes(text))


def _bytearray(machine: Machine, raw: Any = b"", encoding: Any = "latin-1") -> bytearray:
    return bytearray(_encode(machine, raw, encoding))


def _set(machine: Machine, items: Any = ()) -> set[Any]:
    return set(map(key, items))


def _frozenset(machine: Machine, items: Any = ()) -> frozenset[Any]:
    return frozenset(map(key, items))


def _complex(machine: Machine, real: Any, imaginary: Any) -> complex:
    return complex(float(real), float(imaginary))


def _empty(machine: Machine) -> bytes:
    return b""


def _named(machine: Machine) -> None:
    raise ValueError("it calls a type that is named and no more")


_CORES = ("numpy.core", "numpy._core")  # of numpy 1 and 2
_BUILTINS = ("__builtin__", "builtins")  # of Python 2 and 3
_TYPES = ("list", "dict", "tuple", "str", "int", "float", "bool")  # factories of a defaultdict, named but never called
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


def call_of(module: Any, name: Any) -> Call:
    if type(module) is not str or type(name) is not str or (module, name) not in CALLS:
        asked = f"{shown(module)}.{shown(name)}".replace("'", "")
        raise ValueError(f"it asks for {asked}; only numpy arrays and builtin containers are read")
    return CALLS[module, name]
