"""Late fusion by cosines: MMCosine (Xu et al., ICASSP 2023)."""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn
from torch.nn import functional as F

from agmbench.contracts import Fused, Fusion


class Cosine(Fusion):
    """The logits are a sum of cosines, so that no modality decides by the size of its features or of its weights:

        z_m = scale cos(e_m, rows of W_m),   f = sum_m z_m,   no bias

    Additive, each summand is a term; the representation is the concatenated features. Joint training on it is the method MMCosine, and
    other modulators work on it unchanged. A feature of zeros has a term of zeros.

    scale: official code and ours 10.

    Official code: the same weights, step by step (its values are in `tests/reference`). It predicts by the plain linear head when it
    evaluates; ours is the same function in training and afterwards. Its FiLM and gated variants are not here.
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
        rows = {m: F.normalize(head.weight, dim=1) for m, head in self.head.items() if isinstance(head, nn.Linear)}
        return {m: self.scale * F.linear(F.normalize(features[m], dim=1), row) for m, row in rows.items()}

    def heads(self) -> list[nn.Linear]:
        return [head for head in self.head.values() if isinstance(head, nn.Linear)]
