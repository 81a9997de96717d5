"""The one number by which the answers of a task are judged, for metrics that need it for several sets of answers."""

from agmbench.metrics.accuracy import Accuracy
from agmbench.metrics.r2 import R2
from agmbench.outcomes import Floats, Kind, Outcome

FIGURES: tuple[Kind, ...] = ("classification", "multi-label")  # their figure is accuracy; that of regression is R2


def figure(outcome: Outcome, logits: Floats) -> float:
    """Accuracy of logits `[N, C]`; for regression, R2."""
    return (R2() if outcome.kind == "regression" else Accuracy()).of(outcome, logits)
