"""What users see in place of a traceback: one line that says what was found, what was expected and how to mend it."""

import difflib
from collections.abc import Iterable


class AgmbenchError(Exception):
    """Something its reader can mend. The command line prints it as one line and exits with `exit_code`."""

    exit_code = 2


class RunFailed(AgmbenchError):
    """A job that started and could not finish; its run is FAILED with this text as the reason."""

    exit_code = 1


def allowed(name: str, known: Iterable[str]) -> str:
    """The second half of an "unknown name" message: the nearest known name, then every known one."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"{hint}Known: {', '.join(names) or 'none'}."


def describe(error: BaseException) -> str:
    """A stranger's exception in one line: its class and the first line of its text."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
