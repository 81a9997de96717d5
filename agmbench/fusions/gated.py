"""Gated fusion: one modality opens and closes the others (Kiela et al., AAAI 2018, as used by OGM-GE)."""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn

from agmbench.contracts import Fused, Fusion
from agmbench.fusions.film import conditioning


class Gated(Fusion):
    """`u_m = linear_m(e_m)` `[B, width]`. The representation is `sigmoid(u_g) * sum_{k != g} u_k`, and the head is linear. Not additive.

    gate: the name of the gating modality g; `None` takes the first. OGM-GE: audio.
    width: width of the `u_m`. OGM-GE and default 512.
    """

    def __init__(
        self,
        features: Mapping[str, int],
        classes: int,
        *,
        gate: str | None = None,
        width: Annotated[int, Gt(0)] = 512,
    ) -> None:
        super().__init__(features, classes)
        self.gate, self.gated = conditioning(features, gate)
        self.project = nn.ModuleDict({modality: nn.Linear(size, width) for modality, size in features.items()})
        self.head = nn.Linear(width, classes)

    def forward(self, features: Mapping[str, Tensor]) -> Fused:
        opened = torch.sigmoid(self.project[self.gate](features[self.gate]))  # [B, width]
        through = torch.stack([self.project[k](features[k]) for k in self.gated]).sum(dim=0)
        representation = opened * through
        return Fused(self.head(representation), representation)

    def heads(self) -> list[nn.Linear]:
        return [self.head]
