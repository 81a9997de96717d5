"""Leaves out tokens at random, as words are left out in the training of text classifiers (Iyyer et al., ACL 2015)."""

from typing import Annotated

import torch
from annotated_types import Ge, Le

from agmbench.contracts import Tokens, Transform, Unsuitable


class TokenDropout(Transform):
    """Leaves out tokens of a sequence, or words of a text, at random: they are set to zero and hidden by the mask. At least one stays.

    The others keep their places, so that they stay aligned word by word with other modalities.

    share: the probability that a token is left out. Iyyer et al. .3; default .1.
    """

    def __init__(self, shape: tuple[int, ...], *, share: Annotated[float, Ge(0), Le(1)] = 0.1) -> None:
        if len(shape) != 2:
            raise Unsuitable(f"takes sequences [T, F] or word numbers [T, 1]; found {list(shape)}")
        self.share = share

    def __call__(self, x: Tokens, generator: torch.Generator) -> Tokens:
        """Leave out tokens of a sequence `[1, T, F]`."""
        if not isinstance(x, Tokens):
            raise Unsuitable(f"takes sequences whose tokens have a mask; found a tensor {list(x.shape)}")
        there = torch.ones(x.values.shape[:2], dtype=torch.bool) if x.mask is None else x.mask  # [1, T]
        drawn = torch.rand(there.shape, generator=generator)
        best = drawn.masked_fill(~there, -1.0).argmax(dim=1, keepdim=True)
        kept = there & (drawn >= self.share).scatter(1, best, True)
        return Tokens(x.values.masked_fill(~kept.unsqueeze(2), 0), kept)
