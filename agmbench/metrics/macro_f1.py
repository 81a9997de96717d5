"""Macro-averaged F1, by scikit-learn."""

from agmbench.outcomes import Floats, OfAnswers, Outcome, Quantity


class MacroF1(OfAnswers):
    """The mean F1 over the classes; a class that is neither present nor predicted counts as 0."""

    average = "macro"
    quantities = (
        Quantity("macro-f1", "macro F1", "mean F1 over the classes", "%", decimals=2, tasks=("classification", "multi-label")),
    )

    def of(self, outcome: Outcome, logits: Floats) -> float:
        from sklearn.metrics import f1_score  # takes a second to import, and tables need only the quantities

        labels = range(logits.shape[1]) if outcome.kind == "classification" else None
        predicted = outcome.predicted(logits)
        return float(f1_score(outcome.targets, predicted, labels=labels, average=self.average, zero_division=0))
