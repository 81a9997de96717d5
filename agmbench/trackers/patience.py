"""Calls of a store to which other processes write at the same time: a call waits while the store is locked, and is repeated if it loses a
race."""

import re
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from threading import Thread
from typing import Any, TypeVar

from agmbench.errors import AgmbenchError

T = TypeVar("T")

PATIENCE = 120.0  # seconds to wait for a locked store
PAUSE = 0.1
ANSWER = 30.0  # seconds within which a server must give its first answer
RACES = 5  # how many races one call may lose; the winner has written what the repeated call finds
LOCKED = re.compile(r"database (\w+ )?is locked")
LOST = re.compile(r"UNIQUE constraint failed|duplicate key value|Duplicate entry")  # the errors of SQLite, PostgreSQL, MySQL


class Locked(AgmbenchError):
    """Raised if another process has locked the store for longer than `PATIENCE` seconds."""


def patiently(shown: str, call: Callable[..., T], *given: Any, **named: Any) -> T:
    """Call the store with the address `shown`, and repeat the call if the store is locked or a race is lost; returns its result. The
    transaction of a failed call leaves nothing behind, so it is safe to repeat it."""
    begun, races = time.monotonic(), 0
    while True:
        try:
            return call(*given, **named)
        except Exception as error:
            if LOCKED.search(str(error)):
                if time.monotonic() - begun >= PATIENCE:
                    raise Locked(
                        f"the store {shown} is locked by another process and was waited for, {PATIENCE:.0f} seconds; "
                        "run the same command again when that process has ended"
                    ) from error
                time.sleep(PAUSE)
            elif races < RACES and LOST.search(str(error)):
                races += 1
            else:
                raise


def in_time(shown: str, call: Callable[..., T], *given: Any) -> T:
    """Call the server with the address `shown`; returns the result, or raises after `ANSWER` seconds, whatever the server does until then.

    Timeouts of libraries apply to the bytes of an answer, not to the whole answer, and libraries ask again. So the call runs in a thread
    of its own, which is abandoned after that time.
    """
    answer: Future[T] = Future()

    def ask() -> None:
        try:
            answer.set_result(call(*given))
        except BaseException as error:
            answer.set_exception(error)

    Thread(target=ask, daemon=True).start()
    try:
        return answer.result(ANSWER)
    except FutureTimeout as error:
        if answer.done():  # the call itself raised this error
            raise
        raise AgmbenchError(
            f"the MLflow store {shown} has given no answer for {ANSWER:.0f} seconds; check the address, or its server"
        ) from error


class Patient:
    """A client that makes every call by `patiently`."""

    def __init__(self, client: Any, shown: str) -> None:
        self._client = client
        self._shown = shown

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return partial(patiently, self._shown, found) if callable(found) else found
