"""Printing a table: to the width of a terminal, whole on a pipe."""

from rich.console import Console
from rich.table import Table


def print_grid(grid: Table) -> None:
    """Print to standard output; where that is no terminal, no column is folded."""
    console = Console()
    if not console.is_terminal:
        whole = console.options.update(width=10_000)
        grid.min_width = len(str(grid.title or ""))
        console.width = max(console.width, console.measure(grid, options=whole).maximum)
    console.print(grid)
