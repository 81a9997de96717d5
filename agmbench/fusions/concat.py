"""Late fusion: one linear head on the concatenated features."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agmbench.contracts import Fused, Fusion


class Concat(Fusion):
    """`f = W [e_1, ..., e_M] + b`; additive, with terms `z_m = W_m e_m + b/M` (OGM-GE, section 3). No parameters."""

    additive = True

    def __init__(self, features: Mapping[str, int], classes: int) -> None:
        super().__init__(features, classes)
        self.sizes = dict(features)
        self.head = nn.Linear(sum(self.sizes.values()), classes)

    def forward(self, features: Mapping[str, Tensor]) -> Fused:
        representation = torch.cat([features[modality] for modality in self.sizes], dim=1)  # [B, sum D]
        return Fused(self.head(representation), representation)

    def terms(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        weights = self.head.weight.split(list(self.sizes.values()), dim=1)  # M times [C, D_m]
        bias = self.head.bias / len(self.sizes)
        return {m: F.linear(features[m], weight, bias) for m, weight in zip(self.sizes, weights, strict=True)}

    def own_gradients(self, modality: str) -> list[Tensor]:
        """The gradient of `W_m`; the bias belongs to all modalities."""
        if self.head.weight.grad is None:
            return []
        slices = self.head.weight.grad.split(list(self.sizes.values()), dim=1)
        return [slices[list(self.sizes).index(modality)]]

    def heads(self) -> list[nn.Linear]:
        return [self.head]
