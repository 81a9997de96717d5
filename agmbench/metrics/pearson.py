"""Pearson's correlation."""

import numpy as np

from agmbench.outcomes import Floats, OfAnswers, Outcome, Quantity, Unmeasured


class Pearson(OfAnswers):
    """The correlation between output and target."""

    quantities = (Quantity("pearson", "Pearson", "correlation between output and target", tasks=("regression",)),)

    def of(self, outcome: Outcome, logits: Floats) -> float:
        pair = np.stack([outcome.predicted(logits), outcome.targets]).astype(np.float64)
        if np.ptp(pair, axis=1).min() == 0:
            raise Unmeasured("outputs or targets are all equal, so they have no correlation")
        return float(np.corrcoef(*pair)[0][1])
