"""The store of runs, as all ranks have it: the first alone talks to it, and tells the others what it answers."""

import inspect
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from agmbench.distributed.ranks import RankLost, Ranks, here
from agmbench.errors import AgmbenchError, describe

T = TypeVar("T")


def told(what: T) -> T:
    """Among ranks, an object whose methods are called on the first alone; else the object itself."""
    ranks = here()
    return what if ranks is None else cast(T, Told(ranks, what, type(what)))


def kept_by_first(what: Any, name: str) -> Any:
    """An attribute as the first rank has it, and `None` elsewhere: for an object that is itself asked on the first alone."""
    if isinstance(what, Told):
        return what.own(name)
    return getattr(what, name)


class Told:
    """What the first rank has in `what`, an object of class `kind`, for all ranks.

    Each call, and each look at an attribute, is one that all ranks make. The answer is what it is there: plain data travel as they
    are, of a file's path its content, and of what can be entered, as a run or a lock, the ranks have such an object again. An error is
    raised on all ranks. What is left by an error is left on the first alone, for the others may be anywhere.
    """

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

    def own(self, name: str) -> Any:
        """An attribute without a word to the others; `None` on these."""
        return getattr(self._what, name) if self._ranks.first else None

    def __enter__(self) -> Any:
        return self._answer(lambda: self._what.__enter__(), again=True)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> Any:
        if error is None:
            return self._answer(lambda: self._what.__exit__(None, None, None))
        return self._what.__exit__(kind, error, trace) if self._ranks.first else None

    def _answer(self, ask: Callable[[], Any], again: bool = False) -> Any:
        answer: Any = None
        if self._ranks.first:
            try:
                answer = ask()
            except BaseException as error:
                self._ranks.told(_Failed(str(error) if isinstance(error, AgmbenchError) else describe(error)))
                raise
        again = again or (hasattr(answer, "__enter__") and not isinstance(answer, Path))
        said = self._ranks.told(_Again(type(answer)) if again else _File.of(answer) if isinstance(answer, Path) else answer)
        if isinstance(said, _Failed):
            raise RankLost(said.reason)
        if isinstance(said, _Again):
            return Told(self._ranks, answer, said.kind)
        if isinstance(said, _File):
            return answer if self._ranks.first else said.here()
        return said


class _Failed(NamedTuple):
    reason: str


class _Again(NamedTuple):
    kind: type[Any]


class _File(NamedTuple):
    """A path of the first rank's machine, with what is in it if it is a file."""

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
    """Where this rank keeps copies of files, until its process ends."""
    if not _folder:
        _folder.append(tempfile.TemporaryDirectory())
    return _folder[0]
