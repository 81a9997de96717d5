"""Accuracy by head (`Acc_m (head)`): the accuracy of each modality's own term of an additive fusion."""

from collections.abc import Mapping

from agmbench.metrics.figure import FIGURES, figure
from agmbench.outcomes import Metric, Outcomes, Quantity, Unmeasured


class Terms(Metric):
    """The accuracy (for regression, R2) of each modality's own term of an additive head, including its share of the bias.

    Under late fusion AGM's code reports this as `Acc_m` of joint, OGM-GE, MSLR and MSES.
    """

    quantities = (
        Quantity(
            "term", "Acc_{} (head)", "accuracy of the modality's own term", "%", decimals=2, tasks=FIGURES, per="modality"
        ),
        Quantity("term-r2", "R2_{} (head)", "R2 of the modality's own term", tasks=("regression",), per="modality"),
    )

    def __call__(self, outcomes: Outcomes, references: Mapping[str, Outcomes]) -> Mapping[str, Mapping[str, float]]:
        outcome = outcomes.judged
        if not outcome.terms:
            raise Unmeasured(
                "there are no terms: the fusion is not additive, the method predicts with a head of its own, or the terms were not kept"
            )
        values = {m: figure(outcome, term) for m, term in outcome.terms.items()}
        return {"term-r2" if outcome.kind == "regression" else "term": values}
