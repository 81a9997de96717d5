"""The instructions that a pickle may have, by their codes; Python's `pickletools` explains each."""

import codecs
import struct
from collections.abc import Mapping
from typing import Any

from agmbench.datasets.pickles.calls import call_of
from agmbench.datasets.pickles.machine import Machine, Step
from agmbench.datasets.pickles.values import key, pairs

LARGEST = 2**64


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


def _three(machine: Machine) -> tuple[Any, Any, Any]:
    third, second, first = machine.pop(), machine.pop(), machine.pop()
    return first, second, third


def _two(machine: Machine) -> tuple[Any, Any]:
    second, first = machine.pop(), machine.pop()
    return first, second


def _drop(machine: Machine) -> None:
    if machine.stack:
        machine.pop()
    else:
        machine.marked()


_PUSHED: Mapping[bytes, Step] = {
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
    b"d": lambda m: pairs(m.marked()),
    b"\x91": lambda m: frozenset(map(key, m.marked())),
    b"\x85": lambda m: (m.pop(),),
    b"\x86": _two,
    b"\x87": _three,
    b"2": lambda m: m.again(m.stack[-1]),
    b"g": lambda m: m.recall(int(m.line())),
    b"h": lambda m: m.recall(m.take(1)[0]),
    b"j": lambda m: m.recall(m.number(4)),
    b"c": lambda m: call_of(m.line().decode(), m.line().decode()),
    b"\x93": lambda m: call_of(*_two(m)),
    b"R": lambda m: m.reduce(),
}
_DONE: Mapping[bytes, Step] = {
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


def _pushing(make: Step) -> Step:
    def step(machine: Machine) -> None:
        value = make(machine)  # called first, because it may replace the stack
        machine.stack.append(value)

    return step


STEPS: Mapping[bytes, Step] = {code: _pushing(make) for code, make in _PUSHED.items()} | dict(_DONE)
