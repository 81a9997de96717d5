"""Weighted F1, by scikit-learn."""

from agmbench.metrics.macro_f1 import MacroF1
from agmbench.outcomes import Quantity


class WeightedF1(MacroF1):
    """The mean F1 over the classes, each weighted by its number of samples."""

    average = "weighted"
    quantities = (
        Quantity(
            "weighted-f1",
            "weighted F1",
            "mean F1 over the classes, weighted by their number of samples",
            "%",
            decimals=2,
            tasks=("classification", "multi-label"),
        ),
    )
