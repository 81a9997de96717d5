"""Competition strength: how much of a unimodal model ("mono-modal concept") the joint model has lost (AGM paper, section 3.2)."""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Lt

from agmbench.outcomes import Floats, Metric, Outcomes, Quantity, Unmeasured


class CompetitionStrength(Metric):
    """`d^m = 1/C trace( delta pinv(N cov(C^m)) delta^T )`: 0 if the joint representation preserves the unimodal model of m
    ("mono-modal concept"), near 1 if it is lost.

    A ridge regression (with intercept, on the features as they are) from the fused representation `[N_dev, R]` to the concept's
    logits `[N_dev, C]` is fitted on dev. `delta` `[N, C]` is its error on test, in units of the spread of the concept's logits
    there. Above 1, the regression predicts the concept on test worse than the concept's mean would. This happens when the fit does
    not carry over from dev, for example because dev has few samples or the concept answers differently on test.

    ridge: the regression's penalty lambda. Paper (supplement B) 120; ours 120.
    cutoff: singular values of the concept's covariance below this share of the largest one count as zero. Official code: 1e-15, the
    default of `pinv`, which divides by rounding errors if logits of lower rank have a large mean. Ours: 1e-10; the singular values
    of sound logits are far above it.

    Official code: its dev also holds a tenth of the test set; ours is cut from train only.
    """

    compares = True
    quantities = (
        Quantity(
            "strength",
            "d_{}",
            "competition strength (0: the unimodal model of m is fully preserved, near 1: it is lost, "
            "above 1: it is predicted worse than by its mean)",
            better="lower",
            per="modality",
        ),
    )

    def __init__(self, *, ridge: Annotated[float, Gt(0)] = 120.0, cutoff: Annotated[float, Ge(0), Lt(1)] = 1e-10) -> None:
        self.ridge, self.cutoff = ridge, cutoff

    def __call__(self, outcomes: Outcomes, references: Mapping[str, Outcomes]) -> Mapping[str, Mapping[str, float]]:
        dev, test = outcomes.dev.representation, outcomes.judged.representation
        return {"strength": {m: self.of(dev, test, one.dev.full, one.judged.full) for m, one in references.items()}}

    def of(self, representation_dev: Floats, representation_test: Floats, concept_dev: Floats, concept_test: Floats) -> float:
        """The strength of one modality, in float64."""
        from sklearn.linear_model import Ridge  # takes a second to import, and tables need only the quantities

        fitted = Ridge(alpha=self.ridge).fit(
            np.asarray(representation_dev, dtype=np.float64), np.asarray(concept_dev, dtype=np.float64)
        )
        concept = np.asarray(concept_test, dtype=np.float64)
        if len(concept) < 2:
            raise Unmeasured("one sample has no spread")
        delta = fitted.predict(np.asarray(representation_test, dtype=np.float64)).reshape(concept.shape) - concept  # [N, C]
        spread = len(concept) * np.atleast_2d(np.cov(concept, rowvar=False))  # [C, C]
        if not spread.any():
            raise Unmeasured("a concept gives the same logits for every sample, so its spread is zero")
        inverse = np.linalg.pinv(spread, rcond=self.cutoff)
        return float(np.einsum("nc,cd,nd->", delta, inverse, delta) / concept.shape[1])
