"""Checks and their outcomes: runs a check on untrusted code, and reports the outcomes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, get_args

import torch

from agmbench.errors import describe

CheckOutcome = Literal["passed", "failed", "noted", "skipped", "undeclared"]


class Check(NamedTuple):
    """One check: its outcome, and one line with what was found, which promise is broken, or why the check was skipped.

    A finding that is `noted` breaks no promise, but the author should look at it.
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
    """Run a check and return its outcome: passed with the detail that it returns, or noted, skipped or failed with the reason that it
    raises."""
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
    """The check whether a component takes some input. Returns the names of its trials. Fails if a trial broke (with what was `expected`)
    or if there is no trial; `nothing` then names what it does not take."""
    if broken:
        raise BrokenPromise(f"{broken[0]}; expected {expected}")
    if not trials:
        raise BrokenPromise(f"takes {nothing}, for the reasons above; `--set` gives it other parameters")
    return ", ".join(trial.name for trial in trials)


def tried(check: Callable[[Any], str], trials: Sequence[Any], nothing: str) -> str:
    """Run a check on all trials. It is skipped if there are none, with `nothing` as the name of what the component does not take."""
    if not trials:
        raise Skipped(f"takes {nothing} that this check has")
    return check(trials)


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread inside the `with` block, because several threads only slow down models that are so small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def report(checks: Sequence[Check]) -> str:
    """One line per check, and a last line with the number of checks per outcome."""
    width = max((len(check.name) for check in checks), default=0)
    lines = [f"{check.outcome:<10}  {check.name:<{width}}  {check.detail}" for check in checks]
    outcomes = [check.outcome for check in checks]
    counts = [f"{outcomes.count(outcome)} {outcome}" for outcome in get_args(CheckOutcome)]
    return "\n".join([*lines, ", ".join(counts)])
