"""OGM-GE(RA): OGM-GE against a running average (AGM paper, supplement, table 8)."""

import torch
from torch import Tensor

from agmbench.contracts import Context
from agmbench.modulators.ogm_ge import OGMGE


class OGMGERA(OGMGE):
    """OGM-GE whose discrepancy is measured against its own running average instead of 1:

        k_m = 1 - tanh(alpha rho_m / rho_hat_m)   if rho_m > rho_hat_m,   else 1,

    with `rho_hat_m` the cumulative mean of `rho_m` over the earlier iterations, 1 before the first. The supplement names the method
    and gives no formula; this is our reading. Parameters: those of OGM.

    Official code: no values of it were recorded to compare with. All but the reference is the code of OGM-GE, for which they were.
    """

    running_ratio: Tensor
    iterations: Tensor

    def prepare(self, context: Context) -> None:
        super().prepare(context)
        device = context.generator.device
        self.register_buffer("running_ratio", torch.ones(len(self.modalities), device=device))  # rho_hat
        self.register_buffer("iterations", torch.zeros((), device=device))

    def reference(self, rho: Tensor) -> Tensor:
        before = self.running_ratio.clone()
        moved = before + (rho - before) / (self.iterations + 1)
        self.running_ratio.copy_(torch.where(self.iterations == 0, rho, moved))
        self.iterations += 1
        return before
