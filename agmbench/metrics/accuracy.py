"""Accuracy."""

from agmbench.outcomes import Floats, OfAnswers, Outcome, Quantity


class Accuracy(OfAnswers):
    """The share of right answers: of samples whose largest logit is that of their class or, of several labels, of labels on their
    side of zero."""

    quantities = (Quantity("accuracy", "Acc", "accuracy", "%", decimals=2, tasks=("classification", "multi-label")),)

    def of(self, outcome: Outcome, logits: Floats) -> float:
        return float((outcome.predicted(logits) == outcome.targets).mean())
