"""What is wrong with rows of a table, told by row and column."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from agmbench.datasets.arrays import Array
from agmbench.datasets.tables.rows import Rows

NAMED = 3  # rows that a line names
WAYS_OUT = "; 'missing: drop' leaves such rows out"


@dataclass
class Complaints:
    """What is wrong with rows, a line for each column and reason."""

    rows: Rows
    lines: list[str] = field(default_factory=list)

    def add(self, column: str, places: Sequence[int] | Array, what: str) -> None:
        """Something that is wrong in these rows; `{}` stands for the cell of the first."""
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
