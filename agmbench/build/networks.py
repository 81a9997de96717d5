"""The networks of a job: its model, its modulator and its unimodal models."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from agmbench import muting, recipes
from agmbench.build.job import Job
from agmbench.build.resolving import concepts
from agmbench.contracts import Batch, Encoder, Fusion, Input, Modulator, Tokens, Unsuitable, texts_of
from agmbench.errors import AgmbenchError
from agmbench.model import MultimodalModel
from agmbench.parameters import made
from agmbench.registry import Registry
from agmbench.tasks import MixedLabel, Segments, SingleLabel, Task

READ = 8  # how many samples of train are checked before a job begins


def model(job: Job) -> MultimodalModel:
    """The job's model on the CPU, with the initial weights that its seed determines."""
    torch.manual_seed(job.spec.seed)
    encoders: dict[str, Encoder] = {
        modality: made(job.registry, "encoder", component, job.dataset.shapes[modality], of=f" of '{modality}'")
        for modality, component in job.spec.encoders.items()
    }
    task = job.dataset.task
    features = {modality: encoder.out_features for modality, encoder in encoders.items()}
    fusion: Fusion = made(job.registry, "fusion", job.spec.fusion, features, task.outputs(len(job.dataset.class_names)))
    if fusion.per_segment != isinstance(task, Segments):
        asked, given = ("each segment", "a sample") if isinstance(task, Segments) else ("a sample", "each segment")
        fitting = [name for name, other in _fusions(job.registry) if other.per_segment != fusion.per_segment]
        raise AgmbenchError(
            f"data set '{job.spec.dataset.name}' has one class for {asked}, and fusion '{job.spec.fusion.name}' answers for {given}; "
            f"choose a --fusion among {', '.join(fitting)}"
        )
    _check_own_tensors({**{f"encoder of '{modality}'": encoder for modality, encoder in encoders.items()}, "fusion": fusion})
    recipe, train = job.spec.training, job.dataset.split("train")
    criterion = recipes.criterion(recipe, train, len(job.dataset.class_names)) if _of_classes(task) else None
    if recipe.mixup is not None and type(task) is SingleLabel:
        task = MixedLabel(len(job.dataset.class_names))
    network = MultimodalModel(encoders, fusion, job.spec.present, _muting(job), task, recipe.reduction, criterion)
    widths = [module.out_channels for module in network.modules() if isinstance(module, nn.Conv2d)]
    # convolutions are faster in this format; but on a CPU, torch 2.14 corrupts memory in the backward pass of narrow ones
    return network.to(memory_format=torch.channels_last) if all(width >= 16 for width in widths) else network


def _check_own_tensors(parts: Mapping[str, nn.Module]) -> None:
    """Raise unless every part has its own tensors, of known shapes, because the optimizer and the methods handle each part separately."""
    owner: dict[nn.Parameter, str] = {}
    for part, module in parts.items():
        for name, tensor in module.named_parameters():
            if is_lazy(tensor):
                raise AgmbenchError(
                    f"the {part} does not know the shape of its {name} yet; make it in __init__, without Lazy layers"
                )
            if owner.setdefault(tensor, part) != part:
                raise AgmbenchError(
                    f"the {part} shares its {name} with the {owner[tensor]}; each should have tensors of its own"
                )


def _fusions(registry: Registry) -> Iterator[tuple[str, type[Fusion]]]:
    """The fusions that can be imported, by name; errors of other fusions do not matter to the job."""
    for entry in registry.entries("fusion"):
        with suppress(AgmbenchError):
            yield entry.name, entry.load()


def concept_models(
    job: Job, whole: MultimodalModel, device: torch.device, weights: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, MultimodalModel]:
    """The unimodal models of a job by modality, frozen and in eval mode. They have the given `weights`, or their initial ones if none are
    given, and use the muting of the `whole` model."""
    found = {}
    for modality, spec in concepts(job).items():
        concept = model(replace(job, spec=spec)).to(device)
        if weights is not None:
            concept.load_state_dict(weights[modality])
        concept.muting = whole.muting  # only after loading its weights, which include the state of its own muting
        found[modality] = concept.requires_grad_(False).eval()
    return found


def _muting(job: Job) -> muting.Muting:
    if job.spec.mute == "mean":
        return muting.Mean(job.dataset.split("train"), job.spec.encoders)
    return muting.Random(job.spec.seed) if job.spec.mute == "random" else muting.Zeros()


def modulator(job: Job, model: MultimodalModel) -> Modulator:
    """The job's modulator; raises if it or the recipe cannot be used with the model or the samples."""
    method: Modulator = made(job.registry, "modulator", job.spec.modulator, job.modalities)
    if reason := method.refuses(model):
        if isinstance(model.task, MixedLabel) and method.refuses(_unmixed(model)) is None:
            reason = "needs the class of each sample, and training.mixup mixes those of two; leave training.mixup out"
        raise AgmbenchError(f"modulator '{job.spec.modulator.name}' {reason}")
    texts = [m for m, encoder in model.encoders.items() if encoder.reads_text]
    train = job.dataset.split("train")
    few = train.batch(torch.arange(min(READ if texts else 1, len(train))))
    for modality in texts:
        _check_text(job, modality, few.inputs[modality])
    _check_samples(job, few, method)
    parts = (*job.dataset.shapes, "fusion", "modulator")
    changed = job.spec.augment, job.spec.evaluation
    if reason := recipes.refused(job.spec.training, model, method, parts, few, *changed, job.spec.present is not None):
        raise AgmbenchError(reason)
    return method


def _check_samples(job: Job, few: Batch, method: Modulator) -> None:
    """Raise if samples of train lack modalities or have weights, and the method cannot handle this; `few` are some samples of train."""
    if few.absent and not method.promises.absent:
        raise AgmbenchError(
            f"modulator '{job.spec.modulator.name}' learns from each modality by itself, and some samples of train lack "
            f"{', '.join(few.absent)}; leave those samples out (for a table, dataset.missing=drop), or choose a method that does not "
            "refuse absent modalities (see docs/methods.md)"
        )
    if few.weights is not None and not method.promises.weights:
        raise AgmbenchError(
            f"modulator '{job.spec.modulator.name}' has losses in which all samples count the same, and the samples of train have "
            "weights; leave the weights out (for a table, dataset.weight=null), or choose a method that does not refuse them (see "
            "docs/methods.md)"
        )


def _check_text(job: Job, modality: str, x: Input) -> None:
    """Raise if an encoder of raw text would be given something else."""
    try:
        texts_of(x if isinstance(x, Tokens) else Tokens(x))
    except Unsuitable as error:
        raise AgmbenchError(
            f"encoder/{job.spec.encoders[modality].name} of '{modality}': {error}; for a table, set 'numbers: bytes' for this "
            "modality in its entry, with a length in bytes"
        ) from error


def _of_classes(task: Task) -> bool:
    """Whether label smoothing and class weights make sense for the task; for other tasks, `recipes.refused` gives a reason."""
    return isinstance(task, SingleLabel)


def _unmixed(model: MultimodalModel) -> MultimodalModel:
    """The same model with single labels, to find out whether a method refuses only mixed ones."""
    plain = copy.copy(model)
    plain.task = SingleLabel()
    return plain
