"""Shapley accuracy (`Acc_m`): the accuracy of what each modality contributes to the answer."""

from collections.abc import Mapping

from agmbench.metrics.figure import FIGURES, figure
from agmbench.outcomes import Metric, Outcomes, Quantity


class Responses(Metric):
    """Shapley accuracy (`Acc_m`): the accuracy (for regression, R2) of each modality's Shapley response. AGM's official code reports this
    number for AGM."""

    quantities = (
        Quantity(
            "response", "Acc_{}", "accuracy of the modality's Shapley response", "%", decimals=2, tasks=FIGURES, per="modality"
        ),
        Quantity("response-r2", "R2_{}", "R2 of the modality's Shapley response", tasks=("regression",), per="modality"),
    )

    def __call__(self, outcomes: Outcomes, references: Mapping[str, Outcomes]) -> Mapping[str, Mapping[str, float]]:
        outcome = outcomes.judged
        values = {m: figure(outcome, response) for m, response in outcome.responses.items()}
        return {"response-r2" if outcome.kind == "regression" else "response": values}
