"""Collects what is wrong with rows of a table, as lines that name row and column."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from agmbench.datasets.arrays import Array
from agmbench.datasets.tables.rows import Rows

NAMED = 3  # a line names at most so many rows
WAYS_OUT = "; 'missing: drop' leaves such rows out"


@dataclass
class Complaints:
    """What is wrong with rows of a table: one line per column and reason."""

    rows: Rows
    lines: list[str] = field(default_factory=list)

    def add(self, column: str, places: Sequence[int] | Array, what: str) -> None:
        """Add a line about what is wrong in the rows `places`, if there are any. `{}` in `what` stands for the cell of the first row."""
        if not len(places):
            return
        first, *others = [int(place) for place in places[:NAMED]]
        cell = self.rows.cell(first, column) if column in self.rows.frame.columns else ""
        also = ""
        if others:
            named = ", ".join(str(place + self.rows.first) for place in others)
            also = f" ({len(places):,} such rows, also {named})"
        said = what.replace("{}", cell, 1)
        self.lines.append(f"{self.rows.where(first, column)}: {said}{also}")
