"""AGM(1): AGM against a fixed reference (AGM paper, supplement, table 8)."""

import torch
from torch import Tensor

from agmbench.modulators.agm import AGM


class AGM1(AGM):
    """AGM with `tau_m = 1`: every modality is kept at the same pace. Parameters: those of AGM.

        r_m     = exp( M/(M-1) (mean_k s_k - s_m) )
        kappa_m = exp( alpha min(1 - r_m, cap) )

    Official code: no values were recorded to compare with. Everything except tau is the code of AGM, for which there are such values.
    """

    def reference(self) -> Tensor:
        return torch.ones_like(self.running_score)
