"""Accuracies of sentiment regression, as the field reports them."""

from collections.abc import Mapping

import numpy as np

from agmbench.outcomes import Metric, Outcomes, Quantity, Unmeasured

LOWEST, HIGHEST = -3, 3  # the scale of CMU-MOSEI and CMU-MOSI


class Sentiment(Metric):
    """Acc-2 and Acc-7 of a sentiment between -3 and 3.

    Acc-2: the share of samples whose output has the sign of the target; zero counts as positive, as in CMU-MOSEI's task `binary`.
    Acc-7: the share of samples whose output, clipped to the scale and rounded, equals the rounded target.
    """

    quantities = (
        Quantity(
            "acc-2", "Acc-2", "accuracy of the sign, where zero counts as positive", "%", decimals=2, tasks=("regression",)
        ),
        Quantity("acc-7", "Acc-7", "accuracy of the rounded sentiment", "%", decimals=2, tasks=("regression",)),
    )

    def __call__(self, outcomes: Outcomes, references: Mapping[str, Outcomes]) -> Mapping[str, float]:
        outcome = outcomes.judged
        if outcome.class_names != ("sentiment",):
            raise Unmeasured("the targets are not sentiment")
        outputs, targets = outcome.predicted(outcome.full), outcome.targets
        return {
            "acc-2": float(((outputs >= 0) == (targets >= 0)).mean()),
            "acc-7": float((np.round(outputs.clip(LOWEST, HIGHEST)) == np.round(targets.clip(LOWEST, HIGHEST))).mean()),
        }
