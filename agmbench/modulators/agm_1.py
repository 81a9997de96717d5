"""AGM(1): AGM against a fixed reference (AGM paper, supplement, table 8)."""

import torch
from torch import Tensor

from agmbench.modulators.agm import AGM


class AGM1(AGM):
    """AGM with `tau_m = 1`: every modality is held to the same pace. Parameters: those of AGM."""

    def reference(self) -> Tensor:
        return torch.ones_like(self.running_score)
