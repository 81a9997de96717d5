"""Compares gradients and coefficients with what was promised, up to an allowed difference."""

from collections.abc import Mapping

import torch
from torch import Tensor

from agmbench.testing.checks import BrokenPromise

JOINT = 1e-6  # allowed difference of gradients from those of joint training, in units of the largest gradient
NAIVE = 1e-5  # allowed difference of gradients from those of full passes, in the same units
KAPPA = 1e-6  # allowed difference of coefficients that should be equal, in units of the larger of 1 and the coefficient


class Largest:
    """The largest difference between gradients so far, in units of the largest gradient of its model."""

    def __init__(self, promise: str, allowed: float) -> None:
        self.promise, self.allowed = promise, allowed
        self.models, self.value = 0, 0.0

    def add(self, where: object, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
        """Compare the gradients of one more model. A missing gradient counts as zero. Raises `BrokenPromise` if a difference is larger than
        allowed."""
        unit = torch.stack([gradient.abs().max() for gradient in expected.values()]).max()
        own = (name for name in found if not name.startswith("modulator."))  # joint training has none of a modulator's tensors
        for name in dict.fromkeys([*expected, *own]):
            difference = float(_apart(found.get(name), expected.get(name)) / unit)
            if not difference <= self.allowed:
                raise BrokenPromise(
                    f"{where}: {self.promise}, the gradient of {name} differs by {difference:.1e} of the largest gradient, "
                    f"allowed {self.allowed:.0e}"
                )
            self.value = max(self.value, difference)
        self.models += 1

    def detail(self, reference: str) -> str:
        """The detail of a passed check; `reference` names what the gradients were compared with."""
        return (
            f"{self.promise}, gradients differ {reference} by {self.value:.1e} at most, allowed {self.allowed:.0e}, "
            f"in {self.models} models"
        )


def _apart(one: Tensor | None, two: Tensor | None) -> Tensor:
    if one is None or two is None:
        return torch.stack([tensor.abs().max() for tensor in (one, two) if tensor is not None]).max()
    return (one - two).abs().max()


def close(promise: str, found: Mapping[str, float], expected: Mapping[str, float]) -> None:
    """Raise `BrokenPromise` unless the coefficients are as expected, up to `KAPPA`."""
    if not all(abs(found[m] - value) <= KAPPA * max(1.0, abs(value)) for m, value in expected.items()):
        raise BrokenPromise(f"{promise}; found {numbers(found)}, expected {numbers(expected)}, allowed {KAPPA:.0e}")


def numbers(kappa: Mapping[str, float]) -> str:
    """Coefficients as a message shows them."""
    return ", ".join(f"{modality} {value:.7g}" for modality, value in kappa.items())
