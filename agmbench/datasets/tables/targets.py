"""Turns the labels of a table into targets: a class, several labels, a number, or a class for each segment."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from agmbench.contracts import Unsuitable
from agmbench.datasets.arrays import Array
from agmbench.datasets.tables.arrays import WITHIN
from agmbench.datasets.tables.rows import Rows, as_text
from agmbench.tasks import MultiLabel, Regression, Segments, SingleLabel, Task

Kind = Literal["class", "labels", "number", "segments"]
MANY = 100  # a column with more different whole numbers does not have classes
BETWEEN = "|;"  # marks that separate several labels in a cell


@dataclass(frozen=True)
class Targets:
    """The targets of all rows. The `values` of rows without a label have no meaning. Splits are made even by `strata` `[N]`. `unlabelled`
    marks rows without a label, `unknown` rows whose label is not among the stated classes."""

    kind: Kind
    class_names: list[str]
    values: Tensor
    strata: Array
    unlabelled: Array
    unknown: Array

    def task(self, train: Array) -> Task:
        """The task that fits the targets. A regression is given the variance of the targets of train."""
        known: dict[str, Callable[[], Task]] = {"class": SingleLabel, "labels": MultiLabel, "segments": Segments}
        if self.kind in known:
            return known[self.kind]()
        spread = float(self.values[torch.from_numpy(train)].var(unbiased=False))
        return Regression(variance=spread or 1.0)


def made(rows: Rows, label: str | Sequence[str], kind: Kind | None, classes: Sequence[str] | None) -> Targets:
    """Make the targets of a table. `kind` and `classes` are inferred if they are not stated."""
    if not isinstance(label, str):
        return _columns(rows, list(label))
    cells, empty = rows.column(label), rows.empty(label)
    if empty.all():
        raise Unsuitable(f"{rows.path}: column '{label}' has no label at all")
    found = kind or inferred(cells[~empty])
    if found == "number":
        return _numbers(rows, label, cells, empty)
    if found == "class":
        return _single(cells, empty, classes)
    of = np.arange(len(cells))  # for each row, the number of its cell among the distinct ones
    if rows.texts(label) is not None:
        of, cells = pd.factorize(np.where(empty, "", cells))
    lists = [split_up(cell) if isinstance(cell, WITHIN) or not pd.isna(cell) else [] for cell in cells]
    return _several(rows, label, found, lists, of, empty, classes)


def inferred(cells: Array) -> Kind:
    """Infer the kind of labels from the cells that are not empty."""
    first = cells[0]
    if isinstance(first, list | tuple | np.ndarray):
        return "segments" if len({len(cell) for cell in cells}) == 1 and len(first) > 1 else "labels"
    if cells.dtype.kind in "iub":
        distinct = len(np.unique(cells))
        return "class" if distinct <= MANY and 2 * distinct <= len(cells) else "number"
    if cells.dtype.kind == "f":
        whole = bool((cells == np.round(cells)).all())
        return inferred(cells.astype(np.int64)) if whole else "number"
    return "labels" if any(mark in str(cell) for cell in cells[:1000] for mark in BETWEEN) else "class"


def split_up(cell: Any) -> list[Any]:
    """The labels in a cell, which is a list, or text separated by `|`, `;`, `,` or spaces."""
    if isinstance(cell, list | tuple | np.ndarray):
        return list(cell)
    text = str(cell).strip().strip("[]")
    mark = next((mark for mark in (*BETWEEN, ",") if mark in text), None)
    return [part.strip().strip("'\"") for part in (text.split(mark) if mark else text.split()) if part.strip()]


def _numbers(rows: Rows, label: str, cells: Array, empty: Array) -> Targets:
    try:
        values = np.where(empty, 0, cells).astype(np.float64)
    except (TypeError, ValueError) as error:
        row = next(place for place, cell in enumerate(cells) if not empty[place] and not _is_number(cell))
        raise Unsuitable(
            f"{rows.where(row, label)}: {rows.cell(row, label)} is not a number; state task: class if these are classes"
        ) from error
    wrong = ~np.isfinite(values)
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return Targets(
        "number", [label], torch.from_numpy(values).float(), ranks * 10 // len(ranks), empty | wrong, np.zeros_like(empty)
    )


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True


def _columns(rows: Rows, columns: list[str]) -> Targets:
    """The targets of several labels that have one column of 0 and 1 each."""
    empty = np.any([rows.empty(name) for name in columns], axis=0)
    values = np.zeros((len(rows), len(columns)), np.float32)
    for place, name in enumerate(columns):
        for row, cell in enumerate(rows.column(name)):
            if not empty[row] and (not _is_number(cell) or float(cell) not in (0, 1)):
                raise Unsuitable(f"{rows.where(row, name)}: {rows.cell(row, name)} is not a label; expected 0 or 1")
        values[~empty, place] = rows.column(name)[~empty].astype(np.float32)
    start = _common(columns)
    names = [name.removeprefix(start) or name for name in columns]
    return Targets("labels", names, torch.from_numpy(values), values.argmax(axis=1), empty, np.zeros_like(empty))


def _common(names: list[str]) -> str:
    prefix = names[0].partition("_")[0] + "_"
    return prefix if all(name.startswith(prefix) for name in names) else ""


def _single(cells: Array, empty: Array, classes: Sequence[str] | None) -> Targets:
    places, distinct = pd.factorize(cells)  # an empty cell has place -1
    texts = [as_text(item).strip() for item in distinct]
    names = [str(name) for name in classes] if classes else sorted_names(distinct)
    number = {name: place for place, name in enumerate(names)}
    found = np.array([*(number.get(text, -1) for text in texts), 0])[np.where(empty, len(texts), places)]
    values = found.clip(min=0)
    return Targets("class", names, torch.from_numpy(values), values, empty, found < 0)


def _several(
    rows: Rows, label: str, kind: Kind, lists: list[list[Any]], of: Array, empty: Array, classes: Sequence[str] | None
) -> Targets:
    """The targets of rows with several labels each, or with one label per segment. Row i has the labels `lists[of[i]]`."""
    flat = [item for cells in lists for item in cells]
    names = [str(name) for name in classes] if classes else sorted_names(flat)
    number = {name: place for place, name in enumerate(names)}
    found = [[number.get(as_text(item).strip(), -1) for item in cells] for cells in lists]
    unknown = np.array([-1 in cells for cells in found])
    if kind == "labels":
        values = torch.zeros(len(found), len(names))
        for row, cells in enumerate(found):
            values[row, [place for place in cells if place >= 0]] = 1
        strata = np.array([cells[0] if cells else -1 for cells in found])
    else:
        length = max(len(cells) for cells in found)
        empty = empty | np.array([not cells for cells in found])[of]
        odd = np.flatnonzero(np.array([bool(cells) and len(cells) != length for cells in found])[of])
        if len(odd):
            raise Unsuitable(
                f"{rows.where(odd[0], label)}: {len(found[of[odd[0]]])} segments; expected {length}, as other rows have"
            )
        filled = np.array([cells or [0] * length for cells in found]).clip(min=0)
        values, strata = torch.from_numpy(filled), np.array([np.bincount(row).argmax() for row in filled])
    return Targets(kind, names, values[torch.from_numpy(of)], strata[of], empty, unknown[of])


def sorted_names(items: Sequence[Any]) -> list[str]:
    """The names of all classes, sorted: whole numbers by size, text by the alphabet."""
    texts = {as_text(item).strip() for item in set(items)}
    if all(text.lstrip("-").isdecimal() for text in texts):
        return sorted(texts, key=int)
    return sorted(texts)
