"""How all ranks use the store of runs: only the first rank calls it, and sends its answers to the others."""

import inspect
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

from agmbench.distributed.ranks import RankLost, Ranks, here
from agmbench.errors import AgmbenchError, describe

T = TypeVar("T")
PLAIN = (type(None), bool, int, float, str, bytes, Path, tuple, list, dict, set, frozenset)


def stand_in(what: T) -> T:
    """Among ranks, a stand-in for an object, whose methods are called only on the first rank; else the object itself."""
    ranks = here()
    return what if ranks is None else cast(T, StandIn(ranks, what, type(what)))


class StandIn:
    """A stand-in on all ranks for an object `what` of class `kind` that the first rank has.

    All ranks make each call and read each attribute together, and get the answer of the first rank. Plain data are sent as they are; for
    the path of a file, its content is sent; for any other object, such as a run or a lock, the ranks get another stand-in. An error is
    raised on all ranks. If an error leaves a context manager, only the first rank leaves it, because the other ranks may be anywhere. A
    call that the first rank makes inside another call is part of that call.
    """

    asking: ClassVar[bool] = False  # whether the first rank is inside a call

    def __init__(self, ranks: Ranks, what: Any, kind: type[Any]) -> None:
        self._ranks, self._what, self._kind = ranks, what, kind

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if inspect.isfunction(inspect.getattr_static(self._kind, name, None)):
            return partial(self._called, name)
        return self._answer(lambda: getattr(self._what, name))

    def _called(self, name: str, *args: Any, **named: Any) -> Any:
        return self._answer(lambda: getattr(self._what, name)(*args, **named))

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self._answer(lambda: self._what(*args, **named))

    def __enter__(self) -> Any:
        return self._answer(lambda: self._what.__enter__(), as_stand_in=True)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> Any:
        if error is None:
            return self._answer(lambda: self._what.__exit__(None, None, None))
        return self._asked(lambda: self._what.__exit__(kind, error, trace)) if self._ranks.first else None

    def _answer(self, ask: Callable[[], Any], as_stand_in: bool = False) -> Any:
        if StandIn.asking:
            return ask()
        answer: Any = None
        if self._ranks.first:
            try:
                answer = self._asked(ask)
            except BaseException as error:
                self._ranks.broadcast(_Failed(str(error) if isinstance(error, AgmbenchError) else describe(error)))
                raise
        as_stand_in = not isinstance(answer, PLAIN) and (as_stand_in or not is_dataclass(answer))
        received = self._ranks.broadcast(
            _Object(_kind(answer)) if as_stand_in else _File.of(answer) if isinstance(answer, Path) else answer
        )
        if isinstance(received, _Failed):
            raise RankLost(received.reason)
        if isinstance(received, _Object):
            return StandIn(self._ranks, answer, received.kind)
        if isinstance(received, _File):
            return answer if self._ranks.first else received.here()
        return received

    def _asked(self, ask: Callable[[], Any]) -> Any:
        before, StandIn.asking = StandIn.asking, True
        try:
            return ask()
        finally:
            StandIn.asking = before


def _kind(what: Any) -> type[Any]:
    """The class of an object if another process can find it by its name, else `object`; the class of a function cannot be found."""
    kind: type[Any] = type(what)
    try:
        pickle.dumps(kind)
    except pickle.PicklingError:
        return object
    return kind


class _Failed(NamedTuple):
    reason: str


class _Object(NamedTuple):
    """An object that stays on the first rank; the other ranks get a stand-in for it."""

    kind: type[Any]


class _File(NamedTuple):
    """A path on the first rank's machine, with its content if it is a file."""

    path: Path
    content: bytes | None

    @classmethod
    def of(cls, path: Path) -> "_File":
        return cls(path, path.read_bytes() if path.is_file() else None)

    def here(self) -> Path:
        if self.content is None:
            return self.path
        copy = Path(_copies().name, f"{abs(hash(self.path))}", self.path.name)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(self.content)
        return copy


_folder: list[tempfile.TemporaryDirectory[str]] = []


def _copies() -> "tempfile.TemporaryDirectory[str]":
    """The folder in which this rank keeps copies of files until its process ends."""
    if not _folder:
        _folder.append(tempfile.TemporaryDirectory())
    return _folder[0]
