"""`agmbench.run` and `agmbench.compare`: the commands of those names, called from Python."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd

from agmbench import build, given
from agmbench.cli.tables import Wanted, side_by_side
from agmbench.cli.watcher import Watcher
from agmbench.contracts import Dataset
from agmbench.errors import AgmbenchError
from agmbench.execute import Observer, execute
from agmbench.jobs import compose, overlaid
from agmbench.measures import measures, of_one_run
from agmbench.records import Record
from agmbench.registry import Registry, load
from agmbench.report.tables import Table
from agmbench.trackers.mlflow import MlflowTracker

KEYS = ("dataset", "fusion", "settings", "method")  # the first columns of a data frame


def run(
    dataset: str | Dataset | Mapping[str, Any] = "avmnist-mini",
    modulator: str = "agm",
    fusion: str | None = None,
    encoder: Mapping[str, str] | None = None,
    *,
    seed: int | None = None,
    epochs: int | None = None,
    accumulate: int | None = None,
    precision: str | None = None,
    limit: int | None = None,
    set: Mapping[str, Any] | None = None,
    name: str | None = None,
    classes: Sequence[str] | None = None,
    device: str = "auto",
    workers: int | None = None,
    data_root: str | Path | None = None,
    registry: str | Path | None = None,
    strength: bool = True,
    profile: bool = False,
    force: bool = False,
    quiet: bool = False,
) -> Record:
    """Train one job and its unimodal reference models, and log them to MLflow; returns the record of the job.

    A job that is already done is not trained again: its record is read from the store. A job that is not possible raises
    `AgmbenchError`, whose text is the line that the command line would show. The store is the same as on the command line: `runs/` in the
    working directory, or `MLFLOW_TRACKING_URI`.

    dataset: a name of the registry; or your own data, as a mapping of "train", "valid", "test" (and "dev", which is otherwise cut from
        train) to `(inputs, targets)` or to a torch `Dataset` of such pairs (see `agmbench.given`); or a `Dataset` of `agmbench.contracts`.
    encoder: names by modality, as in `--encoder audio=resnet`.   set: settings by key, as in `--set modulator.alpha=2`.
    name, classes: for a data set of your own: its name in runs and tables (default "given"), and the names of its classes.
    strength: `False` leaves out competition strength and its reference runs, as `--no-strength` does.
    quiet: `True` shows no progress bar and writes no lines to standard error.

    All other parameters are the options of `agmbench run`. In the result, `record.metrics["test/accuracy"]` is a number, and
    `record.figure` is the main number of the task, as a text.
    """
    options = {"training.epochs": epochs, "training.accumulate": accumulate, "training.precision": precision}
    options |= {"seed": seed, "limit": limit}
    with _environment(AGMBENCH_WORKERS=workers, AGMBENCH_DATA=data_root, AGMBENCH_REGISTRY=registry):
        known, named = _known(dataset, name, classes)
        spec = compose(known, named, modulator, fusion, encoder, overlaid(set or {}, options))
        wanted = measures(known) if strength else of_one_run(known)
        with nullcontext(_Quiet()) if quiet else Watcher() as watcher:
            observer: Observer = watcher
            return execute(spec, known, MlflowTracker(), build.device(device), observer, wanted, force, profile=profile)


def _known(dataset: str | Dataset | Mapping[str, Any], name: str | None, classes: Sequence[str] | None) -> tuple[Registry, str]:
    """The registry, and the name of the data set in it; a data set given from Python is added to it."""
    if not isinstance(dataset, str):
        own = given.entry(dataset, name or given.NAME, classes)
        return load().plus(own), own.name
    if name is not None or classes is not None:
        raise AgmbenchError(
            "name and classes describe data given from Python, and a data set of the registry already has them; leave them out"
        )
    return load(), dataset


def compare(
    dataset: str | None = None,
    modulators: Sequence[str] = (),
    fusions: Sequence[str] = (),
    seeds: Sequence[int] = (),
    *,
    columns: Sequence[str] = (),
    coalitions: bool = False,
    cost: bool = False,
    samples: bool = False,
    registry: str | Path | None = None,
    runs: bool = False,
) -> pd.DataFrame:
    """The runs of the store side by side, as in `agmbench compare`: one row per method in its setting, or with `runs` one row per run.

    The first columns are `dataset`, `fusion`, `settings` (where the recipe differs from the data set's published one) and `method`. For a
    method, `seeds` follows, and for each quantity the mean over the seeds under its name and the standard deviation as `NAME std`. For a
    run, `seed`, `run` (its id in MLflow) and its values follow. A number that is missing is NaN. `attrs` of the frame has the unit and
    the direction of each quantity.

    dataset, modulators, fusions, seeds: keep only these; by default all.   columns: the quantities to show, as `--columns`.
    coalitions, cost, samples: the same as the options of these names.
    """
    with _environment(AGMBENCH_REGISTRY=registry):
        known, tracker = load(), MlflowTracker()
        shown: dict[str, Any] = {"columns": [*columns], "coalitions": coalitions, "cost": cost, "samples": samples}
        tables = side_by_side(known, tracker, dataset, Wanted(modulators, fusions, seeds), **shown)
    frame = pd.DataFrame([row for table in tables for row in (_of_runs(table) if runs else _of_methods(table))])
    described = {column.key: {"unit": column.unit, "better": column.better} for table in tables for column in table.columns}
    frame.attrs["quantities"] = described
    return frame


def _of_methods(table: Table) -> Iterator[dict[str, Any]]:
    for row in table.rows:
        values: dict[str, Any] = {}
        for column in table.columns:
            value = row.values[column.key]
            values |= {column.key: _number(value.mean), f"{column.key} std": _number(value.std)}
        yield {**_keys(table, row.label), "seeds": row.seeds, **values}


def _of_runs(table: Table) -> Iterator[dict[str, Any]]:
    for row in table.rows:
        for record in row.records:
            seed = record.spec["seed"]
            values = {column.key: _number(row.values[column.key].by_seed.get(seed)) for column in table.columns}
            yield {**_keys(table, row.label), "seed": seed, "run": record.run_id, **values}


def _number(value: float | None) -> float:
    return nan if value is None else value


def _keys(table: Table, method: str) -> dict[str, Any]:
    return dict(zip(KEYS, (table.dataset, table.fusion, " ".join(table.departs), method), strict=True))


class _Quiet:
    """An observer that says nothing."""

    def started(self, name: str, epochs: int, done: int) -> None: ...
    def warned(self, text: str) -> None: ...
    def epoch(self, epoch: Any) -> None: ...
    def finished(self, record: Record, trained: bool) -> None: ...


@contextmanager
def _environment(**values: object) -> Iterator[None]:
    """Set environment variables inside the block, as command-line options do for a whole process; `None` leaves a variable unchanged."""
    said = {name: value for name, value in values.items() if value is not None}
    changed = {name: str(value.absolute() if isinstance(value, Path) else value) for name, value in said.items()}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = old
