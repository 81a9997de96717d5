"""Metrics against numbers worked out by hand."""

from dataclasses import replace
from math import log
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agmbench.metrics.accuracy import Accuracy
from agmbench.metrics.balanced_accuracy import BalancedAccuracy
from agmbench.metrics.calibration_error import CalibrationError
from agmbench.metrics.coalitions import Coalitions
from agmbench.metrics.competition_strength import CompetitionStrength
from agmbench.metrics.concepts import Concepts
from agmbench.metrics.imbalance import Imbalance
from agmbench.metrics.linear_probe import LinearProbe
from agmbench.metrics.log_loss import LogLoss
from agmbench.metrics.macro_f1 import MacroF1
from agmbench.metrics.mae import MAE
from agmbench.metrics.map import MeanAveragePrecision
from agmbench.metrics.pearson import Pearson
from agmbench.metrics.r2 import R2
from agmbench.metrics.responses import Responses
from agmbench.metrics.sentiment import Sentiment
from agmbench.metrics.terms import Terms
from agmbench.metrics.weighted_f1 import WeightedF1
from agmbench.outcomes import Array, Floats, Kind, Metric, OfAnswers, Outcome, Outcomes, Unmeasured, load, save

strength = CompetitionStrength().of


def outcome(logits: Floats, targets: Array, kind: Kind = "classification", **more: object) -> Outcome:
    """The outcome of a model with one modality."""
    names = tuple(str(number) for number in range(logits.shape[1]))
    known: dict[str, object] = {"modalities": ("a",), "class_names": names, "logits": {frozenset("a"): logits}}
    return Outcome(kind=kind, targets=targets, **{**known, **more})  # type: ignore[arg-type]


def one_hot(predicted: list[int], classes: int) -> Floats:
    return np.eye(classes, dtype=np.float32)[predicted]


def of(metric: OfAnswers, logits: Floats, targets: Array, kind: Kind = "classification", **more: object) -> float:
    found = outcome(logits, targets, kind, **more)
    return metric.of(found, found.full)


def two(worth: dict[str, list[int]], targets: list[int], classes: int = 2) -> Outcome:
    """The outcome of a model with two modalities, from the predictions of each coalition, named `a`, `b` and `ab`."""
    logits = {frozenset(name): one_hot(predicted, classes) for name, predicted in worth.items()}
    return Outcome("classification", ("a", "b"), ("0", "1"), logits, np.array(targets))


def test_accuracy_is_the_share_of_hits() -> None:
    assert of(Accuracy(), one_hot([0, 1, 2, 2], 3), np.array([0, 1, 1, 2])) == 0.75


def test_accuracy_reads_the_largest_logit() -> None:
    assert of(Accuracy(), np.array([[-3.0, -1.0], [5.0, 4.0]]), np.array([1, 1])) == 0.5


def test_accuracy_of_several_labels_is_the_share_of_labels() -> None:
    logits, targets = np.array([[1.0, -1.0], [2.0, 3.0]]), np.array([[1.0, 1.0], [1.0, 1.0]])
    assert of(Accuracy(), logits, targets, "multi-label") == 0.75


def test_macro_f1_is_the_mean_over_classes() -> None:
    # hits, predicted, present: class 0: 2, 2, 3; class 1: 1, 2, 2; class 2: 0, 1, 0. F1 = 2 hits / (predicted + present)
    logits, targets = one_hot([0, 0, 1, 1, 2], 3), np.array([0, 0, 0, 1, 1])
    assert of(MacroF1(), logits, targets) == pytest.approx((4 / 5 + 2 / 4 + 0) / 3)
    assert of(WeightedF1(), logits, targets) == pytest.approx((3 * 4 / 5 + 2 * 2 / 4) / 5)


def test_macro_f1_counts_a_class_that_never_occurs_as_zero() -> None:
    assert of(MacroF1(), one_hot([0, 1], 4), np.array([0, 1])) == 0.5


def test_balanced_accuracy_counts_every_class_that_occurs_the_same() -> None:
    assert of(BalancedAccuracy(), one_hot([0, 0, 0, 1, 2], 3), np.array([0, 0, 0, 0, 1])) == pytest.approx((3 / 4 + 0) / 2)


def test_average_precision_is_averaged_over_the_labels_that_occur() -> None:
    # label 0 is right at ranks 1 and 3 of 3: (1 + 2/3) / 2; label 1 never occurs; label 2 is right at rank 2 of 3
    logits = np.array([[3.0, 0.0, 2.0], [2.0, 0.0, 3.0], [1.0, 0.0, 1.0]])
    targets = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    assert of(MeanAveragePrecision(), logits, targets, "multi-label") == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)
    with pytest.raises(Unmeasured, match="no label occurs"):
        of(MeanAveragePrecision(), logits, np.zeros((3, 3)), "multi-label")


def test_numbers_of_a_regression() -> None:
    logits, targets = np.array([[1.0], [2.0], [3.0], [6.0]]), np.array([1.0, 3.0, 2.0, 6.0])
    assert of(MAE(), logits, targets, "regression") == 0.5
    assert of(R2(), logits, targets, "regression") == pytest.approx(1 - 2 / 14)
    assert of(Pearson(), logits, targets, "regression") == pytest.approx(np.corrcoef(logits[:, 0], targets)[0, 1])


@pytest.mark.parametrize(("metric", "logits", "targets"), [(Pearson(), [1.0, 1.0], [1.0, 2.0]), (R2(), [1.0, 2.0], [3.0, 3.0])])
def test_where_nothing_varies_there_is_nothing_to_explain(metric: OfAnswers, logits: list[float], targets: list[float]) -> None:
    with pytest.raises(Unmeasured, match="all equal"):
        of(metric, np.array(logits)[:, None], np.array(targets), "regression")


def test_accuracies_of_a_sentiment() -> None:
    outputs, targets = np.array([[-0.2], [0.4], [2.6], [-5.0]]), np.array([0.0, 1.0, 3.0, -3.0])
    found = outcome(outputs, targets, "regression", class_names=("sentiment",))
    # signs: only -0.2 is wrong, as its target 0 counts as positive; rounded: -0 for 0 right, 0 for 1 wrong, 3 for 3 and -3 for -3 right
    assert Sentiment()(Outcomes(found), {}) == {"acc-2": 0.75, "acc-7": 0.75}
    with pytest.raises(Unmeasured, match="not sentiment"):
        Sentiment()(Outcomes(outcome(outputs, targets, "regression")), {})


def test_calibration_error_by_hand() -> None:
    # confidences .8, .8 (one of them right) and .6 (right), in two of ten bins; the gaps are |1 - 1.6| and |1 - .6|, over three samples
    logits = np.log(np.array([[0.8, 0.2], [0.8, 0.2], [0.6, 0.4]]))
    assert of(CalibrationError(bins=10), logits, np.array([0, 1, 0])) == pytest.approx((0.6 + 0.4) / 3)
    assert of(CalibrationError(bins=1), logits, np.array([0, 1, 0])) == pytest.approx(abs(2 - 2.2) / 3)


def test_log_loss_by_hand() -> None:
    logits = np.log(np.array([[0.8, 0.2], [0.6, 0.4]]))
    assert of(LogLoss(), logits, np.array([0, 1])) == pytest.approx(-(log(0.8) + log(0.4)) / 2)
    even = np.zeros((1, 2))
    assert of(LogLoss(), even, np.array([[1.0, 0.0]]), "multi-label") == pytest.approx(log(2))


def test_imbalance_is_of_shapley_values_that_sum_to_the_accuracy() -> None:
    found = Imbalance()(Outcomes(two({"a": [0, 1, 1, 1], "b": [1, 1, 0, 0], "ab": [0, 1, 1, 0]}, [0, 1, 1, 0])), {})
    # accuracies: a 3/4, b 2/4, both 1: s_a = (3/4 + 1 - 2/4) / 2
    assert found == {"contribution": {"a": 0.625, "b": 0.375}, "imbalance": 0.25}
    with pytest.raises(Unmeasured, match="with a single modality there is no imbalance"):
        Imbalance()(Outcomes(outcome(one_hot([0], 2), np.array([0]))), {})


def test_coalitions_are_named_by_their_members() -> None:
    found = Coalitions()(Outcomes(two({"a": [0, 1], "b": [1, 1], "ab": [0, 1]}, [0, 1])), {})
    assert found == {"coalition": {"a": 1.0, "b": 0.5, "a:b": 1.0}}


def test_acc_m_has_two_meanings() -> None:
    logits = {"a": [[0.0, 2.0]], "b": [[3.0, 0.0]], "ab": [[1.0, 0.0]]}
    said = {frozenset(name): np.array(values) for name, values in logits.items()}
    terms = {"a": np.array([[1.0, 0.0]]), "b": np.array([[0.0, 0.0]])}
    found = Outcome("classification", ("a", "b"), ("0", "1"), said, np.array([0]), terms=terms)
    # phi_a = (f(ab) - f(b) + f(a)) / 2 = (-1, 1), whose class is 1; the term of a predicts class 0
    assert Responses()(Outcomes(found), {}) == {"response": {"a": 0.0, "b": 1.0}}
    assert Terms()(Outcomes(found), {}) == {"term": {"a": 1.0, "b": 1.0}}


def test_what_was_not_kept_is_not_measured() -> None:
    alone = Outcome("classification", ("a", "b"), ("0", "1"), {frozenset("ab"): one_hot([0], 2)}, np.array([0]))
    metrics: list[Metric] = [Responses(), Coalitions(), Imbalance(), Terms()]
    for metric in metrics:
        with pytest.raises(Unmeasured):
            metric(Outcomes(alone), {})
    with pytest.raises(Unmeasured, match="kept no representation"):
        CompetitionStrength()(Outcomes(alone, alone), {"a": Outcomes(alone, alone)})


def test_concepts_are_read_from_the_references() -> None:
    found = outcome(one_hot([0, 1], 2), np.array([0, 0]))
    assert Concepts()(Outcomes(found), {"a": Outcomes(found)}) == {"concept": {"a": 0.5}}


# competition strength


def normal(rows: int, columns: int, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(rows, columns))


def test_strength_is_zero_where_the_concept_is_read_from_the_representation() -> None:
    dev, test = 100 * normal(400, 6, 0), 100 * normal(300, 6, 1)  # large, so that ridge shrinks almost nothing
    weights, bias = normal(6, 4, 2), normal(1, 4, 3)
    assert strength(dev, test, dev @ weights + bias, test @ weights + bias) == pytest.approx(0, abs=1e-6)


def test_strength_is_near_one_where_the_concept_has_nothing_to_do_with_it() -> None:
    found = strength(normal(400, 6, 0), normal(4000, 6, 1), normal(400, 4, 2), normal(4000, 4, 3))
    assert found == pytest.approx(1, abs=0.05)


def test_strength_of_a_half_lost_concept_lies_between() -> None:
    dev, test = 100 * normal(400, 6, 0), 100 * normal(4000, 6, 1)
    concepts = [np.hstack([x[:, :2] / 100, normal(len(x), 2, len(x))]) for x in (dev, test)]
    assert strength(dev, test, *concepts) == pytest.approx(0.5, abs=0.05)


def test_strength_does_not_depend_on_the_units_or_the_basis_of_the_concept() -> None:
    dev, test, concept_dev, concept_test = normal(100, 5, 0), normal(80, 5, 1), normal(100, 3, 2), normal(80, 3, 3)
    mixed = normal(3, 3, 4)
    plain = strength(dev, test, concept_dev, concept_test)
    assert strength(dev, test, 7 + concept_dev @ mixed, 7 + concept_test @ mixed) == pytest.approx(plain)


def test_strength_by_hand() -> None:
    # a constant representation predicts the mean of dev, (1, 0); the concept on test is (0, 0), (2, 0), (1, 1), (1, -1)
    concept_dev = np.array([[0.0, 0.0], [2.0, 0.0]])
    concept_test = np.array([[0.0, 0.0], [2.0, 0.0], [1.0, 1.0], [1.0, -1.0]])
    found = strength(np.zeros((2, 1)), np.zeros((4, 1)), concept_dev, concept_test)
    # N cov = 4 diag(2/3, 2/3); the sum of squared errors is 4; there are two classes
    assert found == pytest.approx(4 / (4 * 2 / 3) / 2)


def test_strength_of_single_precision_is_computed_in_double() -> None:
    arrays = [normal(100, 5, 0), normal(80, 5, 1), normal(100, 3, 2), normal(80, 3, 3)]
    single = [array.astype(np.float32) for array in arrays]
    rounded = [array.astype(np.float64) for array in single]
    assert strength(*single) == strength(*rounded)


def of_low_rank(rows: int, size: int, classes: int, mean: float, seed: int) -> tuple[Floats, Floats]:
    """Features `[N, size]`, and logits `[N, classes]` in single precision that are a linear map of features and noise. The logits have the
    rank `size` and a large mean."""
    drawn, fixed = np.random.default_rng(seed), np.random.default_rng(7)
    features = drawn.normal(size=(rows, size))
    hidden = 0.9 * features + 0.4 * drawn.normal(size=(rows, size))
    return features, (hidden @ fixed.normal(size=(size, classes)) + mean).astype(np.float32)


@pytest.mark.parametrize(("size", "classes", "mean"), [(8, 10, 20.0), (16, 28, 30.0)])
def test_strength_of_logits_of_lower_rank_does_not_divide_by_rounding_errors(size: int, classes: int, mean: float) -> None:
    dev, concept_dev = of_low_rank(400, size, classes, mean, 0)
    test, concept_test = of_low_rank(1000, size, classes, mean, 1)
    basis = np.linalg.svd(concept_test - concept_test.mean(axis=0), full_matrices=False)[2][:size]  # the directions that vary
    exact = strength(dev, test, concept_dev @ basis.T, concept_test @ basis.T) * size / classes
    assert strength(dev, test, concept_dev, concept_test) == pytest.approx(exact, rel=1e-3)
    inflated = CompetitionStrength(cutoff=1e-15).of(dev, test, concept_dev, concept_test)
    assert inflated > 1.5 * exact


def test_strength_above_one_is_a_reading_worse_than_the_mean() -> None:
    dev, test = 100 * normal(50, 6, 0), 100 * normal(400, 6, 1)
    assert strength(dev, test, dev / 100, -test / 100) == pytest.approx(4, rel=0.1)  # a wrong sign: twice the value off


def test_a_concept_that_says_the_same_of_all_has_no_strength() -> None:
    with pytest.raises(Unmeasured, match="the same logits for every sample"):
        strength(normal(10, 2, 0), normal(10, 2, 1), np.ones((10, 2)), np.ones((10, 2)))


def probed(kind: Kind, targets: Array, seed: int) -> Outcome:
    """An outcome in which the features of `a` determine the targets and those of `b` are random."""
    drawn = np.random.default_rng(seed)
    told = targets if targets.ndim > 1 else np.eye(3)[targets] if kind == "classification" else targets[:, np.newaxis]
    features = {"a": 5 + 100 * (told + 0.01 * drawn.normal(size=told.shape)), "b": drawn.normal(size=(len(targets), 2))}
    logits = {frozenset(name): np.zeros((len(targets), 3)) for name in ("a", "b", "ab")}
    return Outcome(kind, ("a", "b"), ("0", "1", "2"), logits, targets, features=features)


@pytest.mark.parametrize("kind", ["classification", "multi-label", "regression"])
def test_a_probe_reads_what_an_encoder_has_learnt(kind: Kind) -> None:
    drawn = np.random.default_rng(0)
    made: dict[str, Array] = {
        "classification": np.arange(300) % 3,
        "multi-label": (drawn.random((300, 3)) < 0.5).astype(np.float32),
        "regression": drawn.normal(size=300),
    }
    dev, test = (probed(kind, made[kind], seed) for seed in (1, 2))
    end, chance = ("-r2", 0.0) if kind == "regression" else ("", 1 / 3 if kind == "classification" else 0.5)
    found = LinearProbe()(Outcomes(test, dev), {})
    assert found[f"probe{end}"]["a"] > 0.99  # type: ignore[index]
    assert found[f"probe{end}"]["b"] == pytest.approx(chance, abs=0.12)  # type: ignore[index]
    assert found[f"probe-all{end}"] > 0.99  # type: ignore[operator]


def test_a_probe_needs_features_and_classes() -> None:
    whole = probed("classification", np.arange(6) % 3, 0)
    bare = outcome(one_hot([0, 1], 3), np.array([0, 1]))
    with pytest.raises(Unmeasured, match="the method trains no encoder, or the run was made before they were kept"):
        LinearProbe()(Outcomes(bare, bare), {})
    with pytest.raises(Unmeasured, match="dev has only one class"):
        LinearProbe()(Outcomes(whole, probed("classification", np.zeros(6, dtype=int), 0)), {})


def test_features_are_kept_once_where_the_representation_is_them(tmp_path: Path) -> None:
    late = probed("classification", np.arange(6) % 3, 0)
    late = replace(late, fused=np.concatenate([*late.features.values()], axis=1))
    early = replace(late, fused=np.zeros((6, 4)))
    sizes = []
    for number, one in enumerate((late, early, replace(late, features={}))):
        save({"test": one}, tmp_path / f"{number}.npz")
        found = load(tmp_path / f"{number}.npz")["test"]
        assert found.features.keys() == one.features.keys()
        assert all(np.array_equal(found.features[m], one.features[m]) for m in one.features)
        with np.load(tmp_path / f"{number}.npz") as file:
            sizes.append("test/features" in file.files)
    assert sizes == [False, True, False]
