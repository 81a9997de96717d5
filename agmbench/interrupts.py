"""Requests to stop: Ctrl-C, SIGTERM, a terminal that is closed, and SIGUSR1, which a cluster may send before a time limit."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_asked = False
_held = 0


def listen() -> None:
    """From now on each of these raises KeyboardInterrupt, and again at `check()` if it was suppressed."""
    global _asked
    _asked = False
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        number = getattr(signal, name, None)  # not every system has all of them
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup, a shell's background job
            signal.signal(number, _interrupt)


def asked() -> bool:
    """Whether this process was asked to stop."""
    return _asked


def check() -> None:
    """Raise KeyboardInterrupt if this process was asked to stop. One raised inside a destructor or a callback is lost there."""
    if _asked:
        raise KeyboardInterrupt


@contextmanager
def held(then_check: bool = True) -> Iterator[None]:
    """Inside, being asked waits until the end, for what should not be left half done; being asked again does not."""
    global _held
    _held += 1
    try:
        yield
    finally:
        _held -= 1
    if then_check:
        check()


def _interrupt(number: int, frame: object) -> None:
    global _asked
    if _held and not _asked:
        _asked = True
        return
    _asked = True
    raise KeyboardInterrupt
