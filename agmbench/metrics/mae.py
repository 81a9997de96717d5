"""Mean absolute error, by scikit-learn."""

from sklearn.metrics import mean_absolute_error

from agmbench.outcomes import Floats, OfAnswers, Outcome, Quantity


class MAE(OfAnswers):
    """The mean of `|output - target|`."""

    quantities = (Quantity("mae", "MAE", "mean absolute error", better="lower", tasks=("regression",)),)

    def of(self, outcome: Outcome, logits: Floats) -> float:
        return float(mean_absolute_error(outcome.targets, outcome.predicted(logits)))
