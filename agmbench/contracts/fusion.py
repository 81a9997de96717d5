"""What a fusion of features is, and what it answers."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn


class Fused(NamedTuple):
    """`logits` `[B, C]` and the fused `representation` `[B, R]` from which competition strength is read."""

    logits: Tensor
    representation: Tensor


class Fusion(nn.Module):
    """Features `{m: [B, D_m]}` to logits, by one or more linear heads.

    `additive` says that the logits are a sum of one term a modality, which `terms` then returns. `takes_tokens` says that features
    are `{m: Tokens}` instead, `per_segment` that it answers for each segment: logits `[B, T, C]`, representation `[B, T, R]`.
    `penalises` says that it has a loss of its own, which no logits tell: its `penalty` is then added to the loss of every method.
    """

    additive: ClassVar[bool] = False
    takes_tokens: ClassVar[bool] = False
    per_segment: ClassVar[bool] = False
    penalises: bool = False

    def __init__(self, features: Mapping[str, int], classes: int) -> None:
        super().__init__()

    def forward(self, features: Mapping[str, Any]) -> Fused:
        raise TypeError(f"{type(self).__name__} should define forward(features)")

    def terms(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`z_m` `[B, C]` with `sum_m z_m` = logits; for additive fusions only."""
        raise TypeError(f"{type(self).__name__} is not additive: it has no term of a modality's own")

    def own_gradients(self, modality: str) -> list[Tensor]:
        """The gradients that are there of the weights of a modality's own term, to be changed in place; none where all share them."""
        return []

    def penalty(self, features: Mapping[str, Any], targets: Tensor) -> Tensor:
        """The loss of its own, a mean over the samples, of features in train mode; for fusions that penalise only."""
        raise TypeError(f"{type(self).__name__} has no loss of its own")

    def heads(self) -> list[nn.Linear]:
        """The last linear layers, those that write the logits."""
        raise TypeError(f"{type(self).__name__} should define heads()")
