"""The stack machine that runs a pickle. It reads the file and has a stack and a memo; `instructions.py` knows the codes."""

from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import Any, BinaryIO

from agmbench.datasets.pickles.arrays import Arrays, DType
from agmbench.datasets.pickles.values import CONTAINERS, bytes_of, check_held, key, pairs

TIMES, FLOOR = 16, 64 << 20  # the value may have TIMES times the size of the file plus FLOOR, in bytes


class Machine:
    """Runs the pickle of one file, once. It has a stack with marks and a memo."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._read, self._readline, self.size = file.read, file.readline, size
        self.most = TIMES * size + FLOOR
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}
        self.arrays = Arrays(size)
        self.repeated, self.shared = 0, False

    def run(self, steps: "Mapping[bytes, Step]") -> Any:
        """Run all instructions and return the value. `steps` has the function of each instruction by its code."""
        next_code = self._read
        while (code := next_code(1)) != b".":
            if code not in steps:
                raise ValueError(f"it has the instruction {code!r}, which data do not need" if code else "it is cut short")
            steps[code](self)
        found = self.stack.pop()
        if self.shared:
            check_held(found, self.most)
        return found

    # reading the file

    def take(self, count: int) -> bytes:
        data = self._read(count) if count <= self.size else b""
        if len(data) < count:
            raise ValueError("it is cut short")
        return data

    def number(self, width: int) -> int:
        """Read an unsigned number of `width` bytes."""
        return int.from_bytes(self.take(width), "little")

    def sized(self, width: int) -> bytes:
        """Read bytes that follow their count, which itself takes `width` bytes."""
        return self.take(self.number(width))

    def line(self) -> bytes:
        line = self._readline()
        if not line.endswith(b"\n"):
            raise ValueError("it is cut short")
        return line[:-1]

    # the stack

    def pop(self) -> Any:
        return self.stack.pop()

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        """Remove the last mark, and return what was pushed since."""
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
        """Return a value that the pickle refers to once more, and count its size: a few bytes of the file can repeat a large value."""
        if type(value) in CONTAINERS:
            self.shared = True  # its size is counted at the end, because it may not be complete yet
        else:
            self.repeated += bytes_of(value)
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
        self.stack[-1].update(pairs(items))

    def add(self, items: Iterable[Any]) -> None:
        if type(self.stack[-1]) is not set:
            raise ValueError(f"it adds to what is of type {type(self.stack[-1]).__name__}")
        self.stack[-1].update(map(key, items))

    # names, calls and states

    def reduce(self) -> Any:
        given, call = self.pop(), self.pop()
        if type(call) is not FunctionType or type(given) is not tuple:  # only functions of CALLS are ever on the stack
            raise ValueError(f"it calls what is of type {type(call).__name__}")
        return call(self, *given)

    def build(self) -> None:
        state, thing = self.pop(), self.stack[-1]
        if isinstance(thing, DType):
            thing.set(state)
        elif self.arrays.waits(thing):
            self.arrays.fill(thing, *state)
        else:
            raise ValueError(f"it sets the state of what is of type {type(thing).__name__}")


Step = Callable[[Machine], Any]  # the function of an instruction
