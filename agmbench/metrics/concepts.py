"""What the unimodal model of each modality reaches."""

from collections.abc import Mapping

from agmbench.metrics.figure import FIGURES, figure
from agmbench.outcomes import Metric, Outcomes, Quantity


class Concepts(Metric):
    """The accuracy (for regression, R2) of each modality's unimodal model ("mono-modal concept"), trained on that modality alone."""

    compares = True
    quantities = (
        Quantity(
            "concept",
            "Acc_{} (alone)",
            "accuracy of the model trained on m alone",
            "%",
            decimals=2,
            tasks=FIGURES,
            per="modality",
        ),
        Quantity("concept-r2", "R2_{} (alone)", "R2 of the model trained on m alone", tasks=("regression",), per="modality"),
    )

    def __call__(self, outcomes: Outcomes, references: Mapping[str, Outcomes]) -> Mapping[str, Mapping[str, float]]:
        values = {m: figure(one.judged, one.judged.full) for m, one in references.items()}
        return {"concept-r2" if outcomes.judged.kind == "regression" else "concept": values}
