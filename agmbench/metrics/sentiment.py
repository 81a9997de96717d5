"""Accuracies of a regressed sentiment, as the field reports them."""

from collections.abc import Mapping

import numpy as np

from agmbench.outcomes import Metric, Outcomes, Quantity, Unmeasured

LOWEST, HIGHEST = -3, 3  # of CMU-MOSEI's and CMU-MOSI's scale


class Sentiment(Metric):
    """Acc-2 and Acc-7 of a sentiment between -3 and 3.

    Acc-2: the share of samples whose output is on the side of zero of their target, zero being positive, as CMU-MOSEI's task `binary`
    has it. Acc-7: the share whose output, rounded and held to the scale, is their rounded target.
    """

    quantities = (
        Quantity("acc-2", "Acc-2", "accuracy of the sign, zero being positive", "%", decimals=2, tasks=("regression",)),
        Quantity("acc-7", "Acc-7", "accuracy of the rounded sentiment", "%", decimals=2, tasks=("regression",)),
    )

    def __call__(self, outcomes: Outcomes, references: Mapping[str, Outcomes]) -> Mapping[str, float]:
        outcome = outcomes.judged
        if outcome.class_names != ("sentiment",):
            raise Unmeasured("the targets are no sentiment")
        outputs, targets = outcome.predicted(outcome.full), outcome.targets
        return {
            "acc-2": float(((outputs >= 0) == (targets >= 0)).mean()),
            "acc-7": float((np.round(outputs.clip(LOWEST, HIGHEST)) == np.round(targets.clip(LOWEST, HIGHEST))).mean()),
        }
