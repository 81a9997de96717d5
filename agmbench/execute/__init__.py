"""Executes one job, from its spec to its finished run: trains its reference runs, builds, trains, evaluates, measures and tracks."""

from collections.abc import Sequence

import torch

from agmbench import build, measures
from agmbench.contracts import Modulator
from agmbench.execute.execution import Execution
from agmbench.execute.observer import Observer
from agmbench.jobs import JobSpec
from agmbench.measures import Measure
from agmbench.model import MultimodalModel
from agmbench.records import UNLABELLED, Label, Record, Tracker
from agmbench.registry import Registry

__all__ = ["Observer", "execute", "trained_concepts"]


def execute(
    spec: JobSpec,
    registry: Registry,
    tracker: Tracker,
    device: torch.device,
    observer: Observer,
    wanted: Sequence[Measure] | None = None,
    force: bool = False,
    parent: str | None = None,
    profile: bool = False,
    wait: bool = True,
    label: Label = UNLABELLED,
) -> Record:
    """Train a job unless it is already done; returns its finished record. New runs become children of the run `parent`.

    The job is measured by the metrics `wanted`, by default all. Its unimodal models ("mono-modal concepts") are trained first if one of
    these metrics, the method or the recipe's choice of epochs needs them. With `force` it is trained again even if it is done. `profile`
    traces some steps of its training (`profiling.py`). While another process on any machine has the job, this waits; without `wait` it
    raises `Taken`. The job's run gets the `label`, even if it was there before; the runs of its unimodal models do not.
    """
    known = measures.measures(registry) if wanted is None else wanted
    return Execution(tracker, device, observer, known, force, parent, profile, wait, label).run(build.resolve(spec, registry))


def trained_concepts(
    job: build.Job, model: MultimodalModel, modulator: Modulator, tracker: Tracker, device: torch.device, observer: Observer
) -> dict[str, MultimodalModel]:
    """The trained unimodal models of a job by modality, if its method needs them; else `{}`. Those that are not done are trained now."""
    if not modulator.needs_concepts:
        return {}
    beside = Execution(tracker, device, observer, measures.of_one_run(job.registry), force=False, parent=None)
    return beside.concepts(job, model, {m: beside.run(concept) for m, concept in build.references(job).items()})
