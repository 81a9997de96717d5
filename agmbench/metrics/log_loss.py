"""Log loss."""

import numpy as np
from scipy.special import log_expit, log_softmax

from agmbench.outcomes import Floats, OfAnswers, Outcome, Quantity


class LogLoss(OfAnswers):
    """The mean negative log probability of the right answer; for several labels, the mean over labels as well. Computed in float64."""

    quantities = (
        Quantity(
            "log-loss", "log loss", "mean negative log likelihood", better="lower", tasks=("classification", "multi-label")
        ),
    )

    def of(self, outcome: Outcome, logits: Floats) -> float:
        z = logits.astype(np.float64)
        if outcome.kind == "multi-label":
            return float(-log_expit(np.where(outcome.targets > 0.5, z, -z)).mean())
        return float(-np.take_along_axis(log_softmax(z, axis=1), outcome.targets[:, None], axis=1).mean())
