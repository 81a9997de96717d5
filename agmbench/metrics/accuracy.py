"""Accuracy."""

from agmbench.outcomes import Floats, OfAnswers, Outcome, Quantity


class Accuracy(OfAnswers):
    """The share of right answers: samples whose largest logit is that of their class; for several labels, labels whose logit is
    above zero exactly where the label is 1."""

    quantities = (Quantity("accuracy", "Acc", "accuracy", "%", decimals=2, tasks=("classification", "multi-label")),)

    def of(self, outcome: Outcome, logits: Floats) -> float:
        return float((outcome.predicted(logits) == outcome.targets).mean())
