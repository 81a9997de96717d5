"""Macro-averaged F1."""

from sklearn.metrics import f1_score
from torch import Tensor


def macro_f1(logits: Tensor, targets: Tensor) -> float:
    """The mean over the classes of F1, by scikit-learn; a class that is neither present nor predicted counts 0."""
    score = f1_score(
        targets.numpy(), logits.argmax(dim=1).numpy(), labels=range(logits.shape[1]), average="macro", zero_division=0
    )
    return float(score)
