"""Runs the single job of `agmbench run` in this process: describes it (`--dry-run`), or trains it and shows its result."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agmbench.cli.terminal import echo
from agmbench.cli.verbs import WORDS
from agmbench.errors import AgmbenchError
from agmbench.registry import Registry, load

if TYPE_CHECKING:
    from agmbench.cli.run import Options
    from agmbench.measures import Measure
    from agmbench.records import Label, Record


def carry_out(spec: Any, given: "Options", label: "Label", parent: str | None = None) -> None:
    """Run one job in this process, or only describe it if it is a dry run."""
    if given["dry_run"]:
        _describe(spec, given)
        return
    if _on_several(given["devices"], given["device"]):
        return

    from agmbench import build
    from agmbench.cli.watcher import Watcher
    from agmbench.distributed.stand_in import stand_in
    from agmbench.execute import execute
    from agmbench.trackers.mlflow import MlflowTracker

    registry, tracker = load(), MlflowTracker()
    chosen = build.device(given["device"])
    shown = {"verbose": given["verbose"], "as_json": given["log_format"] == "json"}
    with _together(chosen) as first, Watcher(given["quiet"] or not first, **shown) as watcher:
        record = execute(
            spec,
            registry,
            stand_in(tracker),
            chosen,
            watcher,
            _wanted(registry, given["no_strength"]),
            given["force"],
            parent,
            profile=given["profile"] and first,
            label=label,
        )
    if not first:
        return
    if given["profile"] and watcher.trained:
        with tracker.artifact(record, "profile/parts.txt") as path:
            echo(path.read_text().rstrip(), err=True)
    _show(record, registry, tracker.shown, watcher.trained)


def _on_several(devices: int | None, device: str) -> bool:
    """Have several processes train the job, if this is asked for and this process is not one of them. Returns whether it was done."""
    from agmbench import build
    from agmbench.cli import main
    from agmbench.distributed.ranks import called_for, one_device
    from agmbench.distributed.start import run_ranks

    if (size := called_for()) > 1:
        if devices not in (None, size):
            raise AgmbenchError(f"--devices {devices}: this process was already started as one of {size}; remove --devices")
        one_device()
        return False
    if devices in (None, 1):
        return False
    chosen = build.device(device)
    if chosen.index is not None:
        raise AgmbenchError(
            f"--devices {devices} uses the first GPUs that are visible; choose them with CUDA_VISIBLE_DEVICES instead of --device"
        )
    if chosen.type == "cuda" and devices > (count := build.gpus()):
        raise AgmbenchError(f"--devices {devices}: this machine has only {count} GPU{'s' * (count > 1)}; ask for no more")
    words = click.get_current_context().meta[WORDS]
    if status := run_ranks(devices, main, ["run", *words]):
        sys.exit(status)
    return True


@contextmanager
def _together(device: Any) -> Iterator[bool]:
    """Join the processes that train the job inside the block, if there are several. Yields whether this process is the first one, because
    only that one prints."""
    from agmbench.distributed.ranks import called_for, joined

    if called_for() == 1:
        yield True
        return
    with joined(device) as ranks:
        yield ranks.first


def _wanted(registry: Registry, no_strength: bool) -> "list[Measure]":
    """The metrics by which the run is measured: all, or only those that need no unimodal models."""
    from agmbench.measures import measures, of_one_run

    return of_one_run(registry) if no_strength else measures(registry)


def _describe(spec: Any, given: "Options") -> None:
    """Print the whole job, what it will need, and which of the jobs are done. Imports only what this needs."""
    import yaml

    from agmbench import build
    from agmbench.cli.needs import needs

    device = build.device(given["device"])
    job = build.resolve(spec, load())
    build.augmentation(job)
    lines = [*needs(job, device)]
    echo(yaml.safe_dump(job.spec.canonical(), sort_keys=False).rstrip())
    for line in lines:
        echo(f"# {line}")
    references = {} if given["no_strength"] else build.references(job)
    for planned, what in ((job, "this job"), *((one, f"reference of {modality}") for modality, one in references.items())):
        echo(f"# {what}: digest {planned.digest}, {'done' if _is_done(planned.digest) else 'to be trained'}")


def _is_done(digest: str) -> bool:
    """Whether the store has a finished run of the job. If there is no store yet, MLflow is not imported, because that takes a second."""
    if not os.environ.get("MLFLOW_TRACKING_URI") and not Path("runs/mlflow.db").exists():
        return False
    from agmbench.trackers.mlflow import MlflowTracker

    return MlflowTracker().find(digest) is not None


def _show(record: "Record", registry: Registry, uri: str, trained: bool) -> None:
    from agmbench.cli.tables import tabled
    from agmbench.report.terminal import show

    if not trained:
        echo(f"'{record.name}' is done already (digest {record.digest}); --force trains it again", err=True)
    show(*tabled([record], registry))
    echo(f"MLflow run {record.run_id} in {uri}", err=True)
