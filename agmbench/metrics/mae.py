"""Mean absolute error, by scikit-learn."""

from agmbench.outcomes import Floats, OfAnswers, Outcome, Quantity


class MAE(OfAnswers):
    """The mean of `|output - target|`."""

    quantities = (Quantity("mae", "MAE", "mean absolute error", better="lower", tasks=("regression",)),)

    def of(self, outcome: Outcome, logits: Floats) -> float:
        from sklearn.metrics import mean_absolute_error  # takes a second to import, and tables need only the quantities

        return float(mean_absolute_error(outcome.targets, outcome.predicted(logits)))
