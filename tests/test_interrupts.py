"""A request to stop is not forgotten, even if a KeyboardInterrupt is swallowed."""

import os
import signal
from contextlib import suppress

import pytest

from agmbench import interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_an_interrupt_that_was_lost_comes_again(number: int) -> None:
    before = {n: signal.signal(n, signal.SIG_DFL) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)}
    try:
        interrupts.listen()
        interrupts.check()
        with suppress(KeyboardInterrupt):  # swallows it, as Python does in a destructor
            os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        interrupts.listen()
        interrupts.check()
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        interrupts.listen()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_is_held_is_finished_first_unless_asked_twice() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        interrupts.listen()
        with pytest.raises(KeyboardInterrupt):
            asked(once := [], times=1)
        assert once == ["the rest"]
        interrupts.listen()
        with pytest.raises(KeyboardInterrupt):
            asked(twice := [], times=2)
        assert twice == []
        interrupts.listen()
    finally:
        signal.signal(signal.SIGTERM, before)


def asked(done: list[str], times: int) -> None:
    with interrupts.delayed():
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGTERM)
        done.append("the rest")
