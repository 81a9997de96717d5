"""The figure where only some modalities are present."""

from collections.abc import Mapping

from agmbench.metrics.figure import FIGURES, figure
from agmbench.outcomes import Metric, Outcomes, Quantity
from agmbench.shapley import coalition_name


class Coalitions(Metric):
    """Accuracy (of a regression, R2) of the model as trained with all, for each set of modalities that are present; the others are
    muted."""

    quantities = (
        Quantity(
            "coalition", "{}", "accuracy with these modalities alone present", "%", decimals=2, tasks=FIGURES, per="coalition"
        ),
        Quantity("coalition-r2", "{}", "R2 with these modalities alone present", tasks=("regression",), per="coalition"),
    )

    def __call__(self, outcomes: Outcomes, references: Mapping[str, Outcomes]) -> Mapping[str, Mapping[str, float]]:
        outcome = outcomes.judged
        outcome.require_coalitions()
        values = {coalition_name(c, outcome.modalities): figure(outcome, logits) for c, logits in outcome.logits.items()}
        return {"coalition-r2" if outcome.kind == "regression" else "coalition": values}
