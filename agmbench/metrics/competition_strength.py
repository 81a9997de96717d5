"""Competition strength: how much of a mono-modal concept the joint model has lost (AGM paper, section 3.2)."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

RIDGE_LAMBDA = 120.0  # AGM paper, supplement B

Floats = NDArray[np.floating]


def competition_strength(
    representation_dev: Floats, representation_test: Floats, concept_dev: Floats, concept_test: Floats
) -> float:
    """`d^m = 1/C trace( delta pinv(N cov(C^m)) delta^T )`: 0, the concept is read from the representation; near 1, it is lost.

    A ridge regression (lambda 120, intercept, features as they are) from the fused representation `[N_dev, R]` to the concept's
    logits `[N_dev, C]` is fitted on dev; `delta` `[N, C]` is its error on test, measured in units of the concept's own spread.
    The paper's dev holds a tenth of its test set as well; ours is cut from train alone.
    """
    ridge = Ridge(alpha=RIDGE_LAMBDA).fit(
        np.asarray(representation_dev, dtype=np.float64), np.asarray(concept_dev, dtype=np.float64)
    )
    concept = np.asarray(concept_test, dtype=np.float64)
    delta = ridge.predict(np.asarray(representation_test, dtype=np.float64)).reshape(concept.shape) - concept  # [N, C]
    spread = np.linalg.pinv(len(concept) * np.atleast_2d(np.cov(concept, rowvar=False)))  # [C, C]
    return float(np.einsum("nc,cd,nd->", delta, spread, delta) / concept.shape[1])
