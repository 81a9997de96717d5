"""The transforms of a job, in the form in which its splits apply them.

The random numbers of training depend on the job's seed, the epoch, the sample and its modality; those of evaluation only on the sample and
its modality.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from agmbench.contracts import Change, Input, Transform, Unsuitable


@dataclass(frozen=True)
class Augmentation:
    """How samples are changed. `augmentation(epoch)` is the change in an epoch of training, `augmentation(None)` the one in evaluation.

    A sample is identified by its number in the whole split, so a job with `limit` changes a sample in the same way as a job on all samples.
    What is drawn in evaluation does not depend on the job's seed: every model is evaluated on the same samples.

    training, evaluation: a transform by modality.
    shapes: the shape of a sample, by modality.
    """

    training: Mapping[str, Transform]
    evaluation: Mapping[str, Transform]
    shapes: Mapping[str, Sequence[int]]
    seed: int

    def __call__(self, epoch: int | None) -> Change:
        transforms = self.evaluation if epoch is None else self.training
        known = ("evaluation",) if epoch is None else (self.seed, epoch)
        return {m: Drawn(transform, tuple(self.shapes[m]), (*known, m)) for m, transform in transforms.items()}


@dataclass(frozen=True)
class Drawn:
    """A transform, with what its random numbers in one epoch depend on (`known`)."""

    transform: Transform
    shape: tuple[int, ...]
    known: tuple[Any, ...]

    @property
    def any_size(self) -> bool:
        return self.transform.any_size

    def __call__(self, number: int, x: Input) -> Input:
        generator = torch.Generator().manual_seed(_seed(*self.known, number))
        if isinstance(x, Tensor) and x.dtype == torch.uint8 and x.ndim > 3 and x.shape[-1] == 3:  # pictures [1, n, H, W, 3]
            pictures: Tensor = self.transform(x.movedim(-1, -3), generator)
            return pictures.movedim(-3, -1)
        if isinstance(x, Tensor) and x.numel() == prod(self.shape):  # stored flat, or without an axis of one
            changed: Tensor = self.transform(x.reshape(1, *self.shape), generator)
            if changed.shape != (1, *self.shape):
                raise Unsuitable(f"makes {list(changed.shape[1:])} of a sample {list(self.shape)}; expected the same shape")
            return changed.reshape(x.shape)
        sample: Input = self.transform(x, generator)
        return sample


def _seed(*known: Any) -> int:
    """A seed, one of 2^63, that depends on every value in `known`."""
    return int.from_bytes(hashlib.sha256(repr(known).encode()).digest()[:8]) >> 1
