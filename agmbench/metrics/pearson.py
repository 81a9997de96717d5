"""Pearson's correlation."""

import torch
from torch import Tensor


def pearson(logits: Tensor, targets: Tensor) -> float | None:
    """The correlation of output and target, 0 where either is constant; for regression alone (logits `[N, 1]`, targets `[N]`)."""
    if targets.ndim != 1 or not targets.is_floating_point():
        return None
    if len(targets) < 2:
        return 0.0  # one sample is constant
    return float(torch.corrcoef(torch.stack([logits.squeeze(1), targets.to(logits.dtype)]))[0, 1].nan_to_num())
