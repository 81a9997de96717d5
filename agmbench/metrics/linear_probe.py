"""What each encoder has learnt: a linear probe on its frozen features."""

import warnings
from collections.abc import Mapping
from typing import Annotated

import numpy as np
from annotated_types import Gt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from agmbench.metrics.figure import FIGURES
from agmbench.metrics.r2 import R2
from agmbench.outcomes import Array, Floats, Metric, Outcome, Outcomes, Quantity, Unmeasured


class LinearProbe(Metric):
    """The accuracy (for regression, R2) of a linear model on the frozen features of each encoder, and on the features of all together.

    It shows what an encoder has learnt, whatever the trained head makes of it. The features of dev are standardised, and a logistic
    regression is fitted on them (one per label for several labels; ridge regression for a regression). Its predictions are judged on
    test. If a method predicts with heads of its own, the features are those that these heads read. A method that trains no encoder has
    no features.

    strength: inverse of the penalty, scikit-learn's `C`; for ridge regression, `alpha` is its reciprocal. Ours 1.

    Published probes are fitted on the training set, whose samples the encoders have learnt by heart. Ours is fitted on dev, as
    competition strength is: dev is cut from the training set, and the encoders have not seen it. With a small dev, our numbers are
    therefore lower than published ones.
    """

    quantities = (
        Quantity(
            "probe",
            "probe_{}",
            "accuracy of a linear probe on the features of m",
            "%",
            decimals=2,
            tasks=FIGURES,
            per="modality",
        ),
        Quantity(
            "probe-all", "probe", "accuracy of a linear probe on the features of all modalities", "%", decimals=2, tasks=FIGURES
        ),
        Quantity("probe-r2", "probe R2_{}", "R2 of a linear probe on the features of m", tasks=("regression",), per="modality"),
        Quantity("probe-all-r2", "probe R2", "R2 of a linear probe on the features of all modalities", tasks=("regression",)),
    )

    def __init__(self, *, strength: Annotated[float, Gt(0)] = 1.0) -> None:
        self.strength = strength

    def __call__(self, outcomes: Outcomes, references: Mapping[str, Outcomes]) -> Mapping[str, float | Mapping[str, float]]:
        dev, test = outcomes.dev, outcomes.judged
        if not dev.features or not test.features:
            raise Unmeasured("no features: the method trains no encoder, or the run was made before they were kept")
        alone = {m: self.of(dev.features[m], test.features[m], dev, test) for m in test.modalities}
        known, asked = (np.concatenate([one.features[m] for m in test.modalities], axis=1) for one in (dev, test))
        together = self.of(known, asked, dev, test)
        end = "-r2" if test.kind == "regression" else ""
        return {f"probe{end}": alone, f"probe-all{end}": together}

    def of(self, known: Floats, asked: Floats, dev: Outcome, test: Outcome) -> float:
        """The figure of a probe that is fitted on `known` `[N_dev, D]` and answers for `asked` `[N, D]`."""
        if dev.kind == "classification" and len(np.unique(dev.targets)) < 2:
            raise Unmeasured("dev has only one class, so a probe has nothing to tell apart")
        logistic = LogisticRegression(C=self.strength, max_iter=1000)
        each, ridge = OneVsRestClassifier(logistic), Ridge(alpha=1 / self.strength)
        made = {"classification": logistic, "multi-label": each, "regression": ridge}
        probe = make_pipeline(StandardScaler(), made[dev.kind])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("ignore", message="Label ")  # warns of a label that all samples of dev have, or none
            probe.fit(np.asarray(known, dtype=np.float64), dev.targets)
        answers: Array = probe.predict(np.asarray(asked, dtype=np.float64))
        return R2().of(test, answers[:, np.newaxis]) if test.kind == "regression" else float((answers == test.targets).mean())
