"""An epoch's samples in batches, and the batches of an optimizer step."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import torch

from agmbench.contracts import Batch
from agmbench.jobs import Training


def placed(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The batches of an epoch, with the places of their samples in its list."""
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
    """Batches; a last one of one sample, which BatchNorm cannot take, is left out, and if the recipe says so one that is not full,
    unless it is the only one."""
    size = recipe.batch_size
    least = min(size, count) if recipe.drop_last else 2
    return [slice(start, min(start + size, count)) for start in range(0, count, size) if count - start >= least]
