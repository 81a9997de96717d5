"""Macro-averaged F1."""

from sklearn.metrics import f1_score
from torch import Tensor


def macro_f1(logits: Tensor, targets: Tensor) -> float | None:
    """The mean over the classes of F1, by scikit-learn; a class that is neither present nor predicted counts 0. Not for regression.

    Logits `[N, C]`; targets `[N]` class numbers, or `[N, C]` labels.
    """
    if targets.ndim == 2:
        return float(f1_score(targets.numpy() > 0.5, logits.numpy() > 0, average="macro", zero_division=0))
    if targets.is_floating_point():
        return None
    labels = range(logits.shape[1])
    return float(f1_score(targets.numpy(), logits.argmax(dim=1).numpy(), labels=labels, average="macro", zero_division=0))
