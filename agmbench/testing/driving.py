"""Runs a modulator on batches as the training loop does."""

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

STEPS = 4  # batches per epoch: one for each modality of the largest model, for methods in which modalities take turns


def context(case: Case, model: MultimodalModel, generator: torch.Generator, epoch: int = 0, ended: bool = False) -> Context:
    """The context of a training of a case. It has validation numbers after the first epoch has ended."""
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
        concepts={} if len(model.modalities) == 1 else case.concepts(),
        rank=lambda concept: (numbers[concept.modalities[0]], 0.0),
        fresh=lambda tensors: torch.optim.SGD(tensors, lr=0.01),
    )


class Taken(NamedTuple):
    """The result of one batch: its steps, and the gradients by name. The gradients of several steps are added."""

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
    """Take a batch as the training loop does, with plain gradient descent as the optimizer. Dropout draws the same at every call."""
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
    """A case after one epoch and one batch of the next: the result of each batch, and how often it updated each BatchNorm.

    `conduct` has observed the steps of the first epoch.
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
        """The results of the batches of the first epoch."""
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
    """The gradients of joint training of a case with its first weights on its first batch."""
    return joint(case.model(), case.batch())


@dataclass(frozen=True)
class Subject:
    """The modulator under check: how to make it, what it promises, and which cases it refuses."""

    make: Make
    params: Mapping[str, Any]
    promises: Promises
    refused: frozenset[Case] = frozenset()

    def taken(self, cases: Iterable[Case] = SOME) -> list[Case]:
        """The cases that the modulator does not refuse. Raises `Skipped` if there are none."""
        found = [case for case in cases if case not in self.refused]
        if not found:
            raise Skipped("refuses every model that this check has")
        return found

    def made(self, case: Case, params: Mapping[str, object] | None = None) -> Modulator:
        """A new instance for a case, with the promises that are checked."""
        made = self.make(case.modalities, **{**self.params, **(params or {})})
        made.promises = self.promises  # type: ignore[misc]  # instead of those of its class
        return made

    def first(self, case: Case, model: MultimodalModel, batch: Batch, **params: object) -> Taken:
        """The result of a batch of the first epoch, taken by a new instance."""
        return take(begun(self.made(case, params), case, model), model, batch)

    @cached_property
    def runs(self) -> list[Driven]:
        """Every case after the first epoch and a batch of the second."""
        return [driven(self, case) for case in self.taken()]


def begun(modulator: Modulator, case: Case, model: MultimodalModel, epoch: int = 0) -> Modulator:
    """Prepare a modulator, begin an epoch, and return the modulator."""
    generator = torch.Generator().manual_seed(SEED)
    modulator.prepare(context(case, model, generator))
    modulator.begin_epoch(context(case, model, generator, epoch))
    return modulator


def driven(subject: Subject, case: Case, lr: float = 0.0) -> Driven:
    """Run the first epoch of a training and a batch of the second."""
    generator, model, modulator = torch.Generator().manual_seed(SEED), case.model(), subject.made(case)
    modulator.prepare(context(case, model, generator))
    taken, moved, conduct = [], [], Conduct(modulator, model)
    for epoch, count in enumerate((STEPS, 1)):
        modulator.begin_epoch(context(case, model, generator, epoch))
        for number in range(count):
            before = _batches_tracked(model)
            taken.append(take(modulator, model, case.batch(number), lr, None if epoch else conduct))
            moved.append({name: times - before[name] for name, times in _batches_tracked(model).items()})
        modulator.end_epoch(context(case, model, generator, epoch, ended=True))
    return Driven(case, generator, modulator, model, taken, moved, conduct)
