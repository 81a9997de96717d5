"""Tables on the terminal: they are fitted to its width by leaving out less important columns, and each explanation is printed once."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from agmbench.errors import printable
from agmbench.report import sheets
from agmbench.report.grid import HEAD, folded, print_grid, room, width
from agmbench.report.sheets import INTERVAL, Sheet, without
from agmbench.report.tables import BASELINE, Table

if TYPE_CHECKING:
    from rich.table import Table as RichTable

SENTENCE = re.compile(r"(?<=\.) +(?=\S)")
LEFT_OUT_FIRST = ("d_z", "p", "wins/ties/losses", INTERVAL, "cells", "pairs")  # after these the others, from last to first


def show(*tables: Table, baseline: str = BASELINE) -> None:
    """Print the tables, and the sheets over all cells."""
    show_sheets([*(sheet for table in tables for sheet in sheets.of_table(table, baseline)), *sheets.of_all(tables, baseline)])


def show_sheets(every: Iterable[Sheet]) -> None:
    """Print sheets. A sentence of a caption that has already been printed is not repeated."""
    said: set[str] = set()
    for sheet in every:
        caption = [text for text in SENTENCE.split(sheet.caption) if text not in said]
        said.update(caption)
        show_sheet(replace(sheet, caption=" ".join(caption)))


def show_sheet(sheet: Sheet) -> None:
    """Print one sheet: the table, the names of columns that were left out, its notes and its caption."""
    full = sheets.filled(sheet)
    fitted, dropped = _fitted(full)
    _print(fitted)
    if dropped:
        _say(f"Left out to fit {room()} columns: {', '.join(dropped)}. A terminal of {width(_grid(full))} columns shows all.")
    for text in (*fitted.notes, fitted.caption):
        _say(text)
    print()


def _fitted(sheet: Sheet) -> tuple[Sheet, list[str]]:
    """The sheet without as many of its least important columns as is necessary to fit, and the names of these in the table's order."""
    limit = room()
    gone: list[int] = []
    for x in _least_important(sheet.header):
        if limit is None or width(_grid(without(sheet, gone))) <= limit:
            break
        gone.append(x)
    return without(sheet, gone), [sheet.header[x] for x in sorted(gone)]


def _least_important(header: Sequence[str]) -> Iterator[int]:
    """The places of columns, in the order in which they are left out. The column of names and the first figure always stay."""
    first = next((x for x, title in enumerate(header) if x and title not in ("n", "source", *LEFT_OUT_FIRST)), 1)
    early = [header.index(title) for title in LEFT_OUT_FIRST if title in header]
    yield from early
    yield from (x for x in reversed(range(1, len(header))) if x != first and x not in early)


def _grid(sheet: Sheet) -> "RichTable":
    from rich.markup import escape
    from rich.table import Table as RichTable

    grid = RichTable(*map(escape, sheet.header), box=HEAD, pad_edge=False)
    for column in grid.columns[1:]:
        column.justify = "right"
    for y, row in enumerate(sheet.body):
        texts = (f"[bold]{escape(text)}[/bold]" if (y, x) in sheet.bold else escape(text) for x, text in enumerate(row))
        grid.add_row(*texts)
    return grid


def _print(sheet: Sheet) -> None:
    _say(sheet.title)
    print_grid(_grid(sheet))


def _say(text: str) -> None:
    """Print a paragraph, wrapped at words."""
    if text:
        print(folded(printable(text)))
