"""How far gradients and coefficients may be from what was promised."""

from collections.abc import Mapping

import torch
from torch import Tensor

from agmbench.testing.checks import BrokenPromise

JOINT = 1e-6  # gradients that should be joint training's: largest difference, in units of the largest gradient
NAIVE = 1e-5  # the same for gradients by full passes
KAPPA = 1e-6  # coefficients that should be equal: difference, in units of the larger of 1 and the coefficient


class Largest:
    """The largest difference between gradients so far, in units of the largest gradient of its model."""

    def __init__(self, promise: str, allowed: float) -> None:
        self.promise, self.allowed = promise, allowed
        self.models, self.value = 0, 0.0

    def add(self, where: object, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
        """A tensor without a gradient counts as zero; more than allowed breaks the promise."""
        unit = torch.stack([gradient.abs().max() for gradient in expected.values()]).max()
        own = (name for name in found if not name.startswith("modulator."))  # what it brings itself has no counterpart in joint
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
        """What a passed check says."""
        return (
            f"{self.promise}, gradients differ {reference} by {self.value:.1e} at most, allowed {self.allowed:.0e}, "
            f"in {self.models} models"
        )


def _apart(one: Tensor | None, two: Tensor | None) -> Tensor:
    if one is None or two is None:
        return torch.stack([tensor.abs().max() for tensor in (one, two) if tensor is not None]).max()
    return (one - two).abs().max()


def close(promise: str, found: Mapping[str, float], expected: Mapping[str, float]) -> None:
    """Raise unless coefficients are as expected."""
    if not all(abs(found[m] - value) <= KAPPA * max(1.0, abs(value)) for m, value in expected.items()):
        raise BrokenPromise(f"{promise}; found {numbers(found)}, expected {numbers(expected)}, allowed {KAPPA:.0e}")


def numbers(kappa: Mapping[str, float]) -> str:
    """Coefficients as a message shows them."""
    return ", ".join(f"{modality} {value:.7g}" for modality, value in kappa.items())
