"""Escaping text written by others, so that every format shows it as it is and never interprets it."""

import re

from agmbench.errors import printable

# what Markdown would interpret: its special characters anywhere, a '_' that is not within a word, a bracket that makes a link
_MARKS = re.compile(r"[\\`*<>|~$&]|(?<!\w)_|_(?!\w)|(?<=\])[(\[:]")


def markdown(text: str) -> str:
    """Escape text for a paragraph of Markdown or a cell of a table."""
    return _MARKS.sub(lambda found: f"\\{found[0]}", one_line(text))


def one_line(text: str) -> str:
    """The text on one line (line ends become spaces), without characters that a terminal would act on."""
    return printable(" ".join(text.splitlines()))
