"""The transforms of a job: which ones it has, and how they change its samples."""

from collections.abc import Iterable, Mapping

import torch

from agmbench.augment import Augmentation
from agmbench.build.job import Job
from agmbench.contracts import Change, Dataset, Transform, Unsuitable, finished, read
from agmbench.data.fit import wrong_input
from agmbench.errors import AgmbenchError, allowed, describe
from agmbench.jobs import PHASES, Component, JobSpec, compose
from agmbench.parameters import made, resolved
from agmbench.registry import Registry


def transforms(
    spec: JobSpec, registry: Registry, dataset: Dataset, modalities: Iterable[str] | None = None
) -> dict[str, dict[str, Component]]:
    """The transforms of a job by phase and modality, with all their parameters, without those that change nothing.

    The transforms that the data set's entry names are left out for modalities whose samples are features that were made beforehand. So are
    all transforms of modalities that are not in `modalities`.
    """
    return {phase: _transforms(spec, phase, registry, dataset, modalities) for phase in PHASES}


def _transforms(
    spec: JobSpec, phase: str, registry: Registry, dataset: Dataset, modalities: Iterable[str] | None
) -> dict[str, Component]:
    asked: Mapping[str, Component] = getattr(spec, phase)
    for modality in asked.keys() - dataset.shapes.keys():
        raise AgmbenchError(f"data set '{spec.dataset.name}' has no modality '{modality}': {allowed(modality, dataset.shapes)}")
    found = {m: resolved(registry, "transform", component) for m, component in asked.items()}
    if beforehand := found.keys() & set(dataset.untransformed):
        named = getattr(compose(registry, spec.dataset.name), phase)
        for m in beforehand & named.keys():
            if found[m] == resolved(registry, "transform", named[m]):
                del found[m]
    kept = found.keys() if modalities is None else found.keys() & set(modalities)
    return {m: found[m] for m in found if m in kept and not registry.get("transform", found[m].name).load().idle}


def augmentation(job: Job) -> Augmentation | None:
    """How a job changes its samples; `None` if it has no transform. Raises if a transform fails on the first sample of train."""
    named: dict[str, Mapping[str, Component]] = {phase: getattr(job.spec, phase) for phase in PHASES}
    live = {phase: _live(job, found) for phase, found in named.items()}
    if not any(live.values()):
        return None
    augmentation = Augmentation(live["augment"], live["evaluation"], job.dataset.shapes, job.spec.seed)
    for epoch, phase in ((0, "augment"), (None, "evaluation")):
        for modality, component in named[phase].items():
            entry = job.registry.get("transform", component.name)
            if reason := _unfit(job.dataset, modality, augmentation(epoch)):
                raise AgmbenchError(f"{entry} of '{modality}': {reason}")
    return augmentation


def _live(job: Job, named: Mapping[str, Component]) -> dict[str, Transform]:
    shapes = job.dataset.shapes
    return {m: made(job.registry, "transform", one, shapes[m], of=f" of '{m}'") for m, one in named.items()}


def _unfit(dataset: Dataset, modality: str, change: Change) -> str | None:
    """The reason why a transform cannot be used, found by trying it on the first sample of train; `None` if it can."""
    train, first = dataset.split("train"), torch.tensor([0])
    try:
        x = finished(train, read(train, first, {modality: change[modality]})).inputs[modality]
    except (Unsuitable, ValueError) as error:
        return str(error)
    except Exception as error:  # a stranger's component may raise anything
        return f"fails on the first sample of train ({describe(error)})"
    wrong = wrong_input(modality, x, tuple(dataset.shapes[modality]), 1)
    return wrong and f"makes {wrong.found} of the first sample of train; expected {wrong.expected}"
