"""The one number by which answers of a task are compared, for metrics that need it of several answers."""

from agmbench.metrics.accuracy import Accuracy
from agmbench.metrics.r2 import R2
from agmbench.outcomes import Floats, Kind, Outcome

FIGURES: tuple[Kind, ...] = ("classification", "multi-label")  # whose figure is accuracy; a regression's is R2


def figure(outcome: Outcome, logits: Floats) -> float:
    """Accuracy of some logits `[N, C]`, of a regression R2."""
    return (R2() if outcome.kind == "regression" else Accuracy()).of(outcome, logits)
