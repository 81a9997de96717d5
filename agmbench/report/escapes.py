"""Strangers' text in a written form: shown as it is, taken for nothing else."""

import re

from agmbench.errors import printable

# what Markdown would act on: a letter of its own anywhere, a '_' that is not within a word, a bracket that makes a link
_MARKS = re.compile(r"[\\`*<>|~$&]|(?<!\w)_|_(?!\w)|(?<=\])[(\[:]")


def markdown(text: str) -> str:
    """For a paragraph of Markdown, or a cell of a table."""
    return _MARKS.sub(lambda found: f"\\{found[0]}", one_line(text))


def one_line(text: str) -> str:
    """A text whose line ends are spaces, without what a terminal would act on."""
    return printable(" ".join(text.splitlines()))
