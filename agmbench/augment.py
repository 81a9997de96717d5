"""The transforms of a job as its splits take them: every draw comes from the job's seed, the epoch, the sample and its modality."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from agmbench.contracts import Change, Input, Transform, Unsuitable


@dataclass(frozen=True)
class Augmentation:
    """What becomes of training samples: a transform and the shape of a sample by modality. `augmentation(epoch)` is the change then.

    Samples are known by their numbers in the whole split, so those of a limited job are changed as in one of all samples.
    """

    transforms: Mapping[str, Transform]
    shapes: Mapping[str, tuple[int, ...]]
    seed: int

    def __call__(self, epoch: int) -> Change:
        return {m: Drawn(transform, self.shapes[m], (self.seed, epoch, m)) for m, transform in self.transforms.items()}


@dataclass(frozen=True)
class Drawn:
    """A transform with the draws of one epoch."""

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
    """One of 2^63 that hangs on all that is known."""
    return int.from_bytes(hashlib.sha256(repr(known).encode()).digest()[:8]) >> 1
