"""Reads the file of a table as a data frame: csv, tsv, jsonl, parquet, or a folder that Hugging Face `datasets` has saved."""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import json as arrow_json
from pyarrow import parquet

from agmbench.contracts import Unsuitable
from agmbench.datasets.arrays import Array
from agmbench.datasets.untrusted import regular

SEPARATORS = ",;\t|"
EMPTY = ["", "nan", "NaN", "NAN", "#N/A"]  # cells that count as empty; 'NA' and 'None' do not, as they may be classes
SPLIT = "split"


class Rows:
    """The rows of a table. `first` is the number of the first row, as a spreadsheet or an editor shows it."""

    def __init__(self, frame: pd.DataFrame, path: Path, first: int) -> None:
        frame.columns = _names(frame.columns, path)
        self.frame, self.path, self.first = frame, path, first
        self._cells: dict[str, Array] = {}

    def __len__(self) -> int:
        return len(self.frame)

    def column(self, name: str) -> Array:
        """The cells of a column; empty ones are NaN or None."""
        if name not in self.frame.columns:
            known = ", ".join(map(str, self.frame.columns[:20]))
            raise Unsuitable(f"{self.path} has no column '{name}'; it has {known or 'none'}")
        if name not in self._cells:
            self._cells[name] = self.frame[name].to_numpy()
        return self._cells[name]

    def texts(self, name: str) -> pa.Array | None:
        """The cells of a column of text as an Arrow array, on which a million cells can be checked at once; `None` if the column has other
        cells than text and empty ones."""
        if not isinstance(self.frame[name].dtype, pd.StringDtype):
            return None
        cells = pa.array(self.frame[name].array, pa.large_string())
        return cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells

    def empty(self, name: str) -> Array:
        """Which cells of a column are empty, `[N]`."""
        self.column(name)
        found: Array = self.frame[name].isna().to_numpy()
        return found

    def cell(self, row: int, name: str) -> str:
        """The content of a cell, as an error quotes it."""
        if self.empty(name)[row]:
            return "an empty cell"
        found = self.column(name)[row]
        return f"{found.item() if isinstance(found, np.generic) else found!r}"[:200]

    def where(self, row: int, column: str) -> str:
        """The place of a cell, as an error names it."""
        return f"{self.path}, row {row + self.first}, column '{column}'"


def read_rows(path: Path) -> Rows:
    """Read the rows of a table; its suffix determines the format. Raises `Unsuitable` if it cannot be read or has no rows."""
    if path.is_dir():
        return Rows(_saved(path), path, 1)
    regular(path)
    readers: dict[str, tuple[Callable[[Path], pd.DataFrame], int]] = {
        ".csv": (_separated, 2),
        ".tsv": (_separated, 2),
        ".parquet": (_parquet, 1),
        ".jsonl": (_lines, 1),
    }
    if path.suffix.lower() not in readers:
        kinds = ", ".join(readers)
        raise Unsuitable(
            f"{path} is not a table that agmbench can read; expected {kinds}, or a folder of Hugging Face datasets"
        )
    read, first = readers[path.suffix.lower()]
    try:
        frame = read(path)
    except Unsuitable:
        raise
    except Exception as error:  # pandas and pyarrow raise what they like
        raise Unsuitable(f"{path} cannot be read as a table: {_said(error)}") from error
    if not len(frame):
        raise Unsuitable(f"{path} has no rows; expected one row per sample below a line of column names")
    return Rows(frame, path, first)


def _names(columns: Iterable[Any], path: Path) -> list[str]:
    """The names of columns, without spaces around them. Raises `Unsuitable` if a name occurs twice."""
    names = [str(name).strip() for name in columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Unsuitable(f"{path} has the column '{twice[0]}' twice; rename one of them")
    return names


def _separator(header: str) -> str:
    """The separator that occurs most often in the line of column names; a comma if none occurs."""
    counts = {separator: header.count(separator) for separator in SEPARATORS}
    best = max(counts, key=lambda separator: counts[separator])
    return best if counts[best] else ","


def _separated(path: Path) -> pd.DataFrame:
    with path.open("rb") as file:
        head = file.read(1 << 16)
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    header = head.decode(encoding, errors="replace").splitlines()[:1]
    if not header:
        raise Unsuitable(f"{path} is empty; expected a line of column names and one row per sample")
    separator = "\t" if path.suffix.lower() == ".tsv" else _separator(header[0])
    kind: dict[str, Any] = {"sep": separator, "encoding": encoding, "na_values": EMPTY, "keep_default_na": False}
    try:
        first = pd.read_csv(path, header=None, nrows=1, dtype=str, **kind)
        _names(first.iloc[0].dropna(), path)  # checked here, because pandas renames the second of two columns `x` to `x.1`
        frame = pd.read_csv(path, low_memory=False, **kind)
    except UnicodeDecodeError as error:
        raise Unsuitable(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8 text") from error
    return _decimals(frame) if separator == ";" else frame


def _decimals(frame: pd.DataFrame) -> pd.DataFrame:
    """Turn columns of text such as `1,5` into numbers; tables that are separated by `;` often have decimal commas."""
    for name in frame.columns:
        if frame[name].dtype.kind not in "iufb":
            numbers = pd.to_numeric(frame[name].astype("string").str.replace(",", "."), errors="coerce")
            if not (numbers.isna() & frame[name].notna()).any():
                frame[name] = numbers.astype(float)
    return frame


def _parquet(path: Path) -> pd.DataFrame:
    return _frame(parquet.read_table(path))


def _lines(path: Path) -> pd.DataFrame:
    try:
        return _frame(arrow_json.read_json(path))
    except pa.ArrowInvalid as error:
        said = re.sub(r"in row (\d+)", lambda found: f"in row {int(found[1]) + 1}", _said(error))  # Arrow counts from 0
        raise Unsuitable(
            f'{path} cannot be read as a table: {said}; expected one row per line, as in {{"x": 1.5, "label": "cat"}}, with values of one '
            "type in each column"
        ) from error


def _frame(table: pa.Table) -> pd.DataFrame:
    for place, kind in enumerate(table.schema.types):
        if pa.types.is_decimal(kind):  # the type of many numbers in databases
            table = table.set_column(place, table.column_names[place], table.column(place).cast(pa.float64()))
    frame: pd.DataFrame = table.to_pandas().reset_index(drop=True)
    for name, kind in zip(table.column_names, table.schema.types, strict=True):
        if pa.types.is_struct(kind) and {field.name for field in kind} >= {
            "bytes",
            "path",
        }:  # the form of a picture or a sound in Hugging Face datasets
            frame[name] = [cell and (cell["bytes"] or cell["path"]) for cell in frame[name]]
    return frame


def _parts(index: Path) -> dict[str, Path]:
    """The folders of a `DatasetDict`, by the names of splits."""
    try:
        return {name: index.parent / name for name in json.loads(index.read_text())["splits"]}
    except (ValueError, LookupError, TypeError) as error:
        raise Unsuitable(f"{index} names no splits; expected what save_to_disk of Hugging Face datasets writes") from error


def _saved(folder: Path) -> pd.DataFrame:
    """Read a `DatasetDict` or a `Dataset` that `save_to_disk` has written. The folders of a `DatasetDict` give the column `split`."""
    index = folder / "dataset_dict.json"
    split = index.is_file()
    frames = []
    for name, part in (_parts(index) if split else {folder.name: folder}).items():
        files = sorted(part.glob("*.arrow"))
        if not files:
            raise Unsuitable(f"{part} has no .arrow file; expected a folder of Hugging Face datasets (save_to_disk)")
        table = pa.concat_tables([_arrow(path) for path in files])
        frame = _named(_frame(table), part)
        frames.append(frame.assign(**{SPLIT: name}) if split else frame)
    return pd.concat(frames, ignore_index=True)


def _arrow(path: Path) -> pa.Table:
    try:
        with pa.memory_map(str(regular(path))) as source:
            return pa.ipc.open_stream(source).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise Unsuitable(f"{path} cannot be read as an Arrow stream: {_said(error)}") from error


def _named(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Replace the numbers of classes by their names, if the folder has them."""
    try:
        features = json.loads((folder / "dataset_info.json").read_text())["features"]
    except (OSError, ValueError, KeyError):
        return frame
    for column, feature in features.items():
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and column in frame:
            names = np.array([*feature.get("names", []), None], dtype=object)
            frame[column] = [names[number] if 0 <= number < len(names) - 1 else None for number in frame[column]]
    return frame


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return re.sub(r"^Error tokenizing data\. C error: ", "", text)


def as_text(value: Any) -> str:
    """A cell as text; whole numbers have no decimal point."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def as_number(cell: Any) -> float:
    """A cell as a number; text may have a decimal point or comma. NaN if it is not a number."""
    try:
        return float(str(cell).replace(",", ".")) if isinstance(cell, str) else float(cell)
    except (TypeError, ValueError):
        return float("nan")
