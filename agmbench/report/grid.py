"""Prints tables: fitted to the width of a terminal or to COLUMNS, at full width on a pipe, and in ASCII if the output allows only that."""

import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import Box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agmbench.errors import encodable, printable

HEAD = Box("    \n    \n ── \n    \n    \n    \n    \n    \n")  # only one line, below the header
HEAD_ASCII = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
ALL = 10_000  # so many columns that every table fits
NARROW = 72  # the smallest number of columns in which a table of sentences can be read


class _Console(Console):
    """A console that interprets no text except rich's own markup."""

    def render_str(self, text: str, **style: Any) -> Text:
        return super().render_str(encodable(printable(text), self.encoding), **style)


def room() -> int | None:
    """The number of columns on the output; `None` on a pipe, where a table may have any width, unless COLUMNS is set."""
    return _Console().width if os.environ.get("COLUMNS", "").isdigit() or sys.stdout.isatty() else None


def folded(text: str, later: str = "") -> str:
    """A text wrapped at words to the width of the output, with `later` before each line except the first; on a pipe it is not changed."""
    limit = room()
    if limit is None:
        return text
    return textwrap.fill(text, limit, subsequent_indent=later, break_long_words=False, break_on_hyphens=False)


def width(grid: Table) -> int:
    """The number of columns that a table takes if nothing in it is wrapped."""
    console = _Console()
    return console.measure(grid, options=console.options.update(width=ALL)).maximum


def print_grid(grid: Table) -> None:
    """Print a table to standard output. If the width is not limited, nothing in it is wrapped."""
    console = _Console()
    if grid.box is HEAD and console.options.ascii_only:
        grid.box = HEAD_ASCII
    if room() is None:
        grid.min_width = len(str(grid.title or ""))
        console.width = max(console.width, width(grid))
    console.print(grid)


def print_sentences(grid: Table, rows: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Print a table of sentences. If the output is too narrow for it, print its `rows` instead: a line for each, and its texts indented
    below it."""
    limit = room()
    if limit is None or limit >= NARROW:
        print_grid(grid)
        return
    for first, texts in rows:
        print(encodable(printable(first), _Console().encoding))
        for text in filter(None, texts):
            folded = textwrap.fill(text, limit, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
            print(encodable(printable(folded), _Console().encoding))
