"""The values of a pickle that are not arrays: counts their total size, and checks which may be keys."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

SCALARS = {str, bytes, int, float, bool, type(None)}
CONTAINERS = {list, tuple, dict, set, frozenset, np.ndarray}


def shown(value: Any) -> str:
    """A value for an error message: the beginning of a text, but only the type of anything else, because that may be huge."""
    return repr(value[:60]) if isinstance(value, str) else type(value).__name__


def bytes_of(value: Any) -> int:
    """The size of a value in bytes, without the values that it contains."""
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    return int(value.nbytes) if isinstance(value, np.ndarray | np.generic) else 8


def _parts(value: Any) -> Iterable[Any]:
    """The values that a value contains."""
    if type(value) is dict:
        return (*value.keys(), *value.values())
    if type(value) is np.ndarray:
        parts: list[Any] = value.ravel().tolist() if value.dtype == object else []
        return parts
    return value if type(value) in CONTAINERS else ()


def check_held(top: Any, most: int) -> None:
    """Raise `ValueError` if a value contains itself, or if it has more than `most` bytes. A value that is contained several times counts
    each time."""
    held: dict[int, int | None] = {}  # size of each value by its id; None while its parts are being counted
    waiting = [top]
    while waiting:
        value = waiting[-1]
        if id(value) not in held:
            held[id(value)] = None
            waiting += _uncounted(value, held)
        else:
            waiting.pop()
            if held[id(value)] is None:
                held[id(value)] = _total(value, held, most)


def _uncounted(value: Any, held: Mapping[int, int | None]) -> Iterator[Any]:
    """The parts of a value that have no count yet. Raises `ValueError` if a part is a value that is still being counted, and so contains
    itself."""
    for part in _parts(value):
        if id(part) not in held:
            yield part
        elif held[id(part)] is None:
            raise ValueError(f"it has a value of type {type(part).__name__} that contains itself")


def _total(value: Any, held: Mapping[int, int | None], most: int) -> int:
    total = bytes_of(value) + sum(held[id(part)] or 0 for part in _parts(value))
    if total > most:
        raise ValueError(f"it holds more than {most} bytes, written once and repeated")
    return total


def key(value: Any) -> Any:
    """Return a value that may be a key of a dictionary or a member of a set. Raises `ValueError` for others, also for nested tuples, whose
    hash may take forever."""
    if type(value) in SCALARS or isinstance(value, np.generic):
        return value
    if type(value) is tuple and all(type(part) in SCALARS for part in value):
        return value
    raise ValueError(f"it has a key of type {type(value).__name__}; expected text or numbers")


def pairs(items: list[Any]) -> dict[Any, Any]:
    """Make a dictionary of a list in which keys and values alternate."""
    return dict(zip(map(key, items[::2]), items[1::2], strict=True))
