"""Requests to stop: Ctrl-C, SIGTERM, the closing of the terminal, and SIGUSR1, which a cluster may send before a time limit."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_stop_requested = False
_delays = 0


def listen() -> None:
    """Make each of these requests raise KeyboardInterrupt from now on, and once more at `check()` if that exception was suppressed."""
    global _stop_requested
    _stop_requested = False
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        number = getattr(signal, name, None)  # not every system has all of them
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # ignored with nohup or in the background
            signal.signal(number, _interrupt)


def stop_requested() -> bool:
    """Whether this process was asked to stop."""
    return _stop_requested


def check() -> None:
    """Raise KeyboardInterrupt if this process was asked to stop, because one that was raised in a destructor or a callback was lost."""
    if _stop_requested:
        raise KeyboardInterrupt


@contextmanager
def delayed(then_check: bool = True) -> Iterator[None]:
    """Delay a first request to stop until the end of the block, for work that must not be left half done. A second request interrupts."""
    global _delays
    _delays += 1
    try:
        yield
    finally:
        _delays -= 1
    if then_check:
        check()


def _interrupt(number: int, frame: object) -> None:
    global _stop_requested
    if _delays and not _stop_requested:
        _stop_requested = True
        return
    _stop_requested = True
    raise KeyboardInterrupt
