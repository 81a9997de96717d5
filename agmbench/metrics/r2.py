"""The coefficient of determination, by scikit-learn."""

import numpy as np

from agmbench.outcomes import Floats, OfAnswers, Outcome, Quantity, Unmeasured


class R2(OfAnswers):
    """The share of the targets' variance that the outputs explain; below 0 if the targets' mean would be a better guess."""

    quantities = (Quantity("r2", "R2", "share of the targets' variance explained", tasks=("regression",)),)

    def of(self, outcome: Outcome, logits: Floats) -> float:
        from sklearn.metrics import r2_score  # takes a second to import, and tables need only the quantities

        if np.ptp(outcome.targets) == 0:
            raise Unmeasured("the targets are all equal, so there is no variance to explain")
        return float(r2_score(outcome.targets.astype(np.float64), outcome.predicted(logits).astype(np.float64)))
