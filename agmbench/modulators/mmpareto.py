"""MMPareto: Pareto integration of multimodal and unimodal gradients (Wei and Hu, ICML 2024)."""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from agmbench.modulators.two_losses import TwoLosses


class MMPareto(TwoLosses):
    """Each modality also has a head of its own, and its encoder takes a direction that serves both losses.

    With `L_0 = CE(f, y)`, `L_m = CE(h_m(e_m), y)`, and for encoder m `G0 = dL_0/dtheta_m`, `G1 = dL_m/dtheta_m`:

        w0, w1 = 1/2, 1/2                                           if cos(G0, G1) > 0, else
        w0     = clip( G1.(G1 - G0) / |G0 - G1|^2, 0, 1 )           which minimises |w0 G0 + w1 G1|, with w1 = 1 - w0
        g      = 2 w0 G0 + 2 w1 G1
        g     <- gamma g max(1, |G0 + G1| / |g|)                    tensor by tensor

    The fusion and the heads take the gradient of the sum of all losses.

    gamma: paper, official code and ours 1.5.

    G0 and G1 come from two separate backward passes. Reimplementations that do not clear gradients in between have cos = 1 and up to
    three times the gradient. With gradient accumulation, the means of G0 and G1 over the micro-batches are combined once. For an encoder
    that also sees other modalities, G1 is the gradient of all `L_k`.

    Official code: the same gradients and weights, step by step, in both branches (its values are in `tests/reference`), for two
    modalities and three losses. More modalities, accumulation and encoders that see other modalities are ours.
    """

    def __init__(self, modalities: tuple[str, ...], *, gamma: Annotated[float, Gt(0)] = 1.5) -> None:
        super().__init__(modalities)
        self.gamma = gamma

    def combine(self, modality: str, g0: Sequence[Tensor], g1: Sequence[Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
        cosine, w0 = weights(g0, g1)
        found = [self.combined(one, other, w0) for one, other in zip(g0, g1, strict=True)]
        return found, {f"cosine/{modality}": cosine, f"weight/{modality}": w0}

    def combined(self, g0: Tensor, g1: Tensor, w0: Tensor) -> Tensor:
        """The gradient of one tensor: `gamma g max(1, |G0 + G1| / |g|)`."""
        g = 2 * w0 * g0 + 2 * (1 - w0) * g1
        short = (g0 + g1).norm() / g.norm().clamp(min=1e-12)
        grown: Tensor = self.gamma * short.clamp(min=1) * g
        return grown


def weights(g0: Sequence[Tensor], g1: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """`cos(G0, G1)` and `w0`, over all tensors of an encoder."""

    def dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()

    across, own0, own1 = dot(g0, g1), dot(g0, g0), dot(g1, g1)
    cosine = across / (own0 * own1).sqrt().clamp(min=1e-30)
    least = ((own1 - across) / (own0 + own1 - 2 * across).clamp(min=1e-30)).clamp(0, 1)
    return cosine, torch.where(across > 0, torch.full_like(least, 0.5), least)
