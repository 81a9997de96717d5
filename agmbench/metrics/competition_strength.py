"""Competition strength: how much of a unimodal model ("mono-modal concept") the joint model has lost (AGM paper, section 3.2)."""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Lt
from sklearn.linear_model import Ridge

from agmbench.outcomes import Floats, Metric, Outcomes, Quantity, Unmeasured


class CompetitionStrength(Metric):
    """`d^m = 1/C trace( delta pinv(N cov(C^m)) delta^T )`: 0, the concept is read from the representation; near 1, it is lost.

    A ridge regression (intercept, features as they are) from the fused representation `[N_dev, R]` to the concept's logits
    `[N_dev, C]` is fitted on dev; `delta` `[N, C]` is its error on test, measured in units of the concept's own spread there. Above 1,
    the reading is worse on test than the concept's mean would be: it does not carry over from dev, as with few samples in dev or a
    concept that says other things on test.

    ridge: lambda of the regression. Paper (supplement B) 120; ours 120.
    cutoff: singular values of the concept's covariance that are below this share of the largest count as zero. Official code: 1e-15, the
    default of `pinv`, which divides by rounding errors where logits of lower rank have a large mean; ours 1e-10, as sound logits are
    far above it.

    Official code: its dev holds a tenth of the test set as well; ours is cut from train alone.
    """

    compares = True
    quantities = (
        Quantity(
            "strength",
            "d_{}",
            "competition strength (0: m's concept is wholly kept, near 1: it is lost, above 1: it is read worse than by its mean)",
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
        fitted = Ridge(alpha=self.ridge).fit(
            np.asarray(representation_dev, dtype=np.float64), np.asarray(concept_dev, dtype=np.float64)
        )
        concept = np.asarray(concept_test, dtype=np.float64)
        if len(concept) < 2:
            raise Unmeasured("one sample has no spread")
        delta = fitted.predict(np.asarray(representation_test, dtype=np.float64)).reshape(concept.shape) - concept  # [N, C]
        spread = len(concept) * np.atleast_2d(np.cov(concept, rowvar=False))  # [C, C]
        if not spread.any():
            raise Unmeasured("a concept says the same of every sample, so its spread is zero")
        inverse = np.linalg.pinv(spread, rcond=self.cutoff)
        return float(np.einsum("nc,cd,nd->", delta, inverse, delta) / concept.shape[1])
