"""Calls of a store that others write to at the same time: one that is locked is waited for, and who loses a race asks again."""

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

PATIENCE = 120.0  # seconds for which a locked store is waited for
PAUSE = 0.1
ANSWER = 30.0  # seconds that a server has for its first answer
RACES = 5  # that one call may lose: whoever wins one has written what the next call finds
LOCKED = re.compile(r"database (\w+ )?is locked")
LOST = re.compile(r"UNIQUE constraint failed|duplicate key value|Duplicate entry")  # of SQLite, PostgreSQL, MySQL


class Locked(AgmbenchError):
    """A store that another process has locked for longer than it was waited for."""


def patiently(shown: str, call: Callable[..., T], *given: Any, **named: Any) -> T:
    """What a call of the store `shown` returns. Its transaction leaves nothing behind when it fails, so it may be made again."""
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
    """What a call of the server `shown` returns, or an error after `ANSWER` seconds, however the server spends them.

    Libraries time the bytes of an answer, not the whole of it, and ask again; so the call has a thread, which is left behind.
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
        if answer.done():  # it is the call's own
            raise
        raise AgmbenchError(
            f"the MLflow store {shown} has given no answer for {ANSWER:.0f} seconds; check the address, or its server"
        ) from error


class Patient:
    """A client whose every call is made patiently."""

    def __init__(self, client: Any, shown: str) -> None:
        self._client = client
        self._shown = shown

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return partial(patiently, self._shown, found) if callable(found) else found
