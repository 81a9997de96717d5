"""Printing a table: fitted to the width of a terminal, complete on a pipe."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agmbench.errors import printable


class _Console(Console):
    """A console that interprets no text except rich's own markup."""

    def render_str(self, text: str, **style: Any) -> Text:
        return super().render_str(printable(text), **style)


def print_grid(grid: Table) -> None:
    """Print to standard output; if that is not a terminal, no column is folded."""
    console = _Console()
    if not console.is_terminal:
        whole = console.options.update(width=10_000)
        grid.min_width = len(str(grid.title or ""))
        console.width = max(console.width, console.measure(grid, options=whole).maximum)
    console.print(grid)
