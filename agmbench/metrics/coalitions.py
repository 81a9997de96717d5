"""The figure with only some modalities present."""

from collections.abc import Mapping

from agmbench.metrics.figure import FIGURES, figure
from agmbench.outcomes import Metric, Outcomes, Quantity
from agmbench.shapley import coalition_name


class Coalitions(Metric):
    """Accuracy (for regression, R2) of the model trained with all modalities, for each coalition: the set of modalities that are present.
    The others are muted."""

    quantities = (
        Quantity(
            "coalition", "{}", "accuracy with only these modalities present", "%", decimals=2, tasks=FIGURES, per="coalition"
        ),
        Quantity("coalition-r2", "{}", "R2 with only these modalities present", tasks=("regression",), per="coalition"),
    )

    def __call__(self, outcomes: Outcomes, references: Mapping[str, Outcomes]) -> Mapping[str, Mapping[str, float]]:
        outcome = outcomes.judged
        outcome.require_coalitions()
        values = {coalition_name(c, outcome.modalities): figure(outcome, logits) for c, logits in outcome.logits.items()}
        return {"coalition-r2" if outcome.kind == "regression" else "coalition": values}
