"""Checks of a launcher, which really runs small tasks. They are skipped if its cluster is not available."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agmbench.errors import AgmbenchError
from agmbench.launch import Ended, Launcher, Task
from agmbench.launchers.trial import DIES, FUNCTION
from agmbench.testing.checks import BrokenPromise, Check, judged

TEXTS = {"well": "", "again": "", "badly": "the reason of this task", "dead": DIES}


def check(make: Callable[..., Launcher], params: Mapping[str, Any]) -> list[Check]:
    """Run every check of a launcher, or none if it says that it cannot run anything here."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            launcher = make(Path(scratch), "check", **params)
            launcher.check()
        except AgmbenchError as reason:
            return [Check("here", "skipped", str(reason))]
        ended: list[Ended] = []
        checks = [judged("runs", _runs, launcher, ended)]
        return [*checks, *(judged(name, CHECKS[name], ended) for name in CHECKS if checks[0].outcome == "passed")]


def _runs(launcher: Launcher, ended: list[Ended]) -> str:
    """The check that each task ends once, and no other task does."""
    tasks = [Task(key, f"check {key}", FUNCTION, text) for key, text in TEXTS.items()]
    ended += launcher.run(tasks)
    found, expected = sorted(one.task.key for one in ended), sorted(TEXTS)
    if found != expected:
        raise BrokenPromise(f"tasks ended: {', '.join(found) or 'none'}; expected each once: {', '.join(expected)}")
    if list(launcher.run([])):
        raise BrokenPromise("something ended although there was no task")
    return f"each of {len(tasks)} tasks ended once"


def _well(ended: list[Ended]) -> str:
    for one in ended:
        if not TEXTS[one.task.key] and one.reason:
            raise BrokenPromise(f"a task that ended well is said to have failed: {one.reason}")
    return "what ended well has no reason"


def _reasons(ended: list[Ended]) -> str:
    reasons = {one.task.key: one.reason for one in ended}
    if TEXTS["badly"] not in reasons["badly"]:
        raise BrokenPromise(
            f"a task failed with '{TEXTS['badly']}', of which the launcher says {reasons['badly']!r}; expected its reason"
        )
    return "what failed has the reason that it gave"


def _death(ended: list[Ended]) -> str:
    (reason,) = (one.reason for one in ended if one.task.text == DIES)
    if not reason:
        raise BrokenPromise("a task whose process ended with status 3 is said to have ended well; expected a reason")
    return f"a process that dies is a reason: {reason}"


CHECKS: Mapping[str, Callable[[list[Ended]], str]] = {"well": _well, "reasons": _reasons, "death": _death}
