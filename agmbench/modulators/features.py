"""Sets features to zero, so that a fusion predicts from some modalities without another pass of an encoder."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from agmbench.contracts import Tokens

Feature = Tensor | Tokens


def zeroed(feature: Feature, there: Tensor | None = None) -> Feature:
    """The feature with zeros for all samples that are not `there`, `[B]`; without `there`, for all samples. A sequence keeps its mask."""
    if isinstance(feature, Tokens):
        values = zeroed(feature.values, there)
        assert isinstance(values, Tensor)
        return Tokens(values, feature.mask)
    if there is None:
        return torch.zeros_like(feature)
    return torch.where(there.view(-1, *[1] * (feature.ndim - 1)), feature, 0.0)


def only(features: Mapping[str, Feature], present: Collection[str]) -> dict[str, Feature]:
    """Features of the modalities that are present, zeros for all others."""
    return {m: e if m in present else zeroed(e) for m, e in features.items()}


def detached(features: Mapping[str, Feature]) -> dict[str, Feature]:
    """The features without gradient."""
    return {m: Tokens(e.values.detach(), e.mask) if isinstance(e, Tokens) else e.detach() for m, e in features.items()}


def distance(own: Feature, taught: Feature) -> Tensor:
    """The mean squared difference of features, in float32; in sequences only tokens that are there count."""
    if isinstance(own, Tokens) and isinstance(taught, Tokens):
        squared = (own.values.float() - taught.values.float()) ** 2
        if own.mask is None:
            return squared.mean()
        there = own.mask.unsqueeze(2).expand_as(squared)  # [B, T, D]
        return torch.where(there, squared, 0.0).sum() / there.sum().clamp(min=1)  # a batch may have no token of a modality
    return ((own.float() - taught.float()) ** 2).mean()  # type: ignore[union-attr]
