"""Weighted F1, by scikit-learn."""

from agmbench.metrics.macro_f1 import MacroF1
from agmbench.outcomes import Quantity


class WeightedF1(MacroF1):
    """The mean over the classes of F1, each weighted by the number of its samples."""

    average = "weighted"
    quantities = (
        Quantity(
            "weighted-f1",
            "weighted F1",
            "mean over the classes of F1, weighted by their samples",
            "%",
            decimals=2,
            tasks=("classification", "multi-label"),
        ),
    )
