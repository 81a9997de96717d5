"""Balanced accuracy, by scikit-learn."""

import numpy as np

from agmbench.outcomes import Floats, OfAnswers, Outcome, Quantity


class BalancedAccuracy(OfAnswers):
    """The mean recall over the classes that occur in the targets."""

    quantities = (
        Quantity("balanced-accuracy", "bal. Acc", "mean recall over the classes", "%", decimals=2, tasks=("classification",)),
    )

    def of(self, outcome: Outcome, logits: Floats) -> float:
        from sklearn.metrics import recall_score  # takes a second to import, and tables need only the quantities

        present = np.unique(outcome.targets)
        return float(recall_score(outcome.targets, outcome.predicted(logits), labels=present, average="macro", zero_division=0))
