"""Early fusion: a MaxOut network on the concatenated features, as in the official AGM code."""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from agmbench.contracts import Fused, Fusion


class MaxOut(nn.Module):
    """The largest of `pieces` linear maps, element by element: `[B, before]` to `[B, after]`."""

    def __init__(self, before: int, after: int, pieces: int = 2) -> None:
        super().__init__()
        self.pieces = pieces
        self.linear = nn.Linear(before, after * pieces)

    def forward(self, x: Tensor) -> Tensor:
        pieces: Tensor = self.linear(x).unflatten(1, (-1, self.pieces))  # [B, after, pieces]
        return pieces.amax(dim=2)


class Early(Fusion):
    """Concat, BatchNorm, MaxOut to `hidden`, BatchNorm, dropout, MaxOut to `out`, BatchNorm, dropout, linear head.

    The representation is the input of the head, `[B, out]`.

    hidden, out: official code and defaults 2048 and 1024.
    dropout: official code and default .3.
    """

    def __init__(
        self,
        features: Mapping[str, int],
        classes: int,
        *,
        hidden: Annotated[int, Gt(0)] = 2048,
        out: Annotated[int, Gt(0)] = 1024,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.3,
    ) -> None:
        super().__init__(features, classes)
        self.order = tuple(features)
        size = sum(features.values())
        self.body = nn.Sequential(
            nn.BatchNorm1d(size),
            MaxOut(size, hidden),
            nn.BatchNorm1d(hidden),
            nn.Dropout(dropout),
            MaxOut(hidden, out),
            nn.BatchNorm1d(out),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(out, classes)

    def forward(self, features: Mapping[str, Tensor]) -> Fused:
        representation = self.body(torch.cat([features[modality] for modality in self.order], dim=1))  # [B, out]
        return Fused(self.head(representation), representation)

    def heads(self) -> list[nn.Linear]:
        return [self.head]
