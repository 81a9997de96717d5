"""Noise on sound and other numbers, as in the code of AST (Gong et al., Interspeech 2021)."""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from agmbench.contracts import Input, Tokens, Transform, Unsuitable


class Noise(Transform):
    """Adds normal noise whose strength is drawn for each sample.

        x + s sigma(x) n,  s ~ U[0, level),  n ~ N(0, 1),  sigma(x) the standard deviation of the sample

    Official code: AST adds uniform noise of strength U[0, .1) to filterbanks of deviation .5, whatever the sample.

    level: largest strength, in deviations of the sample. Default .1.
    """

    def __init__(self, shape: tuple[int, ...], *, level: Annotated[float, Ge(0)] = 0.1) -> None:
        if len(shape) == 2 and shape[-1] == 1:
            raise Unsuitable(f"takes numbers that may be a little more or less, not word numbers {list(shape)}")
        self.level = level

    def __call__(self, x: Input, generator: torch.Generator) -> Input:
        """Add noise to numbers of any shape; hidden tokens stay as they are."""
        if not isinstance(x, Tokens):
            return self._noisy(x, torch.ones_like(x, dtype=torch.bool), generator)
        there = torch.ones_like(x.values[..., :1], dtype=torch.bool) if x.mask is None else x.mask.unsqueeze(2)
        return Tokens(self._noisy(x.values, there.expand_as(x.values), generator), x.mask)

    def _noisy(self, values: Tensor, there: Tensor, generator: torch.Generator) -> Tensor:
        if not values.is_floating_point():
            raise Unsuitable(f"adds noise to floats; found {values.dtype}, as pictures of bytes are")
        strength = self.level * torch.rand((), generator=generator, dtype=torch.float64)
        drawn = torch.randn(values.shape, generator=generator)
        known = values[there].double()
        deviation = (known - known.mean()).square().mean().sqrt().nan_to_num()  # 0 if there are no tokens
        return torch.where(there, values + (strength * deviation).float() * drawn, values).to(values.dtype)
