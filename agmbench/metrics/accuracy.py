"""Accuracy."""

from torch import Tensor


def accuracy(logits: Tensor, targets: Tensor) -> float | None:
    """The share of right answers: of samples whose largest logit is that of their class (logits `[N, C]`, targets `[N]`), or of
    labels (targets `[N, C]`) on their side of zero. Not for regression."""
    if targets.ndim == 2:
        return float(((logits > 0) == (targets > 0.5)).double().mean())
    return None if targets.is_floating_point() else float((logits.argmax(dim=1) == targets).double().mean())
