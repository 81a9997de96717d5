"""One job from spec to finished run: references, build, train, evaluate, measure, track."""

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
    """The finished record of a job, trained now unless it is done already; what is trained stands under the run `parent`.

    It is measured by the metrics `wanted`, all that there are by default. Its unimodal models ("mono-modal concepts") come first if
    one of these, the method or the recipe's choice of epochs needs them. `profile` traces some steps of its training (`profiling.py`).
    While another process has the job, on whatever machine, it is waited for; without `wait` that is an error, `Taken`. The job's run,
    not those of its unimodal models, is given the `label`, also where it was there before.
    """
    known = measures.measures(registry) if wanted is None else wanted
    return Execution(tracker, device, observer, known, force, parent, profile, wait, label).run(build.resolve(spec, registry))


def trained_concepts(
    job: build.Job, model: MultimodalModel, modulator: Modulator, tracker: Tracker, device: torch.device, observer: Observer
) -> dict[str, MultimodalModel]:
    """The unimodal models of a method that needs them, `{}` of any other; those that are not done are trained now, as jobs."""
    if not modulator.needs_concepts:
        return {}
    beside = Execution(tracker, device, observer, measures.of_one_run(job.registry), force=False, parent=None)
    return beside.concepts(job, model, {m: beside.run(concept) for m, concept in build.references(job).items()})
