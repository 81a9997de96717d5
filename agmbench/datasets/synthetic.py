"""Gaussian classes seen through M modalities, for tests and teaching."""

import hashlib
import json
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le, Len
from torch import Tensor

from agmbench.contracts import SPLITS, Dataset, Split, SplitName, TensorSplit


class Synthetic(Dataset):
    """Modality m of a sample of class y is the vector

        x_m = A_m ( strength_m onehot(y) + noise_m ( sqrt(redundancy_m) g + sqrt(1 - redundancy_m) g_m ) ),

    with `A_m` `[size, C]` of orthonormal columns, `g` and `g_m` `[C]` standard normal, `g` common to all modalities.
    A class is read from modality m with an accuracy that depends on `strength_m / noise_m` alone. Redundancy is the share of a
    modality's noise that is common: at 0 for all, modalities err independently and each adds evidence; at 1 for all (and equal
    strength over noise) they err on the same samples and a second one adds nothing.

    strength, noise, redundancy: a number for every modality, or a list with one number a modality.
    modalities: M; they are named m0, m1, ...
    samples: of train; dev, valid and test have a quarter of it, at least 64 each.
    """

    def __init__(
        self,
        seed: int,
        *,
        modalities: Annotated[int, Ge(1), Le(5)] = 2,
        classes: Annotated[int, Ge(2)] = 4,
        size: Annotated[int, Gt(0)] = 16,
        samples: Annotated[int, Ge(64)] = 1024,
        strength: float | Annotated[list[float], Len(1)] = 2.0,
        noise: float | Annotated[list[float], Len(1)] = 1.0,
        redundancy: float | Annotated[list[float], Len(1)] = 0.0,
    ) -> None:
        self._names = [f"m{number}" for number in range(modalities)]
        self._strength = self._each("strength", strength)
        self._noise = self._each("noise", noise)
        self._redundancy = self._each("redundancy", redundancy)
        if not all(0 <= value <= 1 for value in self._redundancy):
            raise ValueError(f"redundancy should be between 0 and 1; found {redundancy}")
        if size < classes:
            raise ValueError(f"size should be at least the number of classes; found size {size} and {classes} classes")
        self.shapes = dict.fromkeys(self._names, (size,))
        self.class_names = [f"class {number}" for number in range(classes)]
        self._samples = samples
        self._generator = torch.Generator().manual_seed(seed)
        self._views = [
            torch.linalg.qr(torch.randn(size, classes, generator=self._generator)).Q for _ in self._names
        ]  # A_m, each [size, C]
        self._seed = seed
        settings = [1, seed, modalities, classes, size, samples, self._strength, self._noise, self._redundancy]
        self.fingerprint = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]

    def _each(self, name: str, value: float | list[float]) -> list[float]:
        values = value if isinstance(value, list) else [value] * len(self._names)
        if len(values) != len(self._names):
            raise ValueError(f"{name} should be a number or {len(self._names)} numbers, one a modality; found {value}")
        return [float(number) for number in values]

    def split(self, name: SplitName) -> Split:
        generator = torch.Generator().manual_seed(self._seed * len(SPLITS) + SPLITS.index(name) + 1)
        count = self._samples if name == "train" else max(64, self._samples // 4)
        targets = torch.arange(count) % len(self.class_names)
        common = torch.randn(count, len(self.class_names), generator=generator)
        inputs = {m: self._view(number, targets, common, generator) for number, m in enumerate(self._names)}
        return TensorSplit(inputs, targets)

    def _view(self, number: int, targets: Tensor, common: Tensor, generator: torch.Generator) -> Tensor:
        own = torch.randn(common.shape, generator=generator)
        share = self._redundancy[number]
        latent = self._noise[number] * (share**0.5 * common + (1 - share) ** 0.5 * own)
        latent[torch.arange(len(targets)), targets] += self._strength[number]
        seen: Tensor = latent @ self._views[number].T  # [N, size]
        return seen
