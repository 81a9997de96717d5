"""Hybrid fusion: self- and cross-modal attention over token sequences, as in CMU-MOSEI's network of the AGM paper."""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from agmbench.contracts import Fused, Fusion, Tokens, Unsuitable


class Hybrid(Fusion):
    """`layers` blocks, in which each modality attends to itself and then to the tokens of its guides. Then the tokens of each modality
    are pooled by attention. The sum over modalities, after a LayerNorm, is the representation `[B, width]`; the head is linear. Not
    additive.

    It follows Delbrouck et al. (UMONS, Challenge-HML 2020), the network that the AGM paper uses for CMU-MOSEI. There the text is the
    guide: it attends only to itself, while the audio attends to itself and to the text.

    guide: the modality that guides all others and has no guide itself; `None` lets every modality be guided by all others.
    width, heads, layers: paper 512, 4, 6; defaults 512, 4, 6.
    feed_forward: width inside its layers. Paper and default 1024.
    dropout: dropout of attention and feed-forward layers. Official code and default .1.
    """

    takes_tokens = True

    def __init__(
        self,
        features: Mapping[str, int],
        classes: int,
        *,
        guide: str | None = None,
        width: Annotated[int, Gt(0)] = 512,
        heads: Annotated[int, Gt(0)] = 4,
        layers: Annotated[int, Gt(0)] = 6,
        feed_forward: Annotated[int, Gt(0)] = 1024,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
    ) -> None:
        super().__init__(features, classes)
        if guide is not None and guide not in features:
            raise Unsuitable(f"has no modality '{guide}' to guide; it has {', '.join(features)}")
        if width % heads:
            raise Unsuitable(f"width should be a multiple of heads; found width {width} and {heads} heads")
        self.guides = {m: [k for k in features if k != m and guide in (None, k)] if m != guide else [] for m in features}
        self.project = nn.ModuleDict({m: nn.Linear(size, width) for m, size in features.items()})
        self.layers = nn.ModuleList(
            nn.ModuleDict({m: _Block(width, heads, feed_forward, dropout, guided=bool(self.guides[m])) for m in features})
            for _ in range(layers)
        )
        self.pool = nn.ModuleDict({m: _AttentionPool(width) for m in features})
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, features: Mapping[str, Tokens]) -> Fused:
        states = {m: self.project[m](tokens.values) for m, tokens in features.items()}  # [B, T_m, width]
        hidden = {m: _hidden(tokens) for m, tokens in features.items()}  # [B, T_m], true for tokens that are not attended to
        for layer in self.layers:
            states = {m: layer[m](m, states, hidden, self.guides[m]) for m in states}  # type: ignore[index]  # a ModuleDict
        pooled = torch.stack([self.pool[m](states[m], hidden[m]) for m in states])  # [M, B, width]
        representation = self.norm(pooled.sum(dim=0))
        return Fused(self.head(representation), representation)

    def heads(self) -> list[nn.Linear]:
        return [self.head]


def _hidden(tokens: Tokens) -> Tensor:
    """Which tokens attention ignores, `[B, T]`. A sequence without any token shows its first position, because attention needs one."""
    if tokens.mask is None:
        return torch.zeros(tokens.values.shape[:2], dtype=torch.bool, device=tokens.values.device)
    hidden = ~tokens.mask
    empty = hidden.all(dim=1)
    return torch.cat([hidden[:, :1] & ~empty.unsqueeze(1), hidden[:, 1:]], dim=1)


class _Block(nn.Module):
    """Self-attention, attention to the guides' tokens if there are any, feed-forward; each with residual and LayerNorm."""

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float, guided: bool) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.attend_norm = nn.LayerNorm(width)
        self.guided = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True) if guided else None
        self.guided_norm = nn.LayerNorm(width) if guided else None
        self.feed = nn.Sequential(
            nn.Linear(width, feed_forward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feed_forward, width), nn.Dropout(dropout)
        )
        self.feed_norm = nn.LayerNorm(width)

    def forward(self, own: str, states: Mapping[str, Tensor], hidden: Mapping[str, Tensor], guides: list[str]) -> Tensor:
        x = states[own]
        seen, _ = self.attend(x, x, x, key_padding_mask=hidden[own], need_weights=False)
        x = self.attend_norm(x + seen)
        if self.guided is not None and self.guided_norm is not None:
            others = torch.cat([states[k] for k in guides], dim=1)  # [B, sum T_k, width]
            mask = torch.cat([hidden[k] for k in guides], dim=1)
            seen, _ = self.guided(x, others, others, key_padding_mask=mask, need_weights=False)
            x = self.guided_norm(x + seen)
        result: Tensor = self.feed_norm(x + self.feed(x))
        return result


class _AttentionPool(nn.Module):
    """A weighted mean over the tokens. The weights are a softmax over the scores that a small network gives to the tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, states: Tensor, hidden: Tensor) -> Tensor:
        scores = self.score(states).squeeze(2).masked_fill(hidden, float("-inf"))  # [B, T]
        return torch.einsum("bt,btd->bd", scores.softmax(dim=1), states)
