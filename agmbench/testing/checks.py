"""What a check is: its outcome, how a stranger's code is judged, and how the outcomes are told."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch

from agmbench.errors import describe

Outcome = Literal["passed", "failed", "skipped", "undeclared"]


class Check(NamedTuple):
    """One check: its outcome, and in one line what was found, or which promise is broken, or why it was not tried."""

    name: str
    outcome: Outcome
    detail: str


class Broken(Exception):
    """A check failed, because."""


class Skipped(Exception):
    """A check does not apply, because."""


def judged(name: str, check: Callable[..., str], *subjects: Any) -> Check:
    """A check's outcome on its subjects: passed with the detail that it returns, or skipped or failed because."""
    try:
        return Check(name, "passed", check(*subjects))
    except Skipped as reason:
        return Check(name, "skipped", str(reason))
    except Broken as reason:
        return Check(name, "failed", str(reason))
    except (Exception, SystemExit) as error:  # a stranger's code may raise anything
        return Check(name, "failed", describe(error))


@contextmanager
def one_thread() -> Iterator[None]:
    """Models so small only wait for one another's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def report(checks: Sequence[Check]) -> str:
    """One line a check, and a last line with how many had each outcome."""
    width = max((len(check.name) for check in checks), default=0)
    lines = [f"{check.outcome:<10}  {check.name:<{width}}  {check.detail}" for check in checks]
    outcomes = [check.outcome for check in checks]
    counts = [f"{outcomes.count(outcome)} {outcome}" for outcome in ("passed", "failed", "skipped", "undeclared")]
    return "\n".join([*lines, ", ".join(counts)])
