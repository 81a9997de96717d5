"""Opens a table: completes its settings, finds what is wrong or odd in its rows, and makes the four splits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from agmbench.contracts import SPLITS, SplitName, Unsuitable
from agmbench.datasets.arrays import Array
from agmbench.datasets.files import Held
from agmbench.datasets.stored import Stored, StoredSplit
from agmbench.datasets.tables import guess, shares, targets
from agmbench.datasets.tables.arrays import array_cell, read_array
from agmbench.datasets.tables.complaints import WAYS_OUT, Complaints
from agmbench.datasets.tables.kinds import Numbers, located, modality
from agmbench.datasets.tables.modals import Modal, columns_of, of_column, of_numbers
from agmbench.datasets.tables.rows import Rows, as_number, read_rows
from agmbench.datasets.tables.stored import Standard
from agmbench.datasets.tables.targets import Targets

TOLD = 5  # an error quotes at most so many lines


@dataclass(frozen=True)
class Opened:
    """An open table, with stated and inferred settings.

    `weights` `[N]` are the weights of the rows in the training loss; `None` if the table has none. The lines in `wrong` say why it cannot
    be trained on, those in `odd` what is seldom intended, and `notes` what a user should know.
    """

    rows: Rows
    root: Path
    settings: Mapping[str, Any]
    modals: Mapping[str, Modal]
    targets: Targets
    parts: Mapping[SplitName, Array]
    wrong: Sequence[str]
    odd: Sequence[str]
    notes: Sequence[str]
    unused: Sequence[str]
    weights: Array | None = None

    @property
    def files(self) -> list[Path]:
        """The files of the table itself, without the files that its cells name."""
        path = self.rows.path
        return sorted(path.rglob("*.arrow")) if path.is_dir() else [path]

    @property
    def kept(self) -> Array:
        """The rows that are in a split, in rising order."""
        return np.sort(np.concatenate([self.parts[name] for name in SPLITS]))

    def groups(self) -> dict[str, dict[SplitName, Sequence[str]]]:
        """The row, id and group of each sample of each split."""
        kinds = {"row": np.arange(self.rows.first, self.rows.first + len(self.rows))}
        for name in ("id", "group"):
            if column := self.settings[name]:  # a row without a group (or id) gets one of its own
                kinds[name] = np.where(
                    self.rows.empty(column), np.char.add("row ", kinds["row"].astype(str)), self._texts(column)
                )
        return {
            kind: {name: cells[some].astype(str).tolist() for name, some in self.parts.items()} for kind, cells in kinds.items()
        }

    def _texts(self, column: str) -> Array:
        return self.rows.column(column).astype(str)

    def held(self, files: Sequence[Path], stored: Mapping[str, Stored]) -> Held:
        """The four splits. `stored` has the inputs of modalities that are stored elsewhere, as in a prepared folder."""
        inputs = {}
        for name, modal in self.modals.items():
            one = stored.get(name, modal.stored)
            if getattr(modal.kind, "standardise", False):
                train = self.parts["train"]
                one = replace(one, convert=Standard(one, train[~modal.absent[train]], modal.shape))
            inputs[name] = one
        values = self.targets.values
        return Held(
            splits={
                name: StoredSplit(
                    inputs,
                    values[torch.from_numpy(some)],
                    some,
                    {m: torch.tensor(x.absent[some]) for m, x in self.modals.items() if x.absent[some].any()},
                    self._weighing() if name == "train" else None,
                )
                for name, some in self.parts.items()
            },
            shapes={name: modal.shape for name, modal in self.modals.items()},
            files=files,
            groups=self.groups(),
            notes=self.notes,
            odd=self.odd,
        )

    def _weighing(self) -> Tensor | None:
        """The weights of the samples of train, `[n]`, scaled to 1 on average; `None` without weights."""
        if self.weights is None or not len(self.parts["train"]):
            return None
        own = self.weights[self.parts["train"]]
        return torch.from_numpy(own / own.mean()).float()


def open_table(path: Path, given: Mapping[str, Any], anew: bool = False) -> Opened:
    """Open a table with the settings `given`; the others are inferred. Raises `Unsuitable` if the settings are wrong; what is wrong with
    rows is returned in `wrong`.

    anew: whether the table is described for the first time. Only then is a column of weights inferred, because earlier entries and jobs
        do not have one.
    """
    rows, root = read_rows(path), path.parent
    _beside(rows, root, given.get("arrays") or {})
    settings = {**given, **guess.roles(rows, given, anew)}
    found = targets.made(rows, settings["label"], given.get("task"), given.get("classes"))
    labels = [settings["label"]] if isinstance(settings["label"], str) else list(settings["label"])
    taken = {name for name in (*labels, *(settings[role] for role in ("split", "group", "id", "weight"))) if name}
    unused: list[str] = []
    if not given.get("modalities"):
        settings["modalities"], unused = guess.modalities(rows, root, taken)
        if not settings["modalities"]:
            raise Unsuitable(
                f"{path}: no column looks like a modality (of {', '.join(map(str, rows.frame.columns[:20]))}); name them, as in "
                "--set 'modalities={NAME: {kind: numbers, columns: [COLUMN, COLUMN]}}'"
            )
    settings["task"] = found.kind
    complaints, odd = Complaints(rows), Complaints(rows)
    lost = np.zeros(len(rows), dtype=bool)
    modals = {}
    for name, one in settings["modalities"].items():
        kind = modality(name, one)
        make = of_numbers if isinstance(kind, Numbers) else of_column
        modals[name], gone = make(rows, root, kind, complaints, odd)
        lost |= gone
        for column in sorted({*labels} & {*columns_of(rows, kind)}):
            odd.lines.append(
                f"{path}: column '{column}' is the label and also an input of '{name}', so the input gives the answer away"
            )
    weights, gone = _weights(rows, settings["weight"], complaints) if settings["weight"] else (None, lost)
    lost |= gone
    parts, notes = _parts(rows, settings, found, modals, lost, complaints, odd)
    if weights is not None and len(parts["train"]) and not weights[parts["train"]].any():
        complaints.add(settings["weight"], parts["train"], "the weight of each row of train is {}; expected one above 0")
    return Opened(rows, root, settings, modals, found, parts, complaints.lines, odd.lines, notes, unused, weights)


def _beside(rows: Rows, root: Path, arrays: Mapping[str, str]) -> None:
    """Add a column for each array, whose cells name the rows of the array. Raises `Unsuitable` unless it has as many rows as the table."""
    for name, cell in arrays.items():
        file, keys = array_cell(cell)
        found = len(read_array(located(root, file), keys))
        if found != len(rows):
            raise Unsuitable(f"array '{name}': {cell} has {found:,} rows; expected {len(rows):,}, as {rows.path} has")
        if name in rows.frame.columns:
            raise Unsuitable(f"array '{name}': {rows.path} already has a column of that name; choose another name")
        rows.frame[name] = [f"{cell}:{row}" for row in range(found)]


def _weights(rows: Rows, column: str, complaints: Complaints) -> tuple[Array, Array]:
    """The weight of each row, and which rows have no valid weight, `[N]`. These are added to `complaints`."""
    cells = rows.column(column)
    values = (cells if cells.dtype.kind in "iufb" else rows.frame[column].map(as_number).to_numpy()).astype(np.float64)
    wrong = ~(np.isfinite(values) & (values >= 0))
    complaints.add(column, np.flatnonzero(wrong), f"{{}} is not a weight; expected a finite number of 0 or more{WAYS_OUT}")
    return np.where(wrong, 0.0, values), wrong


def _unusable(
    label: str, missing: str, found: Targets, modals: Mapping[str, Modal], lost: Array, complaints: Complaints
) -> Array:
    """Which rows cannot be used, `[N]`. The reasons are added to `complaints`; but if `missing` is `drop`, all complaints are removed."""
    absent = np.stack([modal.absent for modal in modals.values()])
    if missing == "drop":
        complaints.lines.clear()
        return lost | found.unlabelled | absent.any(axis=0)
    complaints.add(label, np.flatnonzero(found.unlabelled), f"the row has no label that can be used ({{}}){WAYS_OUT}")
    for name, modal in modals.items() if missing == "error" else ():
        why = "the cell is empty; 'missing: absent' keeps such rows, without the modality"
        complaints.add(getattr(modal.kind, "column", name), np.flatnonzero(modal.absent), why)
    complaints.add(label, np.flatnonzero(absent.all(axis=0)), f"every modality of the row is empty{WAYS_OUT}")
    return lost | found.unlabelled | absent.all(axis=0)


def _parts(
    rows: Rows,
    settings: Mapping[str, Any],
    found: Targets,
    modals: Mapping[str, Modal],
    lost: Array,
    complaints: Complaints,
    odd: Complaints,
) -> tuple[dict[SplitName, Array], list[str]]:
    """The rows of each split, without rows that cannot be used, and notes for the user."""
    label = settings["label"] if isinstance(settings["label"], str) else settings["label"][0]
    missing = settings.get("missing", "absent")
    unusable = _unusable(label, missing, found, modals, lost, complaints)
    notes = []
    if missing == "drop" and unusable.any():
        notes.append(f"missing: drop leaves out {int(unusable.sum()):,} of {len(rows):,} rows")
    complaints.add(label, np.flatnonzero(found.unknown & ~found.unlabelled), "the label {} is not one of the stated classes")
    usable = np.flatnonzero(~unusable)
    if not len(usable):
        return dict.fromkeys(SPLITS, usable), notes
    named = rows.column(settings["split"])[usable] if settings["split"] else None
    if named is not None and (strange := shares.unknown(named)):
        complaints.add(settings["split"], usable[strange], "{} is not the name of a split; expected train, dev, valid or test")
        return dict.fromkeys(SPLITS, usable[:0]), notes
    groups = _groups(rows, settings["group"])[usable] if settings["group"] else None
    try:
        parts, said = shares.parts(named, settings.get("shares"), found.strata[usable], groups, settings.get("split_seed", 0))
    except Unsuitable as error:
        complaints.lines.append(f"{rows.path}: {error}")
        return dict.fromkeys(SPLITS, usable[:0]), notes
    parts = {name: usable[some] for name, some in parts.items()}
    _oddities(rows, settings, found, parts, odd, label)
    return parts, [*notes, *said]


def _groups(rows: Rows, column: str) -> Array:
    """The group of each row as a number, in the order of the groups' names. A row without a group is a group of its own."""
    empty = rows.empty(column)
    places, distinct = pd.factorize(rows.column(column))  # an empty cell has place -1
    alone = np.char.add("row ", np.flatnonzero(empty).astype(str))
    places[empty] = len(distinct) + np.arange(len(alone))
    _, numbers = np.unique(np.concatenate([distinct.astype(str), alone]), return_inverse=True)
    groups: Array = numbers[places]
    return groups


def _oddities(
    rows: Rows, settings: Mapping[str, Any], found: Targets, parts: Mapping[SplitName, Array], odd: Complaints, label: str
) -> None:
    """Add to `odd`: ids that occur twice, groups that are in two splits, classes that train lacks and classes with a single row."""
    if settings["id"]:
        cells = rows.frame[settings["id"]]
        odd.add(
            settings["id"],
            np.flatnonzero((cells.duplicated(keep=False) & cells.notna()).to_numpy()),
            "the id {} is in several rows",
        )
    if settings["group"] and settings["split"]:
        groups = _groups(rows, settings["group"])
        train = set(groups[parts["train"]])
        shared = [row for row in parts["test"] if groups[row] in train]
        odd.add(settings["group"], shared, "the group {} of test is in train too")
    if found.kind != "class":
        return
    if len(found.class_names) == 1:
        odd.add(label, np.sort(parts["train"]), "the class {} is the only one: there is nothing to learn")
    values = found.values.numpy()
    known = np.bincount(values[parts["train"]], minlength=len(found.class_names)) > 0
    for name, some in parts.items():
        odd.add(label, some[~known[values[some]]], f"the class {{}} is in {name} and not in train")
    used = np.concatenate(list(parts.values()))
    counts = np.bincount(values[used], minlength=len(found.class_names))
    odd.add(label, np.sort(used[counts[values[used]] == 1]), "the class {} has one row alone")
