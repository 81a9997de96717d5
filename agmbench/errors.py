"""What users see instead of a traceback: one line that says what was found, what was expected and how to fix it."""

import codecs
import difflib
import os
import re
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path

OURS = (
    f"{Path(__file__).parent}{os.sep}",
    f"{sysconfig.get_path('stdlib')}{os.sep}",
    "<",
)  # the files of agmbench, of Python and of frozen modules

# what a terminal acts on or cannot show: control characters, marks that change the writing direction, halves of surrogate pairs
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")

MANY = 12  # names that an error lists one by one, even where a command lists all


class AgmbenchError(Exception):
    """An error that the user can fix. The command line prints it as one line and exits with `exit_code`."""

    exit_code = 2


class RunFailed(AgmbenchError):
    """Raised when a job started and could not finish; its run becomes FAILED with this text as the reason."""

    exit_code = 1


class Taken(RunFailed):
    """Raised when another process has the job or has taken it over; nothing is wrong with the job."""

    SAYS = "another process has this job"  # the beginning of the text, by which this error is recognized where only its text is left

    def __init__(self, text: str) -> None:
        super().__init__(f"{self.SAYS}: {text}")


def normalized(name: str) -> str:
    """A name in small letters, with dashes for underscores: names that differ only in these are taken for the same."""
    return name.lower().replace("_", "-")


def allowed(name: str, known: Iterable[str], listing: str = "") -> str:
    """The second half of an "unknown name" message: the nearest known name, then every known one.

    listing: the command that lists them. If there are more than MANY names, it stands in place of those that are not near.
    """
    names = sorted(known)
    known_as = {normalized(one): one for one in names}
    near = [known_as[one] for one in difflib.get_close_matches(normalized(name), known_as, n=3, cutoff=0.5)]
    hint = f"did you mean '{near[0]}'? " if near else ""
    if not listing or len(names) <= MANY:
        return f"{hint}Known: {', '.join(names) or 'none'}."
    similar = f"Similar: {', '.join(near[1:])}. " if near[1:] else ""
    return f"{hint}{similar}'{listing}' lists all that are known."


def describe(error: BaseException) -> str:
    """The exception of someone else's code in one line: its class, the first line of its text, and the line of that code."""
    text = str(error).strip().splitlines()
    return (f"{type(error).__name__}: {text[0]}" if text else type(error).__name__) + _place(error)


def _place(error: BaseException) -> str:
    """The innermost line that belongs neither to agmbench nor to an installed library, if there is one."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {shown(error.filename)}:{error.lineno}"
    lines = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    theirs = [(file, line) for file, line in lines if not (file.startswith(OURS) or "-packages" in file)]
    return f" at {shown(theirs[-1][0])}:{theirs[-1][1]}" if theirs else ""


def shown(path: str | Path) -> str:
    """A path as it is shown to users: relative if it is below the working directory."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative


SUBSTITUTES = {
    "±": "+-",
    "–": "-",
    "—": "-",
    "−": "-",
    "×": "x",
    "…": "...",
    "─": "-",
    "━": "-",
    "’": "'",
    "κ": "kappa",
    "≥": ">=",
}


def encodable(text: str, encoding: str) -> str:
    """The text in characters that an encoding has. Those it lacks are replaced: by `SUBSTITUTES`, or else by a question mark."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(SUBSTITUTES.get(sign, sign) for sign in text).encode(encoding, "replace").decode(encoding)
    return text


def _substituted(error: UnicodeError) -> tuple[str, int]:
    """An error handler of `codecs` that makes the same replacements for a stream."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(SUBSTITUTES.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


codecs.register_error("agmbench", _substituted)


def printable(text: str) -> str:
    """Someone else's text made safe for a terminal: characters on which the terminal would act are spelt out, as `\\x1b`."""
    return UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
