"""Expected calibration error: how far confidence is from accuracy."""

from typing import Annotated

import numpy as np
from annotated_types import Ge
from scipy.special import softmax

from agmbench.outcomes import Floats, OfAnswers, Outcome, Quantity


class CalibrationError(OfAnswers):
    """Expected calibration error (Guo et al., ICML 2017, equation 3): `sum_b N_b / N |accuracy_b - confidence_b|`.

    The confidence of a sample is its largest class probability; samples are binned by confidence.

    bins: number of bins of equal width. Paper 15; ours 15.
    """

    quantities = (
        Quantity("ece", "ECE", "expected calibration error", "%", better="lower", decimals=2, tasks=("classification",)),
    )

    def __init__(self, *, bins: Annotated[int, Ge(1)] = 15) -> None:
        self.bins = bins

    def of(self, outcome: Outcome, logits: Floats) -> float:
        confidence = softmax(logits.astype(np.float64), axis=1).max(axis=1)  # [N]
        right = outcome.predicted(logits) == outcome.targets
        places = np.clip(np.ceil(confidence * self.bins).astype(int) - 1, 0, self.bins - 1)
        gaps = np.bincount(places, weights=right - confidence, minlength=self.bins)
        return float(np.abs(gaps).sum() / len(right))
