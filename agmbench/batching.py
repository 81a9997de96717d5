"""How the samples of an epoch are divided into batches, and the batches into optimizer steps."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import torch

from agmbench.contracts import Batch
from agmbench.jobs import Training


def placed(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The batches of an epoch, each with the places of its samples in the epoch's list of samples (`Batch.at`)."""
    begun = 0
    for batch in batches:
        ended = begun + len(batch.targets)
        yield replace(batch, at=torch.arange(begun, ended, device=batch.targets.device))
        begun = ended


def in_groups(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """The micro-batches of each optimizer step."""
    while group := list(islice(batches, size)):
        yield group


def batches_of(count: int, recipe: Training) -> list[slice]:
    """Divide `count` samples into batches. A last batch of one sample is left out, because BatchNorm cannot take it. With the recipe's
    `drop_last`, any last batch that is not full is left out, unless it is the only one."""
    size = recipe.batch_size
    least = min(size, count) if recipe.drop_last else 2
    return [slice(start, min(start + size, count)) for start in range(0, count, size) if count - start >= least]
