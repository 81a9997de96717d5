"""Late fusion by cosines: MMCosine (Xu et al., ICASSP 2023)."""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn
from torch.nn import functional as F

from agmbench.contracts import Fused, Fusion

SHORT = 1e-6


class Cosine(Fusion):
    """The logits are a sum of cosines, so that no modality dominates by the size of its features or of its weights:

        z_m = scale cos(e_m, rows of W_m),   f = sum_m z_m,   no bias

    Additive: each summand is a term. The representation is the concatenated features. Joint training with this fusion is the method
    MMCosine; other modulators work with it unchanged. A feature that is zero, or nearly zero (1e-6), has no direction: its term is zero
    and has no gradient.

    scale: official code and ours 10.

    Official code: the same weights, step by step (its values are in `tests/reference`). It divides by any length of at least 1e-12, so a
    muted input can have a gradient of 1e12. In evaluation it predicts with the plain linear head; ours is the same function in training
    and in evaluation. Its FiLM and gated variants are not here.
    """

    additive = True

    def __init__(self, features: Mapping[str, int], classes: int, *, scale: Annotated[float, Gt(0)] = 10.0) -> None:
        super().__init__(features, classes)
        self.scale = scale
        self.head = nn.ModuleDict({modality: nn.Linear(size, classes, bias=False) for modality, size in features.items()})

    def forward(self, features: Mapping[str, Tensor]) -> Fused:
        logits = torch.stack(list(self.terms(features).values())).sum(dim=0)  # [B, C]
        return Fused(logits, torch.cat([features[modality] for modality in self.head], dim=1))

    def terms(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        rows = {m: directions(head.weight) for m, head in zip(self.head, self.heads(), strict=True)}
        return {m: self.scale * F.linear(directions(features[m]), row) for m, row in rows.items()}

    def heads(self) -> list[nn.Linear]:
        return [head for head in self.head.values() if isinstance(head, nn.Linear)]


def directions(rows: Tensor) -> Tensor:
    """Each row scaled to length 1. A row too short to have a direction, as that of a muted input may be, is zero and has no gradient."""
    length = rows.norm(dim=1, keepdim=True)
    return torch.where(length > SHORT, rows / length.clamp(min=SHORT), 0.0)
