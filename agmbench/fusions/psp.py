"""Positive sample propagation: matching segments of two modalities strengthen one another (Zhou et al., CVPR 2021)."""

from collections.abc import Mapping
from math import sqrt
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn
from torch.nn import functional as F

from agmbench.contracts import Fused, Fusion, Tokens, Unsuitable


class PSP(Fusion):
    """From two modalities of T tokens each to logits `[B, T, C]`, one prediction per segment, and representation `[B, T, D]`. Not additive.

    The similarity of each pair of segments, cut at zero and normalised, is an attention. Weights up to `threshold` are pruned from it,
    and each segment adds the content of those segments of the other modality that are left to it. The mean of both modalities is the
    representation (the paper's fused feature); a hidden layer and the head follow. Every token counts; masks are not read.

    Cross entropy is over the classes and background. `similarity` times the loss of audio-visual pair similarity (AVPS) is added to it.
    With `s_t` the cosine of the mixed features of the two modalities in segment t, cut at zero and divided by its sum over the segments:

        AVPS = mean over samples and segments( (s_t - g_t)^2 ),   g_t = 1 / number of the event's segments in those, else 0

    A sample without an event has background in all segments. The gradient of AVPS comes from a pass of its own, so with dropout it sees
    other features than the logits do. It is added to the gradients of every method and is not modulated. A model of one modality has no
    pairs, and trains without it.

    head: `classes` (paper and official code) is one linear layer over all classes, with background as the last. `relevance` composes the
        prediction of two parts: with the relevance r of a segment and the scores e of its event, logits are log sigmoid(r) +
        log_softmax(e) for the events and log sigmoid(-r) for the background. Cross entropy on them is binary cross entropy on r plus, if
        there is an event, cross entropy on e.
    threshold: official code (fully supervised) and default .099, for which ten equal weights stay.
    hidden: width of the layer before the head. Official and default 64.
    dropout: official and default .1.
    similarity: weight of AVPS. Official 100, as in the jobs of AVE; default 0, which leaves it out.

    Official code: its `g_t` keeps ones from earlier batches, because it is never cleared; ours is only that of the batch.
    """

    takes_tokens = True
    per_segment = True

    def __init__(
        self,
        features: Mapping[str, int],
        classes: int,
        *,
        head: Literal["classes", "relevance"] = "classes",
        threshold: Annotated[float, Ge(0), Lt(1)] = 0.099,
        hidden: Annotated[int, Gt(0)] = 64,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        similarity: Annotated[float, Ge(0)] = 0.0,
    ) -> None:
        super().__init__(features, classes)
        if len(features) != 2 or len(set(features.values())) != 1:
            shown = ", ".join(f"{m} {size}" for m, size in features.items())
            raise Unsuitable(f"takes two modalities whose features are equally wide; found {shown}")
        self.names, (width,) = tuple(features), set(features.values())
        self.threshold = threshold
        self.similarity = similarity
        self.penalises = similarity > 0
        self.background = classes - 1
        self.match = _layers(features, width)  # features by which segments are compared
        self.give = _layers(features, width)  # features that a segment adds to those of the other modality
        self.mix = _layers(features, width)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.classify = _linear(width, hidden)
        self.head = _linear(hidden, classes if head == "classes" else classes - 1)
        self.relevance = nn.Linear(hidden, 1) if head == "relevance" else None

    def forward(self, features: Mapping[str, Tokens]) -> Fused:
        one, other = self._mixed(features)
        representation = (one + other) / 2
        return Fused(self._logits(self.classify(representation).relu()), representation)

    def penalty(self, features: Mapping[str, Tokens], targets: Tensor) -> Tensor:
        one, other = self._mixed(features)
        alike = F.cosine_similarity(one.float(), other.float(), dim=2).relu()  # [B, T]
        shares = alike / (alike.sum(dim=1, keepdim=True) + 1e-8)
        there = targets != self.background
        there = there | ~there.any(dim=1, keepdim=True)
        return self.similarity * F.mse_loss(shares, there / there.sum(dim=1, keepdim=True))

    def _mixed(self, features: Mapping[str, Tokens]) -> list[Tensor]:
        """The features of each modality's segments with what they add from the other modality, `[B, T, D]` twice."""
        first, second = self.names
        own = {m: features[m].values for m in self.names}  # [B, T, D]
        if own[first].shape != own[second].shape:
            raise Unsuitable(f"fusion psp takes sequences of equal length; found {own[first].shape[1]}, {own[second].shape[1]}")
        match = {m: self.dropout(self.match[m](own[m]).relu()) for m in self.names}
        give = {m: self.dropout(self.give[m](own[m]).relu()) for m in self.names}
        similar = (
            match[second] @ match[first].transpose(1, 2) / sqrt(own[first].shape[2])
        ).relu()  # [B, T of second, T of first]
        gained = {first: self._pruned(similar.transpose(1, 2)) @ give[second], second: self._pruned(similar) @ give[first]}
        return [self.norm(self.dropout(self.mix[m](own[m] + gained[m]).relu())) for m in self.names]

    def heads(self) -> list[nn.Linear]:
        return [self.head] if self.relevance is None else [self.head, self.relevance]

    def _pruned(self, similar: Tensor) -> Tensor:
        """Normalise each row, set weights up to the threshold to zero, and normalise again. A row with no weight above it becomes zero."""
        weights = similar / (similar.sum(dim=2, keepdim=True) + 1e-8)
        weights = torch.where(weights > self.threshold, weights, 0)
        return weights / (weights.sum(dim=2, keepdim=True) + 1e-8)

    def _logits(self, hidden: Tensor) -> Tensor:
        scores: Tensor = self.head(hidden)
        if self.relevance is None:
            return scores
        relevance = self.relevance(hidden)  # [B, T, 1]
        return torch.cat([F.logsigmoid(relevance) + scores.log_softmax(dim=2), F.logsigmoid(-relevance)], dim=2)


def _linear(size: int, out: int) -> nn.Linear:
    """A linear layer without bias and with Glorot's initial weights, as in the official code."""
    layer = nn.Linear(size, out, bias=False)
    nn.init.xavier_uniform_(layer.weight)
    return layer


def _layers(features: Mapping[str, int], width: int) -> nn.ModuleDict:
    return nn.ModuleDict({m: _linear(width, width) for m in features})
