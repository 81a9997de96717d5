"""A linear head per modality, for methods in which each modality also predicts by itself."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from agmbench.contracts import Model, Tokens
from agmbench.tasks import SingleLabel


def vectors(model: Model, features: Mapping[str, Tensor | Tokens]) -> dict[str, Tensor]:
    """Features in the shape that a head takes: `[B, D_m]`, with tokens averaged; `[B, T, D_m]` if the model predicts each segment."""
    as_they_are = model.fusion.per_segment
    return {m: (e.values if as_they_are else e.pooled()) if isinstance(e, Tokens) else e for m, e in features.items()}


def classes(model: Model) -> int:
    """C, the number of logits."""
    return model.fusion.heads()[0].out_features


def width(model: Model, modality: str) -> int:
    """D_m, the number of a modality's features."""
    return int(model.encoders[modality].out_features)  # type: ignore[arg-type]


def several(model: Model) -> str | None:
    """The reason why a method for several modalities cannot train a model of one; `None` if it can."""
    if len(model.modalities) < 2:
        return f"needs two or more modalities; found {', '.join(model.modalities)}"
    return None


def additive(model: Model) -> str | None:
    """The reason why a method that trains on the fusion's own terms cannot train a model; `None` if it can."""
    if reason := several(model):
        return reason
    if not model.fusion.additive:
        name = type(model.fusion).__name__
        return (
            f"needs a term of each modality's own, which the fusion {name} does not have; "
            "take --fusion concat or sum, or another modulator"
        )
    return None


def late(model: Model) -> str | None:
    """The reason why a method that classifies with its own heads, one modality at a time, cannot train a model, and what to do instead."""
    if reason := several(model):
        return reason
    if not isinstance(model.task, SingleLabel):
        return f"weighs probabilities of classes; the task of this data set is {type(model.task).__name__}"
    if not model.fusion.additive:
        name = type(model.fusion).__name__
        return (
            f"answers by heads of its own, so the fusion {name} would never be used; "
            "take --fusion concat or sum, or another modulator"
        )
    if looking := [m for m in model.modalities if model.encoders[m].guided]:
        return (
            f"asks each modality by itself, and the encoder of {', '.join(looking)} looks at others too; take one that does not"
        )
    return None


def unlike(model: Model) -> str | None:
    """The reason why the modalities of a model cannot share one head, and what to do instead."""
    widths = {modality: width(model, modality) for modality in model.modalities}
    if len(set(widths.values())) == 1:
        return None
    found = ", ".join(f"{modality} {size}" for modality, size in widths.items())
    return f"shares one head, so its encoders should give equally many features; found {found}"


def joined(features: Mapping[str, Tensor], present: Collection[str]) -> Tensor:
    """The representation of late fusion, `[B, sum D_m]`: the features of all modalities, with zeros for absent ones."""
    return torch.cat([e if m in present else torch.zeros_like(e) for m, e in features.items()], dim=-1)


class Heads(nn.ModuleDict):
    """`h_m`: from features `{m: [B, D_m]}` (or tokens) to the logits of each modality alone, `{m: [B, C]}`."""

    def __init__(self, model: Model) -> None:
        super().__init__({m: nn.Linear(width(model, m), classes(model)) for m in model.modalities})

    def answers(self, model: Model, features: Mapping[str, Tensor | Tokens]) -> dict[str, Tensor]:
        """`z_m = h_m(e_m)`, for the modalities whose features are given."""
        return {modality: self[modality](e) for modality, e in vectors(model, features).items() if modality in self}


class SharedHead(nn.Sequential):
    """One `h` with two layers for all modalities: from features `{m: [B, D]}` (or tokens) to the logits of each modality alone."""

    def __init__(self, model: Model, hidden: int = 256) -> None:
        features = width(model, model.modalities[0])
        super().__init__(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes(model)))

    def answers(self, model: Model, features: Mapping[str, Tensor | Tokens]) -> dict[str, Tensor]:
        """`z_m = h(e_m)`, for the modalities whose features are given."""
        return {modality: self(e) for modality, e in vectors(model, features).items()}
