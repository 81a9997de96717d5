"""A modulator at work, driven as the training loop does."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from agmbench.conduct import Conduct
from agmbench.contracts import SPLITS, Batch, Context, Modulator, Promises, Step
from agmbench.model import MultimodalModel
from agmbench.testing.checks import BrokenPromise, Skipped
from agmbench.testing.models import SEED, SOME, Case, seed

Make = Callable[..., Modulator]

STEPS = 4  # batches of an epoch: one for each modality of the largest model, should a method take them in turns


def context(
    modulator: Modulator, case: Case, model: MultimodalModel, generator: torch.Generator, epoch: int = 0, ended: bool = False
) -> Context:
    """The training around a case; with validation numbers once an epoch has ended, and concepts for a modulator that needs them."""
    with_concepts = modulator.needs_concepts and len(model.modalities) > 1
    numbers = {modality: 0.5 + 0.1 * place for place, modality in enumerate(case.modalities)}
    return Context(
        epoch=epoch,
        epochs=10,
        steps_per_epoch=STEPS,
        splits=dict.fromkeys(SPLITS, case.split),
        generator=generator,
        valid_accuracy=numbers if epoch or ended else {},
        valid_loss=numbers if epoch or ended else {},
        model=model,
        concepts=case.concepts() if with_concepts else {},
        rank=lambda concept: (numbers[concept.modalities[0]], 0.0),
        fresh=lambda tensors: torch.optim.SGD(tensors, lr=0.01),
    )


class Taken(NamedTuple):
    """What one batch gave: its steps, and the gradients by name, those of several steps added up."""

    steps: list[Step]
    gradients: dict[str, Tensor]

    @property
    def signals(self) -> dict[str, Tensor]:
        """The last value of each signal."""
        return {name: value for step in self.steps for name, value in step.signals.items()}

    def kappa(self, modalities: Iterable[str]) -> dict[str, float]:
        """The recorded `kappa/m`, in the order of the modalities."""
        names = [f"kappa/{modality}" for modality in modalities]
        if missing := [name for name in names if name not in self.signals]:
            raise BrokenPromise(f"records no {', '.join(missing)}; found {', '.join(self.signals) or 'no signals'}")
        return {name.removeprefix("kappa/"): float(self.signals[name]) for name in names}


def take(modulator: Modulator, model: MultimodalModel, batch: Batch, lr: float = 0.0, conduct: Conduct | None = None) -> Taken:
    """One batch as the loop takes it, with plain gradient descent for an optimizer; dropout draws the same at every call."""
    seed()
    both = nn.ModuleDict({"model": model, "modulator": modulator})
    both.zero_grad(set_to_none=True)
    steps: list[Step] = []
    gradients: dict[str, Tensor] = {}
    with nullcontext() if conduct is None else conduct.watching():
        for step in modulator.steps(model, [batch]):
            steps.append(step)
            if conduct is not None:
                conduct.see()
            for name, parameter in both.named_parameters():
                if parameter.grad is not None:
                    gradients[name] = gradients[name] + parameter.grad if name in gradients else parameter.grad.clone()
                    if lr:
                        parameter.data.sub_(lr * parameter.grad)
            both.zero_grad(set_to_none=True)
    return Taken(steps, {name.removeprefix("model."): gradient for name, gradient in gradients.items()})


class Driven(NamedTuple):
    """A case after one epoch and one batch of the next: what each batch gave, and how often each BatchNorm moved in it.

    `conduct` has seen the steps of the first epoch.
    """

    case: Case
    generator: torch.Generator
    modulator: Modulator
    model: MultimodalModel
    taken: list[Taken]
    moved: list[dict[str, int]]
    conduct: Conduct

    @property
    def first(self) -> list[Taken]:
        """What the batches of the first epoch gave."""
        return self.taken[:STEPS]


def _batches_tracked(model: MultimodalModel) -> dict[str, int]:
    return {name: int(value) for name, value in model.named_buffers() if name.endswith("num_batches_tracked")}


def joint(model: MultimodalModel, batch: Batch) -> dict[str, Tensor]:
    """The gradients of plain joint training."""
    seed()
    parameters = dict(model.named_parameters())
    loss = model.loss(model(batch.inputs).logits, batch.targets)
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


@cache
def plain_joint(case: Case) -> dict[str, Tensor]:
    """Those of a case with its first weights on its first batch."""
    return joint(case.model(), case.batch())


@dataclass(frozen=True)
class Subject:
    """The modulator under check: how it is made, what it promises, and the cases it takes."""

    make: Make
    params: Mapping[str, Any]
    promises: Promises
    refused: frozenset[Case] = frozenset()

    def taken(self, cases: Iterable[Case] = SOME) -> list[Case]:
        """Those of the cases that it does not refuse; without any, the check is skipped."""
        found = [case for case in cases if case not in self.refused]
        if not found:
            raise Skipped("refuses every model that this check has")
        return found

    def made(self, case: Case, params: Mapping[str, object] | None = None) -> Modulator:
        """A fresh instance, with the promises that it is held to."""
        made = self.make(case.modalities, **{**self.params, **(params or {})})
        made.promises = self.promises  # type: ignore[misc]  # in place of its class's
        return made

    def first(self, case: Case, model: MultimodalModel, batch: Batch, **params: object) -> Taken:
        """What a fresh instance does with a batch of the first epoch."""
        return take(begun(self.made(case, params), case, model), model, batch)

    @cached_property
    def runs(self) -> list[Driven]:
        """The first epoch and a batch of the second, for every case."""
        return [driven(self, case) for case in self.taken()]


def begun(modulator: Modulator, case: Case, model: MultimodalModel, epoch: int = 0) -> Modulator:
    """The modulator, prepared and at the beginning of an epoch."""
    generator = torch.Generator().manual_seed(SEED)
    modulator.prepare(context(modulator, case, model, generator))
    modulator.begin_epoch(context(modulator, case, model, generator, epoch))
    return modulator


def driven(subject: Subject, case: Case, lr: float = 0.0) -> Driven:
    """The first epoch of a training and a batch of the second."""
    generator, model, modulator = torch.Generator().manual_seed(SEED), case.model(), subject.made(case)
    modulator.prepare(context(modulator, case, model, generator))
    taken, moved, conduct = [], [], Conduct(modulator, model)
    for epoch, count in enumerate((STEPS, 1)):
        modulator.begin_epoch(context(modulator, case, model, generator, epoch))
        for number in range(count):
            before = _batches_tracked(model)
            taken.append(take(modulator, model, case.batch(number), lr, None if epoch else conduct))
            moved.append({name: times - before[name] for name, times in _batches_tracked(model).items()})
        modulator.end_epoch(context(modulator, case, model, generator, epoch, ended=True))
    return Driven(case, generator, modulator, model, taken, moved, conduct)
