"""Accuracy."""

from agmbench.outcomes import Floats, OfAnswers, Outcome, Quantity


class Accuracy(OfAnswers):
    """The share of correct predictions: samples whose largest logit is that of their class. For several labels, it is the share of labels
    that are predicted correctly; a label is predicted as 1 if its logit is above zero."""

    quantities = (Quantity("accuracy", "Acc", "accuracy", "%", decimals=2, tasks=("classification", "multi-label")),)

    def of(self, outcome: Outcome, logits: Floats) -> float:
        return float((outcome.predicted(logits) == outcome.targets).mean())
