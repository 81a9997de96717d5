"""Runs of versions before 0.2: what their records lack is derived from what they have. No other module knows about these versions."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agmbench.jobs import MADE_OF_THE_SEED, cell_of
from agmbench.metrics.accuracy import Accuracy
from agmbench.metrics.coalitions import Coalitions
from agmbench.metrics.competition_strength import CompetitionStrength
from agmbench.metrics.concepts import Concepts
from agmbench.metrics.macro_f1 import MacroF1
from agmbench.metrics.mae import MAE
from agmbench.metrics.pearson import Pearson
from agmbench.metrics.r2 import R2
from agmbench.metrics.responses import Responses
from agmbench.names import ORIGIN, within
from agmbench.outcomes import Kind, Metric
from agmbench.records import Measurement, Record, Selected

MEASURED: Mapping[str, type[Metric]] = {  # the metrics of that time, all of version 1
    "accuracy": Accuracy,
    "coalitions": Coalitions,
    "competition-strength": CompetitionStrength,
    "concepts": Concepts,
    "macro-f1": MacroF1,
    "mae": MAE,
    "pearson": Pearson,
    "r2": R2,
    "responses": Responses,
}
SEEDED = ("avmnist-mini", "synthetic")  # data sets whose fingerprints depended on the seed
MOSEI_TASKS: Mapping[str, Kind] = {"regression": "regression", "emotions": "multi-label"}


def completed(record: Record, fingerprint: str) -> Record:
    """The record, with what runs did not note at that time; `fingerprint` is that of the run's input."""
    dataset = record.spec["dataset"]
    task = (
        MOSEI_TASKS.get(dataset["params"].get("task", ""), "classification") if dataset["name"] == "mosei" else "classification"
    )
    metrics = {**record.metrics, **_regression(record.metrics)} if task == "regression" else record.metrics
    record = replace(record, task=task, metrics=metrics, fingerprint=fingerprint, selected=_selected(record.spec))
    return replace(
        record,
        cell=cell_of(record.cell, MADE_OF_THE_SEED if dataset["name"] in SEEDED else fingerprint),
        components=_components(record),
        class_names=("sentiment",) if task == "regression" else (),
        measurements={name: found for name, metric in MEASURED.items() if (found := _measurement(record, name, metric))},
    )


def _components(record: Record) -> dict[str, str]:
    """The version of each component at that time: 2 for `mses`, 1 for all other built-in ones. The run notes the version of others; their
    source was not hashed."""
    spec = record.spec
    named = [("dataset", spec["dataset"]), ("fusion", spec["fusion"]), ("modulator", spec["modulator"])]
    named += [("encoder", encoder) for encoder in spec["encoders"].values()]
    names = [f"{kind}/{component['name']}" for kind, component in named]
    stated = {name: record.tags.get(f"{ORIGIN}{name}", "version 1").rpartition("version ")[2] for name in names}
    return stated | {name: "2" for name in names if name == "modulator/mses"}


def _regression(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics of a regression by their present names: what was called accuracy was R2."""
    names = {"accuracy": "r2", "response": "response-r2", "coalition": "coalition-r2", "concept": "concept-r2"}
    found = {}
    for name, value in metrics.items():
        split, _, rest = name.partition("/")
        head, slash, key = rest.partition("/")
        if head in names:
            found[f"{split}/{names[head]}{slash}{key}"] = value
    return found


def _selected(spec: Mapping[str, Any]) -> Selected:
    if spec["training"].get("select") == "last":
        return "last"
    return "test" if spec["dataset"]["params"].get("protocol") == "paper" else "valid"


def _measurement(record: Record, name: str, metric: type[Metric]) -> Measurement | None:
    quantities = [quantity for quantity in metric.quantities if record.task in quantity.tasks]
    names = {quantity.name for quantity in quantities}
    values = {key: value for key, value in within("test", record.metrics).items() if key.partition("/")[0] in names}
    return Measurement(name, "1", quantities, values=values) if values else None
