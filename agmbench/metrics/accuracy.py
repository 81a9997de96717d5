"""Accuracy."""

from torch import Tensor


def accuracy(logits: Tensor, targets: Tensor) -> float:
    """The share of samples whose largest logit is that of their class; logits `[N, C]`, targets `[N]`."""
    return float((logits.argmax(dim=1) == targets).double().mean())
