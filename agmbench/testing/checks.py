"""What a check is: its outcome, how a stranger's code is judged, and how the outcomes are told."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, get_args

import torch

from agmbench.errors import describe

CheckOutcome = Literal["passed", "failed", "noted", "skipped", "undeclared"]


class Check(NamedTuple):
    """One check: its outcome, and in one line what was found, or which promise is broken, or why it was not tried.

    What is `noted` breaks no promise, and is worth a look.
    """

    name: str
    outcome: CheckOutcome
    detail: str


class BrokenPromise(Exception):
    """Raised with the reason why a check failed."""


class Noted(Exception):
    """Raised with what a check found that the author of the component may want to know."""


class Skipped(Exception):
    """Raised with the reason why a check does not apply."""


def judged(name: str, check: Callable[..., str], *subjects: Any) -> Check:
    """A check's outcome on its subjects: passed with the detail that it returns, or noted, skipped or failed with the reason."""
    try:
        return Check(name, "passed", check(*subjects))
    except Skipped as reason:
        return Check(name, "skipped", str(reason))
    except Noted as finding:
        return Check(name, "noted", str(finding))
    except BrokenPromise as reason:
        return Check(name, "failed", str(reason))
    except (Exception, SystemExit) as error:  # a stranger's code may raise anything
        return Check(name, "failed", describe(error))


def takes(trials: Sequence[Any], broken: Sequence[str], expected: str, nothing: str) -> str:
    """What a component takes, by the names of its trials; what was `expected` where it broke, and that it takes `nothing`."""
    if broken:
        raise BrokenPromise(f"{broken[0]}; expected {expected}")
    if not trials:
        raise BrokenPromise(f"takes {nothing}, for the reasons above; `--set` gives it other parameters")
    return ", ".join(trial.name for trial in trials)


def tried(check: Callable[[Any], str], trials: Sequence[Any], nothing: str) -> str:
    """A check on all trials, skipped where the component takes `nothing` of what there is."""
    if not trials:
        raise Skipped(f"takes {nothing} that this check has")
    return check(trials)


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
    counts = [f"{outcomes.count(outcome)} {outcome}" for outcome in get_args(CheckOutcome)]
    return "\n".join([*lines, ", ".join(counts)])
