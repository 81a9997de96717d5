"""The imbalance degree: how unevenly the modalities contribute to the accuracy (BalanceBenchmark, Xu et al. 2025)."""

from collections.abc import Mapping

from agmbench import shapley
from agmbench.metrics.accuracy import Accuracy
from agmbench.metrics.figure import FIGURES
from agmbench.outcomes import Metric, Outcomes, Quantity, Unmeasured


class Imbalance(Metric):
    """The Shapley value of each modality in the accuracy, and the gap between the largest and the smallest.

        s_m = sum over S without m of |S|! (M - |S| - 1)! / M! ( v(S + m) - v(S) ),    v(S) the accuracy with S present, v() = 0

    The values of all modalities sum to the accuracy of the model. They judge how accurate the model is when modalities are absent,
    whereas `Acc_m` (Shapley accuracy) judges each modality's share of the logits.
    """

    quantities = (
        Quantity(
            "contribution",
            "s_{}",
            "Shapley value of m in the accuracy, in points; the values of all modalities sum to Acc",
            "points",
            better="neither",
            decimals=2,
            tasks=FIGURES,
            per="modality",
        ),
        Quantity(
            "imbalance",
            "imbalance",
            "imbalance degree: the largest Shapley value minus the smallest, in points",
            "points",
            better="lower",
            decimals=2,
            tasks=FIGURES,
        ),
    )

    def __call__(self, outcomes: Outcomes, references: Mapping[str, Outcomes]) -> Mapping[str, float | Mapping[str, float]]:
        outcome = outcomes.judged
        if len(outcome.modalities) < 2:
            raise Unmeasured("with a single modality there is no imbalance")
        outcome.require_coalitions()
        worth = {coalition: Accuracy().of(outcome, logits) for coalition, logits in outcome.logits.items()}
        shares = shapley.responses(worth, outcome.modalities)
        return {"contribution": shares, "imbalance": max(shares.values()) - min(shares.values())}
