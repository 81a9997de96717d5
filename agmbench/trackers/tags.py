"""Writes and reads the tags that describe a run."""

import getpass
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields, replace
from typing import Any, cast

from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.entities import RunTag
from mlflow.utils.mlflow_tags import MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE, MLFLOW_USER

from agmbench import older
from agmbench.names import (
    ATTEMPT,
    CELL,
    COMPONENTS,
    CONCEPT,
    DEPARTURES,
    DIGEST,
    FINGERPRINT,
    IMPORTED,
    IMPORTED_DIGEST,
    METRIC,
    MODALITIES,
    OUTCOMES,
    REFERENCES,
    SELECTED,
    SETTING,
    SPEC,
    TAG,
    TASK,
    TRAINING,
    within,
)
from agmbench.outcomes import KINDS, Kind, Quantity
from agmbench.records import Heading, Label, Measurement, Record, Selected, chosen, departing

DEFAULTS = {field.name: field.default for field in fields(Quantity)}  # left out of a tag, which MLflow cuts at 8,000 letters
KIND = {"mlflow.experimentKind": "custom_model_development"}  # makes MLflow's UI open an experiment as model training
NOTE = "mlflow.note.content"  # the UI shows this tag as a run's description, above its metrics
FINAL = "| on test | |\n|---|---:|\n"  # the beginning of the table of final numbers in the description


def by_whom(source: str = "agmbench") -> dict[str, str]:
    """The tags by which the UI shows who started a run, and with which program."""
    user = "unknown"
    with suppress(Exception):  # the name of a container's user may not be known
        user = getpass.getuser()
    return {MLFLOW_USER: user, MLFLOW_SOURCE_NAME: source, MLFLOW_SOURCE_TYPE: "LOCAL"}


def written(heading: Heading) -> dict[str, str]:
    """The tags of a new run."""
    return {
        DIGEST: heading.digest,
        CELL: heading.cell,
        SETTING: heading.setting,
        CONCEPT: str(heading.concept).lower(),
        MODALITIES: json.dumps(heading.modalities),
        SPEC: json.dumps(heading.spec),
        FINGERPRINT: heading.fingerprint,
        TASK: heading.task,
        SELECTED: heading.selected,
        COMPONENTS: json.dumps(heading.components),
        DEPARTURES: json.dumps(heading.departures),
        REFERENCES: json.dumps(heading.references),
        TRAINING: heading.training,
        NOTE: described(heading),
    }


def described(heading: Heading) -> str:
    """The description of a run: how its epoch is chosen, and how it departs from the published recipe."""
    departs = ", ".join(departing(heading.departures, heading.sample)) or "nothing"
    return f"{chosen(heading.selected, heading.spec)}. Different from the published recipe of its data set: {departs}."


def tagged(tags: Mapping[str, str]) -> str:
    """The condition by which MLflow finds runs that have these tags."""
    return " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())


def with_final(note: str, metrics: Mapping[str, float]) -> str:
    """A description with a table of the run's final numbers at its end, which replaces an earlier table."""
    rows = "".join(f"| {name} | {value:.4g} |\n" for name, value in sorted(within("test", metrics).items()))
    return f"{note.partition(FINAL)[0].rstrip()}\n\n{FINAL}{rows}"


def set_label(client: MlflowClient, run_id: str, label: Label) -> None:
    """Give a run the name and the tags of a user's label."""
    if label.name:
        client.update_run(run_id, name=label.name)
    if label.tags:
        client.log_batch(run_id, tags=[RunTag(TAG + key, value) for key, value in label.tags.items()])


def as_tag(measurement: Measurement) -> tuple[str, str]:
    """The name and the text of the tag that describes a metric's numbers; the numbers themselves are metrics of the run."""
    about = {"version": measurement.version, "reason": measurement.reason[:1000]}
    quantities = [
        {key: value for key, value in asdict(q).items() if value != DEFAULTS.get(key)} for q in measurement.quantities
    ]
    return METRIC + measurement.metric, json.dumps({**about, "quantities": quantities})


def record(run: MlflowRun) -> Record:
    """The record of a run of the store."""
    tags = run.data.tags
    found = Record(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        digest=tags[IMPORTED_DIGEST if IMPORTED in tags else DIGEST],
        cell=tags[CELL],
        spec=json.loads(tags[SPEC]),
        modalities=tuple(json.loads(tags[MODALITIES])),
        concept=tags[CONCEPT] == "true",
        metrics=run.data.metrics,
        tags=tags,
        started=run.info.start_time,
        attempt=int(tags.get(ATTEMPT, 0)),
    )
    found = replace(found, outcomes_kept=OUTCOMES in tags, training=tags.get(TRAINING) or found.digest)
    if FINGERPRINT not in tags:
        inputs = run.inputs.dataset_inputs if run.inputs else []
        found = older.completed(found, inputs[0].dataset.digest if inputs else "")
    else:
        found = replace(
            found,
            fingerprint=tags[FINGERPRINT],
            task=cast(Kind, tags[TASK]),
            selected=cast(Selected, tags[SELECTED]),
            components=json.loads(tags[COMPONENTS]),
            departures=json.loads(tags[DEPARTURES]),
            references=json.loads(tags[REFERENCES]),
        )
    return replace(found, measurements={**found.measurements, **_measurements(found)})


def _measurements(found: Record) -> dict[str, Measurement]:
    """The measurement of each metric. A metric whose tag cannot be read counts as not having measured the run."""
    tested = within("test", found.metrics)
    said = {}
    for name, text in found.tags.items():
        if name.startswith(METRIC):
            with suppress(ValueError, KeyError, TypeError):
                metric = name.removeprefix(METRIC)
                said[metric] = _measurement(metric, json.loads(text), tested)
    return said


def _measurement(metric: str, content: Mapping[str, Any], tested: Mapping[str, float]) -> Measurement:
    quantities = [Quantity(**{**q, "tasks": tuple(q.get("tasks", KINDS))}) for q in content["quantities"]]
    names = set() if content["reason"] else {q.name for q in quantities}
    values = {name: value for name, value in tested.items() if name.partition("/")[0] in names}
    return Measurement(metric, content["version"], quantities, content["reason"], values)
