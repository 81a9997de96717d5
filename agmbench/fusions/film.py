"""FiLM fusion: one modality scales and shifts the features of the others (Perez et al., AAAI 2018, as used by OGM-GE)."""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn

from agmbench.contracts import Fused, Fusion, Unsuitable


class FiLM(Fusion):
    """`gamma_k, beta_k = linear_k(e_c)` and `u_k = gamma_k * p_k + beta_k` for every modality k except the conditioning one, c.

    The representation is the concatenation of the `u_k`, and the head is linear. With two modalities this is OGM-GE's FiLM. Not additive.

    condition: the name of the conditioning modality; `None` takes the first. OGM-GE: audio.
    width: features are first projected to this size, `p_k = linear(e_k)`; `None` leaves them as they are (OGM-GE and default).
    """

    def __init__(
        self,
        features: Mapping[str, int],
        classes: int,
        *,
        condition: str | None = None,
        width: Annotated[int, Gt(0)] | None = None,
    ) -> None:
        super().__init__(features, classes)
        self.condition, others = conditioning(features, condition)
        sizes = {k: width or features[k] for k in others}
        project = {k: nn.Linear(features[k], width) if width else nn.Identity() for k in others}
        self.project = nn.ModuleDict(project)
        self.modulation = nn.ModuleDict({k: nn.Linear(features[self.condition], 2 * size) for k, size in sizes.items()})
        self.head = nn.Linear(sum(sizes.values()), classes)

    def forward(self, features: Mapping[str, Tensor]) -> Fused:
        condition = features[self.condition]
        modulated = []
        for k, modulation in self.modulation.items():
            gamma, beta = modulation(condition).chunk(2, dim=1)  # [B, D_k] each
            modulated.append(gamma * self.project[k](features[k]) + beta)
        representation = torch.cat(modulated, dim=1)
        return Fused(self.head(representation), representation)

    def heads(self) -> list[nn.Linear]:
        return [self.head]


def conditioning(features: Mapping[str, int], name: str | None) -> tuple[str, list[str]]:
    """The conditioning modality and the others."""
    condition = name if name is not None else next(iter(features))
    if condition not in features:
        raise Unsuitable(f"has no modality '{condition}' to condition on; it has {', '.join(features)}")
    others = [modality for modality in features if modality != condition]
    if not others:
        raise Unsuitable(f"conditions one modality on another and needs two or more; found {', '.join(features)}")
    return condition, others
