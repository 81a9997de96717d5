"""Synthetic data of M modalities for which the best possible accuracy is known, for tests and teaching."""

import hashlib
import json
from math import erf, sqrt
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Len
from torch import Tensor

from agmbench.contracts import SPLITS, Dataset, Split, SplitName, TensorSplit

FASTER = 3.0  # how much stronger the spurious modality is in training


class Synthetic(Dataset):
    """Modality m of a sample shows a symbol `v_m` (the sample's class, unless `kind` says otherwise) in the vector

        x_m = A_m ( strength_m onehot(v_m) + noise_m ( sqrt(redundancy_m) g + sqrt(1 - redundancy_m) g_m ) ),

    with `A_m` `[size, C]` of orthonormal columns, `g` and `g_m` `[C]` standard normal, `g` common to all modalities.
    A class is read from modality m with an accuracy that depends only on `strength_m / noise_m`. Redundancy is the share of a
    modality's noise that is common to all: if it is 0 for all, modalities err independently and each adds evidence; if it is 1 for all
    (and strength over noise is equal), they err on the same samples and a second one adds nothing. `best_accuracy` is what the best
    classifier reaches on test; with the defaults:

    | kind | best on both | on m0 alone | on m1 alone |
    |---|---:|---:|---:|
    | independent | .943 | .823 | .823 |
    | redundant | .823 | .823 | .823 |
    | complementary (C = 2) | .855 | .5 | .5 |
    | spurious-fast | .823 | .25 | .823 |

    kind: `independent`: as above. `redundant`: the same with redundancy 1, so that a second modality adds nothing. `complementary`: two
        classes, where each modality shows a bit and the class is their parity (XOR for two), so that no modality alone is better than
        chance. `spurious-fast`: m0 is three times as strong in train, dev and valid, and shows a random class in test.
    strength, noise, redundancy: one number for all modalities, or a list with one number per modality.
    modalities: M, the number of modalities; they are named m0, m1, ...
    classes: C, the number of classes; `None` means 2 if `kind` is complementary, otherwise 4.
    size: length of the vector `x_m`.
    samples: number of training samples; dev, valid and test each have a quarter of it, at least 64.
    """

    follows_seed = True

    def __init__(
        self,
        seed: int,
        *,
        kind: Literal["independent", "redundant", "complementary", "spurious-fast"] = "independent",
        modalities: Annotated[int, Ge(1), Le(5)] = 2,
        classes: Annotated[int, Ge(2)] | None = None,
        size: Annotated[int, Gt(0)] = 16,
        samples: Annotated[int, Ge(64), Le(10_000_000)] = 1024,
        strength: float | Annotated[list[float], Len(1)] = 2.0,
        noise: float | Annotated[list[float], Len(1)] = 1.0,
        redundancy: float | Annotated[list[float], Len(1)] = 0.0,
    ) -> None:
        count = classes or (2 if kind == "complementary" else 4)
        self._names = [f"m{number}" for number in range(modalities)]
        self._kind = kind
        self._strength = self._each("strength", strength)
        self._noise = self._each("noise", noise)
        self._redundancy = [1.0] * modalities if kind == "redundant" else self._each("redundancy", redundancy)
        if not all(0 <= value <= 1 for value in self._redundancy):
            raise ValueError(f"redundancy should be between 0 and 1; found {redundancy}")
        if size < count:
            raise ValueError(f"size should be at least the number of classes; found size {size} and {count} classes")
        if kind in ("complementary", "spurious-fast") and modalities < 2:
            raise ValueError(f"kind {kind} needs two or more modalities; found {modalities}")
        if kind == "complementary" and count != 2:
            raise ValueError(f"kind complementary has two classes, even and odd; found {count}")
        self.shapes = dict.fromkeys(self._names, (size,))
        self.class_names = [f"class {number}" for number in range(count)]
        self._samples = samples
        self._generator = torch.Generator().manual_seed(seed)
        self._views = [
            torch.linalg.qr(torch.randn(size, count, generator=self._generator)).Q for _ in self._names
        ]  # A_m, each [size, C]
        self._seed = seed
        settings = [2, seed, kind, modalities, count, size, samples, self._strength, self._noise, self._redundancy]
        self.fingerprint = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]

    def _each(self, name: str, value: float | list[float]) -> list[float]:
        values = value if isinstance(value, list) else [value] * len(self._names)
        if len(values) != len(self._names):
            raise ValueError(f"{name} should be one number, or {len(self._names)} numbers, one per modality; found {value}")
        return [float(number) for number in values]

    def split(self, name: SplitName) -> Split:
        generator = torch.Generator().manual_seed(self._seed * len(SPLITS) + SPLITS.index(name) + 1)
        count, classes = self._samples if name == "train" else max(64, self._samples // 4), len(self.class_names)
        targets = torch.arange(count) % classes
        common = torch.randn(count, classes, generator=generator)
        shown = self._shown(name, targets, generator)
        strength = list(self._strength)
        if self._kind == "spurious-fast" and name != "test":
            strength[0] *= FASTER
        inputs = {
            m: self._view(number, shown[number], strength[number], common, generator) for number, m in enumerate(self._names)
        }
        return TensorSplit(inputs, targets)

    def _shown(self, name: SplitName, targets: Tensor, generator: torch.Generator) -> list[Tensor]:
        """The symbol that each modality shows, `[N]` each."""
        shown = [targets] * len(self._names)
        if self._kind == "complementary":
            bits = [torch.randint(2, targets.shape, generator=generator) for _ in self._names[1:]]
            shown = [(targets + sum(bits)) % 2, *bits]  # their parity is the class
        if self._kind == "spurious-fast" and name == "test":
            shown = [torch.randint(len(self.class_names), targets.shape, generator=generator), *shown[1:]]
        return shown

    def _view(self, number: int, shown: Tensor, strength: float, common: Tensor, generator: torch.Generator) -> Tensor:
        own = torch.randn(common.shape, generator=generator)
        share = self._redundancy[number]
        latent = self._noise[number] * (share**0.5 * common + (1 - share) ** 0.5 * own)
        latent[torch.arange(len(shown)), shown] += strength
        seen: Tensor = latent @ self._views[number].T  # [N, size]
        return seen

    def best_accuracy(self, *present: str) -> float:
        """The accuracy on test of the best classifier with these modalities (all, if none is named), which knows how the data are made.

        If each of C classes has the distance `d` from the others (in units of the noise), the best accuracy is `E[ Phi(z + d)^(C-1) ]`
        with z standard normal; several modalities together have `d^2 = s' pinv(Sigma) s`. Kind `complementary` is only covered for
        redundancy 0, and raises `ValueError` otherwise.
        """
        chosen = [number for number, m in enumerate(self._names) if not present or m in present]
        classes = len(self.class_names)
        if self._kind == "complementary":
            if any(self._redundancy):
                raise ValueError("best_accuracy of a parity is known for redundancy 0 alone")
            if len(chosen) < len(self._names):
                return 0.5
            right = [0.5 * (1 + erf(self._strength[number] / self._noise[number] / 2)) for number in chosen]
            return float(0.5 * (1 + np.prod([2 * p - 1 for p in right])))  # an even number of bits is wrong
        if self._kind == "spurious-fast":
            chosen = [number for number in chosen if number > 0]
        return _of_classes(self._apart(chosen), classes)

    def _apart(self, chosen: list[int]) -> float:
        """The distance of two classes as seen through all chosen modalities, in units of the noise."""
        if not chosen:
            return 0.0
        s, n, r = (np.array(values)[chosen] for values in (self._strength, self._noise, self._redundancy))
        sigma = np.outer(n * np.sqrt(r), n * np.sqrt(r)) + np.diag(n**2 * (1 - r))
        inverse = np.linalg.pinv(sigma, hermitian=True)
        if not np.allclose(sigma @ inverse @ s, s):
            return np.inf  # the common noise can be removed completely
        return float(sqrt(s @ inverse @ s))


def _of_classes(apart: float, classes: int) -> float:
    """`E[ Phi(z + d)^(C-1) ]` by a sum over a fine grid."""
    if np.isinf(apart):
        return 1.0
    z = np.linspace(-10, 10, 4001)
    below = np.array([0.5 * (1 + erf((value + apart) / sqrt(2))) for value in z]) ** (classes - 1)
    density = np.exp(-(z**2) / 2)
    return float((below * density).sum() / density.sum())
