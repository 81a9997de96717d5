"""The modalities of a table: how their cells are stored and read, and which rows lack them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agmbench.contracts import Unsuitable
from agmbench.datasets.arrays import Array
from agmbench.datasets.media import Decoded
from agmbench.datasets.stored import Stored
from agmbench.datasets.tables.arrays import WITHIN
from agmbench.datasets.tables.complaints import WAYS_OUT, Complaints
from agmbench.datasets.tables.kinds import DRIVE, Kind, Numbers, lacking
from agmbench.datasets.tables.rows import Rows, as_number
from agmbench.datasets.tables.stored import Ragged, is_sequence


class Cells(Sequence[Any]):
    """The cells of a column as things to decode: pairs of a row and its cell, which is `None` if the row lacks the modality."""

    def __init__(self, cells: Array, absent: Array) -> None:
        self.cells, self.absent = cells, absent

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, row: Any) -> Any:
        return int(row), None if self.absent[row] else self.cells[row]


@dataclass(frozen=True)
class Reader:
    """Reads the cells of one modality. A cell that cannot be read raises `Unsuitable` with row and column."""

    kind: Kind
    rows: Rows
    root: Path
    original: bool = False

    def __call__(self, thing: tuple[int, Any]) -> Array:
        row, cell = thing
        if cell is None:
            return self.kind.blank[:0] if self.kind_is_sequence else self.kind.blank
        try:
            return self.kind.original(self.root, cell) if self.original else self.kind.read(self.root, cell)
        except (Unsuitable, OSError, ValueError) as error:
            raise Unsuitable(f"{self.rows.where(row, self.kind.column)}: {' '.join(str(error).split())}") from error

    @property
    def kind_is_sequence(self) -> bool:
        """Whether the samples may differ in length."""
        return is_sequence(self.kind)


class Modal(NamedTuple):
    """One modality of all rows: how it is stored, the shape of a sample, and in which rows it is absent."""

    kind: Any
    stored: Stored
    shape: tuple[int, ...]
    absent: Array


def of_column(rows: Rows, root: Path, kind: Kind, complaints: Complaints, odd: Complaints) -> tuple[Modal, Array]:
    """The modality of one column, and which rows name files that do not exist, `[N]`. These are added to `complaints`."""
    cells, absent = rows.column(kind.column), rows.empty(kind.column)
    lost = np.zeros(len(rows), dtype=bool)
    if kind.names_files or getattr(kind, "in_files", False):
        lost[_leading_nowhere(rows, root, kind, absent, complaints, odd)] = True
    else:
        whole = rows.texts(kind.column)
        said = pa.array([str(cell) for cell in cells[~absent]], pa.string()) if whole is None else whole.drop_null()
        blank = _are(pc.equal(pc.utf8_trim_whitespace(said), ""))
        odd.add(kind.column, np.flatnonzero(~absent)[blank], "the text {} is empty")
    things, read = Cells(cells, absent), Reader(kind, rows, root)
    decoded = Decoded(things, read, replace(read, original=True))
    stored = Ragged(decoded, kind.convert, shape=kind.shape) if is_sequence(kind) else Stored(decoded, kind.convert)
    return Modal(kind, stored, kind.shape, absent), lost


def _leading_nowhere(rows: Rows, root: Path, kind: Kind, absent: Array, complaints: Complaints, odd: Complaints) -> Array:
    """The rows whose cells name files that do not exist; they are added to `complaints`. Files outside the table's folder are added to
    `odd`."""
    whole, cells = rows.texts(kind.column), rows.column(kind.column)
    there = np.flatnonzero(~absent)
    if whole is None:
        there = there[[not isinstance(cell, WITHIN) for cell in cells[there]]]
    texts = kind.files_of(cells[there] if whole is None else whole.drop_null())
    drives = _are(pc.match_substring_regex(texts, f"^(?:{DRIVE.pattern})"))
    complaints.add(kind.column, there[drives], f"{{}} is a Windows path with a drive; expected a path from {root}")
    gone = lacking(root, texts) & ~drives
    complaints.add(kind.column, there[gone], f"there is no {{}} in {root}{WAYS_OUT}")
    up = _are(pc.or_(pc.starts_with(texts, "/"), pc.starts_with(texts, "..")))
    outside = [there[place] for place in np.flatnonzero(up & ~drives) if _outside(root, texts[int(place)].as_py())]
    odd.add(kind.column, outside, f"{{}} is outside the table's folder {root}")
    return there[drives | gone]


def _are(found: pa.Array) -> Array:
    which: Array = found.to_numpy(zero_copy_only=False).astype(bool)
    return which


def _outside(root: Path, text: str) -> bool:
    return not (root / text).resolve().is_relative_to(root.resolve())


def columns_of(rows: Rows, kind: Kind | Numbers) -> list[str]:
    """The columns that a modality consists of."""
    if not isinstance(kind, Numbers):
        return [kind.column]
    pattern = kind.columns
    return [n for n in rows.frame.columns if fnmatchcase(n, pattern)] if isinstance(pattern, str) else list(pattern)


def of_numbers(rows: Rows, root: Path, kind: Numbers, complaints: Complaints, odd: Complaints) -> tuple[Modal, Array]:
    """The modality of several columns, and which rows cannot be used because some of their cells are empty or no finite number, `[N]`.
    These are added to `complaints`. A row with only empty cells lacks the modality."""
    columns = columns_of(rows, kind)
    if not columns:
        raise Unsuitable(f"{rows.path} has no column '{kind.columns}'; it has {', '.join(map(str, rows.frame.columns[:20]))}")
    values = np.empty((len(rows), len(columns)), np.float32)
    texts = np.zeros(len(rows), dtype=bool)
    for place, name in enumerate(columns):
        cells = rows.column(name)
        if cells.dtype.kind not in "iufb":
            numbers = rows.frame[name].map(as_number).to_numpy(dtype=float)
            wrong = np.isnan(numbers) & ~rows.empty(name)
            complaints.add(name, np.flatnonzero(wrong), f"{{}} is not a number; expected one, or an empty cell{WAYS_OUT}")
            cells, texts = numbers, texts | wrong
        with np.errstate(over="ignore"):
            values[:, place] = cells
    finite = np.isfinite(values)
    absent = np.all(np.isnan(values), axis=1)
    partly = ~finite.all(axis=1) & ~absent & ~texts
    if partly.any():
        first = columns[int(np.flatnonzero(~finite[np.flatnonzero(partly)[0]])[0])]
        why = f"{{}} is not a finite number of 32 bits, while other columns of the modality have some{WAYS_OUT}"
        complaints.add(first, np.flatnonzero(partly), why)
    values[absent] = 0
    lost = partly | (texts & ~absent)
    return Modal(kind, Stored(values), (len(columns),), absent), lost
