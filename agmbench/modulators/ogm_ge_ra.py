"""OGM-GE(RA): OGM-GE against a running average (AGM paper, supplement, table 8)."""

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from agmbench.contracts import Context
from agmbench.modulators import terms
from agmbench.modulators.balancing import Scores
from agmbench.modulators.ogm_ge import OGMGE
from agmbench.modulators.terms import Responses


class OGMGERA(OGMGE):
    """OGM-GE whose discrepancy is compared with its own running average instead of 1:

        k_m = 1 - tanh(alpha rho_m / rho_hat_m)   if rho_m > rho_hat_m,   else 1,

    with `rho_hat_m` from the earlier iterations (1 before the first). The supplement names the method and gives no formula; both readings
    (`average`) are ours.

    average: what is averaged. `ratio`, the default: `rho_hat_m` is the cumulative mean of `rho_m`. `scores`: it is the ratio of running
        sums, `rho_hat_m = S_m / mean_{k != m} S_k` with `S_m` the sum of `s_m`, in the way in which AGM's `tau` uses its running scores.

    All other parameters: those of OGM.

    Official code: none was found that has this method, so there is nothing to compare with. Everything except the reference `rho_hat_m`
    is the code of OGM-GE, whose values are in `tests/reference`.
    """

    running_ratio: Tensor
    running_score: Tensor
    iterations: Tensor

    def __init__(
        self,
        modalities: tuple[str, ...],
        *,
        alpha: Annotated[float, Ge(0)] = 0.8,
        average: Literal["ratio", "scores"] = "ratio",
        starts: Annotated[int, Ge(0)] = 0,
        ends: Annotated[int, Ge(0)] | None = None,
        only_conv: bool = False,
        responses: Responses = "additive",
        scores: Scores = "batch",
    ) -> None:
        super().__init__(
            modalities, alpha=alpha, starts=starts, ends=ends, only_conv=only_conv, responses=responses, scores=scores
        )
        self.average = average

    def prepare(self, context: Context) -> None:
        super().prepare(context)
        device = context.generator.device
        self.register_buffer("running_ratio", torch.ones(len(self.modalities), device=device))  # rho_hat of `ratio`
        self.register_buffer("running_score", torch.zeros(len(self.modalities), dtype=torch.float64, device=device))  # S
        self.register_buffer("iterations", torch.zeros((), device=device))

    def reference(self, score: Tensor) -> Tensor:
        rho = terms.to_the_others(score)
        before = self.running_ratio.clone()
        if self.average == "scores":
            self.running_score += score
            moved = terms.to_the_others(self.running_score)
        else:
            moved = before + (rho - before) / (self.iterations + 1)
        self.running_ratio.copy_(torch.where(self.iterations == 0, rho, moved))
        self.iterations += 1
        return before
