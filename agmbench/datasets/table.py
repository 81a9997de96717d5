"""table: your own data as one file with one row per sample. Its columns have, or name the files of, the modalities and the label."""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt

from agmbench.contracts import Unsuitable
from agmbench.datasets import prepared
from agmbench.datasets.arrays import Array
from agmbench.datasets.checksums import checksum, fingerprint
from agmbench.datasets.files import SAMPLE, FileDataset, Held, Layout, Origin, Progress, Source, folder
from agmbench.datasets.stored import Stored
from agmbench.datasets.tables.arrays import WITHIN
from agmbench.datasets.tables.kinds import Numbers, located
from agmbench.datasets.tables.opened import TOLD, Opened, open_table
from agmbench.datasets.tables.shares import SHARES
from agmbench.datasets.tables.stored import Masked, is_sequence
from agmbench.datasets.untrusted import regular

FILE = "table.csv"
Share = Annotated[float, Gt(0)]


class Files(Layout):
    """A table and the files that it names, which are read when a batch needs them."""

    name = "files"
    signs = (FILE,)
    sampler = "agmbench.datasets.samples.table:files"

    def read(self, root: Path, **options: Any) -> Held:
        opened = sound(root, options["settings"])
        return opened.held(opened.files, {})


class Ready(Layout):
    """A table with a prepared folder: the arrays that `agmbench data prepare` made of its files are mapped from disk."""

    name = "prepared"
    signs = (FILE,)
    sampler = "agmbench.datasets.samples.table:files"

    def read(self, root: Path, **options: Any) -> Held:
        opened = sound(root, options["settings"])
        made = prepared_for(opened)
        if made is None:
            raise Unsuitable(f"{_home(opened)} has no prepared folder of this table; prepare it again")
        return mapped(opened, made)


def sound(root: Path, settings: str) -> Opened:
    """Open a table. Raises `Unsuitable` with one line if something is wrong with it."""
    given = json.loads(settings)
    opened = open_table(root / given["file"], given)
    if opened.wrong:
        more = f"; and {len(opened.wrong) - TOLD} more" if len(opened.wrong) > TOLD else ""
        raise Unsuitable("; ".join(opened.wrong[:TOLD]) + more)
    return opened


def decoded(opened: Opened) -> list[str]:
    """The modalities whose cells have to be decoded: all but those of kind `numbers`."""
    return [name for name, modal in opened.modals.items() if not isinstance(modal.kind, Numbers)]


class Table(FileDataset):
    """One file with one row per sample: csv, tsv, jsonl, parquet, or a folder that Hugging Face `datasets` has saved. `agmbench data
    describe FILE` writes an entry with all of these settings. A setting that is missing is inferred from the names of the columns and the
    first rows.

    file: the path of the table, relative to the folder of the entry (or to the data root, if there is no entry).
    arrays: by name, a file with an array (`features.npy`, `features.h5:audio`) whose row i belongs to row i of the table, like one more
        column.
    modalities: by name, a `kind` and its settings. `picture` (`column`, `size` [height, width], `channels` 3 or 1), `frames` (a folder
        of pictures) and `video` (`frames` of them, `size`), `sound` (`rate`, `seconds`, `made` spectrogram or wave, `window`, `hop`),
        `text` (`length`, `vocabulary`, `numbers` words or bytes, `in_files`), `array` (`size` of a sample, `varies`, `standardise`) and
        `numbers` (`columns`, a list or a pattern such as `eeg_*`, `standardise`).
    label: the column of the label, or the columns of several labels that are 0 or 1.
    task: `class`, `labels` (several, separated by `|` or `;`, or a list), `number`, or `segments` (a list of classes, one per segment).
    classes: the names of the classes, in order. Default: those that occur, sorted.
    split: the column that names the split of each row: train, dev, valid or test, or a similar name. If it has no dev or no valid,
        these are cut from train, a tenth each.
    shares: the share of each split if there is no such column, stratified by label. Default .7, .1, .1, .1.
    split_seed: the seed of splits that are drawn, whatever the job's seed. Default 0.
    group: a column (subject, speaker, video); rows with the same value are never put into two splits.
    weight: a column with the weight of each row in the training loss, 0 or more; only the ratios matter. Valid and test are measured
        without weights. Default: all rows count the same.
    id: a column that names rows in the output of `agmbench data verify`.
    missing: how an empty cell is treated. `absent` (default): the sample is trained on and judged without that modality, whose input is
        muted (the job's `mute`). `drop`: the row is left out, as are rows whose files are missing. `error`: it is an error.

    Encoders get a text as the numbers of its words, which are made by a hash. Arrays and numbers are standardised by train. Rows are
    counted as in a spreadsheet, where the line of names is row 1.
    """

    name = "table"
    wants_folder = True
    source = Source(
        page="your own files",
        licence="your own",
        size="any",
        then="run 'agmbench data describe FILE'. It writes an entry, which you give as --dataset",
    )
    layouts: ClassVar = (Files(),)

    def __init__(
        self,
        seed: int,
        at: Path | None = None,
        *,
        file: str = FILE,
        arrays: dict[str, str] | None = None,
        modalities: dict[str, Any] | None = None,
        label: str | list[str] | None = None,
        task: Literal["class", "labels", "number", "segments"] | None = None,
        classes: list[str] | None = None,
        split: str | None = None,
        shares: dict[Literal["train", "dev", "valid", "test"], Share] | None = None,
        split_seed: Annotated[int, Ge(0)] = 0,
        group: str | None = None,
        weight: str | None = None,
        id: str | None = None,
        missing: Literal["absent", "drop", "error"] = "absent",
    ) -> None:
        given = _stated(locals())
        root = (at or folder(self.name)).absolute()
        if not (root / file).exists():
            raise Unsuitable(f"there is no {root / file}; 'agmbench data describe FILE' writes an entry for a table of yours")
        if shares is not None and set(shares) != set(SHARES):
            raise Unsuitable(f"shares should name {', '.join(SHARES)}; found {', '.join(shares)}")
        self._open(root, json.dumps(given))

    def _open(self, root: Path, settings: str) -> None:
        opened = sound(root, settings)
        made = prepared_for(opened)
        self.layout, self.made = (Files() if made is None else Ready()), made
        held = opened.held(opened.files, {}) if made is None else mapped(opened, made)
        options = (("settings", settings),)
        self.held = replace(held, splits={n: s.found_at(Origin(self.layout, root, options, n)) for n, s in held.splits.items()})
        self.shapes, self.class_names = held.shapes, opened.targets.class_names
        self.task = opened.targets.task(opened.parts["train"])
        self.root, self.sample = opened.root, (root / SAMPLE).is_file()
        self.fingerprint = fingerprint(opened.root, held.files, [self.layout.name, json.loads(settings), _sizes(opened)])

    def checksums(self) -> Mapping[Path, str]:
        """The known checksums of the arrays, and of the files from which they were made."""
        sources = {} if self.made is None else self.made.manifest["sources"]
        return {self.root / name: known for name, known in sources.items()} | dict(self.held.checksums)

    @classmethod
    def prepare(
        cls,
        source: Path,
        target: Path,
        progress: Progress,
        jobs: int,
        *,
        file: str = FILE,
        arrays: dict[str, str] | None = None,
        modalities: dict[str, Any] | None = None,
        label: str | list[str] | None = None,
        task: Literal["class", "labels", "number", "segments"] | None = None,
        classes: list[str] | None = None,
        split: str | None = None,
        shares: dict[Literal["train", "dev", "valid", "test"], Share] | None = None,
        split_seed: Annotated[int, Ge(0)] = 0,
        group: str | None = None,
        weight: str | None = None,
        id: str | None = None,
        missing: Literal["absent", "drop", "error"] = "absent",
    ) -> None:
        """Decode the files of a table into arrays beside it. A batch is then mapped from disk and not decoded."""
        settings = json.dumps(_stated(locals()))
        opened = sound(source, settings)
        if not decoded(opened):
            raise Unsuitable(f"{source / file} needs no preparation: all of it is in the table")
        store = prepared.Store(_home(opened), _plan(opened))
        if store.whole:
            return
        items: list[prepared.Item] = [("rows", int(row), (source, settings, int(row))) for row in opened.kept]
        used = set(opened.kept.tolist())
        items += [("rows", row, None) for row in range(len(opened.rows)) if row not in used]
        prepared.fill(store, items, _item, progress, jobs)


SETTINGS = (
    "file",
    "arrays",
    "modalities",
    "label",
    "task",
    "classes",
    "split",
    "shares",
    "split_seed",
    "group",
    "weight",
    "id",
    "missing",
)


def _stated(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among some variables. `weight`, a later setting, is left out if it is `None`, so that older fingerprints stay valid."""
    return {name: value for name, value in values.items() if name in SETTINGS and (name, value) != ("weight", None)}


def _sizes(opened: Opened) -> str:
    """A hash of the sizes of all files that the table names. Raises `Unsuitable` for a path that is neither a file nor a folder."""
    total = hashlib.sha256()
    for path in _named(opened):
        try:
            found = os.stat(path)
        except OSError:
            total.update(b"none\n")
            continue
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            regular(path)
        total.update(f"{found.st_size}\n".encode())
    return total.hexdigest()


def _named(opened: Opened) -> list[Path]:
    """The files that the rows in the splits name, each once."""
    found: dict[str, None] = {}
    for name in decoded(opened):
        kind, absent = opened.modals[name].kind, opened.modals[name].absent
        if kind.names_files or getattr(kind, "in_files", False):
            cells = opened.rows.column(kind.column)
            there = [row for row in opened.kept if not (absent[row] or isinstance(cells[row], WITHIN))]
            found |= {kind.file_of(cells[row]): None for row in there}
    return [located(opened.root, text) for text in found]


# prepared


def _home(opened: Opened) -> Path:
    return opened.root / f"{opened.rows.path.stem}.prepared"


def _parameters(opened: Opened) -> dict[str, Any]:
    return {"modalities": {name: opened.modals[name].kind.model_dump() for name in decoded(opened)}}


def _plan(opened: Opened) -> prepared.Plan:
    count = len(opened.rows)
    arrays: dict[str, tuple[tuple[int, ...], str]] = {}
    for name in decoded(opened):
        kind = opened.modals[name].kind
        arrays[name] = ((count, *kind.blank.shape), str(kind.blank.dtype))
        if is_sequence(kind):
            arrays[f"{name}.length"] = ((count,), "int64")
    named = [file for path in _named(opened) for file in (sorted(path.glob("*")) if path.is_dir() else [path])]
    sources = {os.path.relpath(file, opened.root): checksum(file) for file in (*opened.files, *named)}
    return prepared.Plan(Table.name, _parameters(opened), sources, {"rows": arrays}, {})


_again = lru_cache(maxsize=1)(sound)


def _item(what: tuple[Path, str, int] | None) -> dict[str, Array]:
    if what is None:
        return {}
    root, settings, row = what
    opened, found = _again(root, settings), dict[str, Array]()
    for name in decoded(opened):
        modal = opened.modals[name]
        value = modal.stored.array.decode(modal.stored.array.things[row])
        if is_sequence(modal.kind):
            found[f"{name}.length"] = np.array(len(value))
            value = np.concatenate([value, modal.kind.blank[len(value) :]])
        found[name] = value
    return found


def prepared_for(opened: Opened) -> prepared.PreparedFolder | None:
    """The prepared folder that fits the table as it is now; `None` if there is none."""
    wanted, tables = _parameters(opened), {os.path.relpath(path, opened.root): checksum(path) for path in opened.files}
    for path in sorted(_home(opened).glob(f"prepared-*/{prepared.MANIFEST}")):
        manifest = prepared.manifest_of(path, Table.name)
        if manifest["parameters"] == wanted and tables.items() <= manifest["sources"].items():
            return prepared.PreparedFolder(path.parent, manifest)
    return None


def mapped(opened: Opened, made: prepared.PreparedFolder) -> Held:
    """The splits of a table whose files have been prepared."""
    stored = {}
    for name in decoded(opened):
        kind = opened.modals[name].kind
        lengths = made.array("rows", f"{name}.length") if is_sequence(kind) else None
        stored[name] = (Masked if lengths is not None else Stored)(made.array("rows", name), kind.convert, lengths)
    return replace(opened.held([*opened.files, *made.files], stored), checksums=made.checksums)
