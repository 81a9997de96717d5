"""Mean average precision of several labels, by scikit-learn."""

from sklearn.metrics import average_precision_score

from agmbench.outcomes import Floats, OfAnswers, Outcome, Quantity, Unmeasured


class MeanAveragePrecision(OfAnswers):
    """The average precision of each label, with samples ranked by logit; the mean over the labels that occur in the targets."""

    quantities = (Quantity("map", "mAP", "mean average precision over the labels", "%", decimals=2, tasks=("multi-label",)),)

    def of(self, outcome: Outcome, logits: Floats) -> float:
        occurs = outcome.targets.any(axis=0)
        if not occurs.any():
            raise Unmeasured("no label occurs")
        return float(average_precision_score(outcome.targets[:, occurs], logits[:, occurs], average="macro"))
