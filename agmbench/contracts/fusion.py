"""What a fusion of features is, and what it returns."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn


class Fused(NamedTuple):
    """`logits` `[B, C]` and the fused `representation` `[B, R]` from which competition strength is read."""

    logits: Tensor
    representation: Tensor


class Fusion(nn.Module):
    """From features `{m: [B, D_m]}` to logits, by one or more linear heads.

    `additive`: the logits are a sum with one term per modality, which `terms` returns. `takes_tokens`: the features are `{m: Tokens}`
    instead. `per_segment`: the fusion predicts each segment, with logits `[B, T, C]` and representation `[B, T, R]`. `penalises`: the
    fusion has a loss of its own that does not depend on the logits; its `penalty` is then added to the loss of every method.
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
        """The gradients of the weights of a modality's own term, to be changed in place; empty if the modalities share all weights."""
        return []

    def penalty(self, features: Mapping[str, Any], targets: Tensor) -> Tensor:
        """The fusion's own loss, a mean over the samples, from features in train mode; only for fusions that penalise."""
        raise TypeError(f"{type(self).__name__} has no loss of its own")

    def heads(self) -> list[nn.Linear]:
        """The last linear layers, which give the logits."""
        raise TypeError(f"{type(self).__name__} should define heads()")
