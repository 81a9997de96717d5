"""What a modulator may know about the training around it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from agmbench.contracts.batches import Batch
from agmbench.contracts.model import Model
from agmbench.contracts.splits import Split, SplitName


def _unranked(model: Model) -> tuple[float, float]:
    raise TypeError("this context has no validation, so models cannot be ranked")


def _no_recipe(tensors: Sequence[nn.Parameter]) -> Optimizer:
    raise TypeError("this context has no recipe, so no optimizer can be made")


@dataclass(frozen=True)
class Context:
    """What a modulator may know about the training around it.

    `generator` is the modulator's own random generator, on the model's device; it is part of the checkpoint. `valid_accuracy` and
    `valid_loss` are those of each modality's Shapley response after the last epoch, and empty before the first epoch (for a regression,
    R2 replaces accuracy). `model` and `optimizer` may be used, but not kept. The optimizer is there from the first epoch on.
    Its state, but not its rates, may be cleared or restored at the beginning of an epoch, and is part of the checkpoint. `rank` says how
    good a model of one modality is on valid, as epochs are ranked: larger is better. `fresh` makes another optimizer of the recipe's
    kind, at the current rate, for the tensors of a copy that a method trains by itself. `concepts` are the trained unimodal models
    ("mono-modal concepts"), frozen and in eval mode, for a modulator that `needs_concepts`.
    """

    epoch: int
    epochs: int
    steps_per_epoch: int
    splits: Mapping[SplitName, Split]
    generator: torch.Generator
    model: Model
    valid_accuracy: Mapping[str, float] = field(default_factory=dict)
    valid_loss: Mapping[str, float] = field(default_factory=dict)
    concepts: Mapping[str, Model] = field(default_factory=dict)
    rank: Callable[[Model], tuple[float, float]] = _unranked
    reads: Callable[[SplitName, Iterable[Tensor]], Iterator[Batch]] | None = None
    optimizer: Optimizer | None = None
    fresh: Callable[[Sequence[nn.Parameter]], Optimizer] = _no_recipe

    def batches(self, name: SplitName, pieces: Iterable[Tensor]) -> Iterator[Batch]:
        """Batches of a split by the numbers of their samples, on the model's device, read ahead if the job reads ahead."""
        split = self.splits[name]
        if self.reads is not None:
            return self.reads(name, pieces)
        return (split.batch(piece).to(self.generator.device) for piece in pieces)
