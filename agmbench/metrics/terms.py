"""`Acc_m` by the head: what each modality's own term of an additive fusion says."""

from collections.abc import Mapping

from agmbench.metrics.figure import FIGURES, figure
from agmbench.outcomes import Metric, Outcomes, Quantity, Unmeasured


class Terms(Metric):
    """`Acc_m` as AGM's code reports it under late fusion of joint, OGM-GE, MSLR and MSES: the accuracy (of a regression, R2) of each
    modality's own term of an additive head, its share of the bias included."""

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
                "no terms: the fusion is not additive, the method answers by a head of its own, or they were not kept"
            )
        values = {m: figure(outcome, term) for m, term in outcome.terms.items()}
        return {"term-r2" if outcome.kind == "regression" else "term": values}
