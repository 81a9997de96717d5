"""How a recipe draws and mixes training samples, and which recipes cannot be used with a model and a method."""

from collections.abc import Collection, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from agmbench import features
from agmbench.contracts import Batch, Input, Modulator, Split, Tokens
from agmbench.criterion import Criterion, balanced
from agmbench.encoders.layers import in_layers
from agmbench.errors import describe
from agmbench.jobs import Training
from agmbench.model import MultimodalModel
from agmbench.muting import Zeros
from agmbench.optimizers import Gains, make_optimizer, make_schedule
from agmbench.tasks import MixedLabel, MultiLabel, Regression, Segments, SingleLabel, Task


def criterion(recipe: Training, train: Split, classes: int) -> Criterion:
    """The losses with which the recipe trains."""
    return Criterion(recipe.label_smoothing, balanced(targets_of(train), classes) if recipe.class_weights else None)


def targets_of(split: Split) -> Tensor:
    """The targets of every sample, in order; a split that does not hold them is read once."""
    held = getattr(split, "targets", None)
    if isinstance(held, Tensor) and len(held) == len(split):
        return held
    return torch.cat([split.batch(rows).targets for rows in torch.arange(len(split)).split(256)])


class Draws:
    """Draws the training samples of an epoch: all of them, shuffled; or with `sampling=balanced`, with replacement and every class equally
    often."""

    def __init__(self, recipe: Training, train: Split, order: torch.Generator) -> None:
        self._count, self._order, self._chances = len(train), order, None
        if recipe.sampling == "balanced":
            targets = targets_of(train)
            self._chances = balanced(targets, int(targets.max()) + 1)[targets]

    def __call__(self) -> Tensor:
        """The numbers of an epoch's samples, in the order of training."""
        if self._chances is None:
            return torch.randperm(self._count, generator=self._order)
        return torch.multinomial(self._chances, self._count, replacement=True, generator=self._order)


def mixed(batches: Iterator[Batch], recipe: Training, model: MultimodalModel, seed: int, epoch: int) -> Iterator[Batch]:
    """The batches of an epoch; with the recipe's `mixup`, each is mixed with itself in reverse order.

    The random share depends only on the seed, the epoch and the batch's place, so a resumed run draws the same.
    """
    for number, batch in enumerate(batches):
        if recipe.mixup is None:
            yield batch
            continue
        share = float(np.random.default_rng([seed, epoch, number]).beta(recipe.mixup, recipe.mixup))
        targets = model.task.shares(batch.targets) if isinstance(model.task, MixedLabel) else batch.targets
        inputs = {modality: _mixed(x, share) for modality, x in batch.inputs.items()}
        yield replace(batch, inputs=inputs, targets=share * targets + (1 - share) * targets.flip(0))


def _mixed(x: Input, share: float) -> Input:
    if isinstance(x, Tokens):
        return Tokens(share * x.values + (1 - share) * x.values.flip(0))
    return share * x + (1 - share) * x.flip(0)


def refused(
    recipe: Training,
    model: MultimodalModel,
    modulator: Modulator,
    parts: Collection[str],
    few: Batch,
    augmented: Collection[str] = (),
    evaluated: Collection[str] = (),
    concept: bool = False,
) -> str | None:
    """The reason, in one line, why a recipe cannot be used with this model and this method; `None` if it can.

    parts: the parts that may have a learning rate of their own.   few: some samples of train.
    augmented, evaluated: the modalities that have transforms in training, and in evaluation.
    concept: whether this is a unimodal model. It has the recipe of a job with more encoders, so a setting may be meant for another encoder.
    """
    for key, given in (("lr", recipe.lr_of), ("weight_decay", recipe.weight_decay_of)):
        if unknown := given.keys() - set(parts):
            return f"training.{key}.{min(unknown)}: there is no such part; expected one of {', '.join(parts)}"
    try:
        optimizer = make_optimizer(recipe, model, modulator)
        make_schedule(recipe.schedule, optimizer, recipe.epochs, Gains(recipe, model, modulator))
    except ValueError as error:
        return str(error)
    except Exception as error:  # an optimizer may raise anything for its arguments
        return f"training.optimizer '{recipe.optimizer}' with {recipe.optimizer_args} cannot be made ({describe(error)})"
    if any(encoder.reads_text for encoder in model.encoders.values()) and type(model.muting) is not Zeros:
        return "mute=mean and mute=random work on numbers, and an encoder reads raw text; use mute=zeros, which stands for an empty text"
    return (
        _of_schedule(recipe)
        or _of_clipping(recipe)
        or _of_labels(recipe, model.task, modulator)
        or _of_mixup(recipe, model, few)
        or _of_weights(model, few)
        or _of_ema(recipe, modulator)
        or (None if concept else _of_encoders(recipe, model))
        or _of_features(recipe, model, modulator, augmented, evaluated)
    )


def _of_schedule(recipe: Training) -> str | None:
    if recipe.schedule.args and not recipe.schedule.name.startswith("timm-"):
        return f"training.schedule.args are only for timm's schedules, such as timm-cosine; found schedule '{recipe.schedule.name}'"
    return None


def _of_clipping(recipe: Training) -> str | None:
    if recipe.clip_when == "head" and recipe.clip_norm is None:
        return "training.clip_when=head says when the norm is limited; set training.clip_norm, the limit, too"
    return None


def _of_labels(recipe: Training, task: Task, modulator: Modulator) -> str | None:
    single = isinstance(task, SingleLabel | MixedLabel)
    asked = {"label_smoothing": recipe.label_smoothing, "class_weights": recipe.class_weights, "sampling": recipe.sampling}
    for key, value in asked.items():
        if value and not (single and (key == "label_smoothing" or not isinstance(task, Segments))):
            return f"training.{key} is for data sets of one class per sample; leave it out"
    if recipe.sampling and type(modulator).samples is not Modulator.samples:
        return "training.sampling: the modulator chooses the samples of an epoch itself; leave one of the two out"
    return None


def _of_mixup(recipe: Training, model: MultimodalModel, few: Batch) -> str | None:
    if recipe.mixup is None:
        return None
    if not isinstance(model.task, MixedLabel | MultiLabel | Regression):
        return "training.mixup mixes the targets of samples, not of their segments; leave it out"
    if few.weights is not None:
        return "training.mixup: the samples have weights, and the weight of a mixed sample is not defined; leave one of the two out"
    for modality, encoder in model.encoders.items():
        if encoder.reads_numbers:
            return (
                f"training.mixup: the input of '{modality}' is a sequence of word numbers, which cannot be mixed; leave it out"
            )
        if isinstance(x := few.inputs[modality], Tokens) and x.mask is not None:
            return (
                f"training.mixup: the sequences of '{modality}' have different lengths, so they cannot be mixed; leave it out"
            )
    return None


def _of_weights(model: MultimodalModel, few: Batch) -> str | None:
    if model.fusion.penalises and few.weights is not None:
        return (
            "the fusion has a loss over pairs of samples, in which all count the same, and the samples of train have weights; leave one "
            "of the two out"
        )
    return None


def _of_encoders(recipe: Training, model: MultimodalModel) -> str | None:
    if recipe.layer_decay is not None and not any(in_layers(encoder) for encoder in model.encoders.values()):
        return "training.layer_decay: no encoder of the job has numbered layers; leave it out"
    if recipe.cache_features and not features.frozen(model):
        return "training.cache_features: no encoder is frozen; freeze one, as with --set encoder.MODALITY.trained=none"
    return None


def _of_features(
    recipe: Training,
    model: MultimodalModel,
    modulator: Modulator,
    augmented: Collection[str],
    evaluated: Collection[str],
) -> str | None:
    if not recipe.cache_features:
        return None
    reason = features.refused(model, augmented, evaluated, recipe.mixup is not None, modulator.needs_concepts)
    return reason and f"training.cache_features: {reason}"


def _of_ema(recipe: Training, modulator: Modulator) -> str | None:
    if recipe.ema is not None and modulator.promises.puts_back:
        return "training.ema: the modulator puts earlier weights back, which a running mean of the weights cannot follow; leave it out"
    return None
