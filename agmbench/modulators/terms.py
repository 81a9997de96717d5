"""Measures the balance of modalities, for OGM and OPM: by the probability that each modality's own term gives to the right class."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from agmbench.contracts import Model, Step
from agmbench.tasks import Task

Responses = Literal["additive", "shapley"]


def missing(model: Model, responses: Responses) -> str | None:
    """The reason why a model has no such terms, and what to do instead; `None` if it has them."""
    if responses == "additive" and not model.fusion.additive:
        return (
            f"needs a term of each modality's own, which the fusion {type(model.fusion).__name__} does not have; "
            "take --set modulator.responses=shapley, an additive fusion (concat, sum), or agm"
        )
    return None


@torch.no_grad()
def likelihoods(task: Task, terms: Mapping[str, Tensor], targets: Tensor, modalities: Sequence[str]) -> Tensor:
    """`s_m`, `[M]`: the probability of the right class under each modality's own term, summed over the batch."""
    return torch.stack([task.likelihood(terms[modality].float(), targets).sum() for modality in modalities])


def over_all(parts: Sequence[Step]) -> Tensor:
    """`s_m`, `[M]`, summed over the micro-batches of an optimizer step. Each micro-batch has kept its own as `score`."""
    return torch.stack([part.kept["score"] for part in parts]).sum(dim=0)


def to_the_others(score: Tensor) -> Tensor:
    """`rho_m = s_m / mean_{k != m} s_k`, `[M]`; the papers have two modalities, where it is `s_m / s_other`.

    Finite if the others give the right classes no probability, and zero if no modality gives them any.
    """
    return (len(score) - 1) * score / (score.sum() - score).clamp(min=1e-8)
