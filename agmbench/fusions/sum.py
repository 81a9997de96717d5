"""Late fusion by a sum of logits: one linear head per modality."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from agmbench.contracts import Fused, Fusion


class Sum(Fusion):
    """`f = sum_m (W_m e_m + b_m)`; additive: each summand is a term. The representation is the concatenated features. No parameters."""

    additive = True

    def __init__(self, features: Mapping[str, int], classes: int) -> None:
        super().__init__(features, classes)
        self.head = nn.ModuleDict({modality: nn.Linear(size, classes) for modality, size in features.items()})

    def forward(self, features: Mapping[str, Tensor]) -> Fused:
        logits = torch.stack(list(self.terms(features).values())).sum(dim=0)  # [B, C]
        return Fused(logits, torch.cat([features[modality] for modality in self.head], dim=1))

    def terms(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {modality: head(features[modality]) for modality, head in self.head.items()}

    def own_gradients(self, modality: str) -> list[Tensor]:
        return [tensor.grad for tensor in self.head[modality].parameters() if tensor.grad is not None]

    def heads(self) -> list[nn.Linear]:
        return [head for head in self.head.values() if isinstance(head, nn.Linear)]
