"""Printing a table: fitted to the width of a terminal or to COLUMNS, complete on a pipe, in ASCII where there is nothing else."""

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

HEAD = Box("    \n    \n ── \n    \n    \n    \n    \n    \n")  # a line below the header, and no other
HEAD_ASCII = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
ALL = 10_000  # columns, in which every table fits
NARROW = 72  # columns, below which a table of sentences cannot be read


class _Console(Console):
    """A console that interprets no text except rich's own markup."""

    def render_str(self, text: str, **style: Any) -> Text:
        return super().render_str(encodable(printable(text), self.encoding), **style)


def room() -> int | None:
    """How many columns there are; `None` on a pipe, where a table may be as wide as it is, unless COLUMNS says otherwise."""
    return _Console().width if os.environ.get("COLUMNS", "").isdigit() or sys.stdout.isatty() else None


def folded(text: str, later: str = "") -> str:
    """A text wrapped at words to the columns that there are, `later` before each line but the first; on a pipe as it is."""
    limit = room()
    if limit is None:
        return text
    return textwrap.fill(text, limit, subsequent_indent=later, break_long_words=False, break_on_hyphens=False)


def width(grid: Table) -> int:
    """How many columns a table takes if nothing in it is folded."""
    console = _Console()
    return console.measure(grid, options=console.options.update(width=ALL)).maximum


def print_grid(grid: Table) -> None:
    """Print to standard output; where there is no limit, no column and no title is folded."""
    console = _Console()
    if grid.box is HEAD and console.options.ascii_only:
        grid.box = HEAD_ASCII
    if room() is None:
        grid.min_width = len(str(grid.title or ""))
        console.width = max(console.width, width(grid))
    console.print(grid)


def print_sentences(grid: Table, rows: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Print a table of sentences; where it is too narrow for one, its `rows`: a line for each, and below it its texts, indented."""
    limit = room()
    if limit is None or limit >= NARROW:
        print_grid(grid)
        return
    for first, texts in rows:
        print(encodable(printable(first), _Console().encoding))
        for text in filter(None, texts):
            folded = textwrap.fill(text, limit, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
            print(encodable(printable(folded), _Console().encoding))
