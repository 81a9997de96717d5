"""Describes a table for `agmbench data describe`, and writes the registry entry that makes it a data set."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from agmbench import labels
from agmbench.contracts import SPLITS, SplitName
from agmbench.data.classes import Classes, judged
from agmbench.datasets.tables.kinds import Numbers
from agmbench.datasets.tables.modals import Modal
from agmbench.datasets.tables.opened import Opened
from agmbench.datasets.tables.shares import SHARES
from agmbench.datasets.tables.stored import is_sequence

WRITTEN = ("label", "task", "split", "group", "weight", "id")  # the settings that an entry states if they are set
WRONG = "wrong: "  # how a remark begins that has to be mended before anything runs
AT_ONCE = 4096  # rows whose labels are looked at together
SMALL = 64  # pixels: a picture whose sides are not longer gets a small network
COMPARED = ("unimodal", "joint", "ogm-ge", "agm")
TARGET = "agmbench.datasets.table:Table"


def modalities(opened: Opened) -> list[tuple[str, str, str, str, str]]:
    """One row per modality: name, kind, columns, shape of a sample, number of empty cells."""
    return [
        (name, modal.kind.kind, _columns(modal.kind), "x".join(map(str, modal.shape)), f"{int(modal.absent.sum()):,}")
        for name, modal in opened.modals.items()
    ]


def _columns(kind: Any) -> str:
    columns = kind.columns if isinstance(kind, Numbers) else kind.column
    return columns if isinstance(columns, str) else f"{columns[0]}, ... ({len(columns)})"


def classes(opened: Opened) -> dict[SplitName, Classes]:
    """The classes of each split, counted; empty for a regression."""
    found: dict[SplitName, Classes] = {}
    if opened.targets.kind == "number":
        return found
    task = opened.targets.task(opened.parts["train"])
    for name, some in opened.parts.items():
        found[name] = Classes(len(opened.targets.class_names))
        for index in torch.arange(len(some)).split(AT_ONCE):
            some_labels = task.labels(opened.targets.values[torch.from_numpy(some)[index]])
            if some_labels is not None:
                found[name].add(index, some_labels)
    return found


def counts(opened: Opened, found: Mapping[SplitName, Classes]) -> list[tuple[str, list[int]]]:
    """Each class with its number of samples per split; empty for a regression."""
    names = opened.targets.class_names if found else []
    return [(title, [int(found[name].counts[number]) for name in SPLITS]) for number, title in enumerate(names)]


def remarks(opened: Opened, found: Mapping[SplitName, Classes]) -> Iterator[str]:
    """The lines printed below the tables: label, splits, groups, weights, ids, unused columns, and what is odd or wrong."""
    settings, kind = opened.settings, opened.targets.kind
    what = {"class": "a class", "labels": "several labels", "number": "a number", "segments": "a class for each segment"}[kind]
    label = settings["label"] if isinstance(settings["label"], str) else ", ".join(settings["label"])
    yield f"label: {label}, {what}" + ("" if kind == "number" else f", {len(opened.targets.class_names)} classes")
    if settings["split"]:
        yield f"splits: column {settings['split']}"
    if settings["group"]:
        cells = opened.rows.frame[settings["group"]]
        yield f"groups: column {settings['group']}, {cells.nunique():,} groups"
    if opened.weights is not None and len(train := opened.parts["train"]):
        low, high = opened.weights[train].min(), opened.weights[train].max()
        yield f"weights: column {settings['weight']}, {low:g} to {high:g} in train; the loss counts each sample by its weight"
    if settings["id"]:
        yield f"ids: column {settings['id']}"
    if opened.unused:
        yield f"not used: {', '.join(opened.unused)}; the entry may name these columns as modalities, group or id"
    if len(opened.modals) == 1:
        yield "odd: there is only one modality; methods that balance modalities need two or more"
    yield from (f"note: {line}" for line in opened.notes)
    wrong, odd = _classes_lacking(opened, found)
    yield from (f"odd: {line}" for line in (*opened.odd, *odd))
    yield from (f"{WRONG}{line}" for line in (*opened.wrong, *wrong))
    if reason := labels.refused(opened.modals, opened.targets.class_names):
        yield f"{WRONG}{reason}"


def _classes_lacking(opened: Opened, found: Mapping[SplitName, Classes]) -> tuple[list[str], list[str]]:
    """What is wrong and what is odd about classes that a split lacks; nothing where no row has got into a split."""
    if not len(opened.kept):
        return [], []

    def row(split: SplitName, number: int) -> str:
        return str(opened.parts[split][number] + opened.rows.first)

    return judged(found, opened.targets.class_names, row, "row")


def entry_name(path: Path, known: Sequence[str]) -> str:
    """A name for the entry of a table: that of its file, with `-table` appended if it is among the `known` names."""
    name = re.sub(r"[^\w.-]+", "-", path.stem).strip(".-")[:80] or "table"
    return f"{name}-table" if name in known else name


def _params(opened: Opened, folder: Path) -> dict[str, Any]:
    """The settings of the data set, in a natural reading order. Its file is written relative to `folder`."""
    settings = opened.settings
    params: dict[str, Any] = {"file": os.path.relpath(opened.rows.path, folder)}
    params |= {"arrays": dict(settings["arrays"])} if settings.get("arrays") else {}
    params["modalities"] = {m: _said(settings["modalities"][m]) for m in opened.modals}
    params |= {key: settings[key] for key in WRITTEN if settings.get(key)}
    if settings.get("classes"):
        params["classes"] = list(settings["classes"])
    if not settings["split"]:
        params |= {"shares": dict(settings.get("shares") or SHARES), "split_seed": settings.get("split_seed", 0)}
    return {**params, "missing": settings.get("missing", "absent")}


def _methods(opened: Opened) -> tuple[str, ...]:
    """The methods that the suite of a table compares; the last is the one to try first. With one modality there is nothing to balance, so
    it is joint training alone."""
    return COMPARED if len(opened.modals) > 1 else ("joint",)


def first_run(opened: Opened, file: str) -> str:
    """The command to try first on a table whose entry is in the file `file`."""
    return f"agmbench run --dataset {file} --modulator {_methods(opened)[-1]}"


def entry(opened: Opened, name: str, folder: Path) -> str:
    """The text of a registry file with the table as a data set and a suite that compares methods on it. The file will lie in `folder`."""
    path = opened.rows.path
    segments = opened.targets.kind == "segments"
    job = {
        "encoders": {m: _encoder(modal, segments) for m, modal in opened.modals.items()},
        "fusion": "psp" if segments else "concat",
        "training": {"epochs": 20, "batch_size": 32, "optimizer": "sgd", "lr": 0.05, "schedule": {"name": "cosine"}},
    }
    data = {
        "target": TARGET,
        "summary": f"{path.name}: {', '.join(opened.modals)}",
        "params": _params(opened, folder),
        "job": job,
    }
    suite = {
        "summary": f"{', '.join(_methods(opened))} on {name}",
        "seeds": [1, 2, 3],
        "jobs": [{"dataset": name, "modulator": list(_methods(opened))}],
    }
    head = [
        f"# A data set made of {path.name}, written by 'agmbench data describe'. You may change all of it. Then try",
        "#   agmbench data verify THIS_FILE",
        f"#   {first_run(opened, 'THIS_FILE')}",
        "#   agmbench suite run THIS_FILE        (the suite below)",
        "#   agmbench compare --dataset THIS_FILE",
        "# docs/your-data.md explains each setting.",
    ]
    return "\n".join(head) + "\n" + _yaml({"datasets": {name: data}, "suites": {name: suite}})


class _Short(yaml.SafeDumper):
    """A YAML dumper that writes each list on one line."""

    def represent_short(self, items: list[Any]) -> yaml.Node:
        return self.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)


_Short.add_representer(list, _Short.represent_short)


def _yaml(tree: Mapping[str, Any]) -> str:
    return yaml.dump(tree, Dumper=_Short, sort_keys=False, allow_unicode=True, width=120)


def _said(settings: Any) -> Any:
    return dict(settings) if isinstance(settings, dict) else settings


def _encoder(modal: Modal, segments: bool) -> dict[str, Any]:
    """The settings of a plain encoder that takes the modality. All but those for large pictures are small enough for a CPU."""
    kind, shape = modal.kind, modal.shape
    if segments:
        return {"name": "bilstm", "params": {"width": 64}}
    if kind.kind == "text":
        return {"name": "lstm", "params": {"width": 64, "vocabulary": kind.vocabulary, "embedding": 64}}
    if is_sequence(kind) or (kind.kind == "array" and len(shape) == 2):
        return {"name": "lstm", "params": {"width": 64}}
    if len(shape) == 4 or (kind.kind == "picture" and max(shape) > SMALL):
        return {"name": "resnet", "params": {}}
    if len(shape) == 3:
        return {"name": "conv", "params": {"width": 16, "layers": 3 if max(shape) <= SMALL else 4}}
    return {"name": "mlp", "params": {"hidden": 64, "layers": 1}}
