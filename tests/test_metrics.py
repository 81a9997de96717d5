"""Metrics against numbers worked out by hand."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from agmbench.metrics.accuracy import accuracy
from agmbench.metrics.competition_strength import competition_strength
from agmbench.metrics.macro_f1 import macro_f1


def logits(predicted: list[int], classes: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(predicted), classes).float()


def test_accuracy_is_the_share_of_hits() -> None:
    assert accuracy(logits([0, 1, 2, 2], 3), torch.tensor([0, 1, 1, 2])) == 0.75


def test_accuracy_reads_the_largest_logit() -> None:
    assert accuracy(torch.tensor([[-3.0, -1.0], [5.0, 4.0]]), torch.tensor([1, 1])) == 0.5


def test_macro_f1_is_the_mean_over_classes() -> None:
    # hits, predicted, present: class 0: 2, 2, 3; class 1: 1, 2, 2; class 2: 0, 1, 0. F1 = 2 hits / (predicted + present)
    found = macro_f1(logits([0, 0, 1, 1, 2], 3), torch.tensor([0, 0, 0, 1, 1]))
    assert found == pytest.approx((4 / 5 + 2 / 4 + 0) / 3)


def test_macro_f1_counts_a_class_that_never_occurs_as_zero() -> None:
    assert macro_f1(logits([0, 1], 4), torch.tensor([0, 1])) == 0.5


def test_metrics_of_a_perfect_prediction_are_one() -> None:
    targets = torch.tensor([2, 0, 1, 1])
    assert accuracy(logits(targets.tolist(), 3), targets) == macro_f1(logits(targets.tolist(), 3), targets) == 1


# competition strength


def normal(rows: int, columns: int, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(rows, columns))


def test_strength_is_zero_where_the_concept_is_read_from_the_representation() -> None:
    dev, test = 100 * normal(400, 6, 0), 100 * normal(300, 6, 1)  # large, so that ridge shrinks next to nothing
    weights, bias = normal(6, 4, 2), normal(1, 4, 3)
    assert competition_strength(dev, test, dev @ weights + bias, test @ weights + bias) == pytest.approx(0, abs=1e-6)


def test_strength_is_near_one_where_the_concept_has_nothing_to_do_with_it() -> None:
    found = competition_strength(normal(400, 6, 0), normal(4000, 6, 1), normal(400, 4, 2), normal(4000, 4, 3))
    assert found == pytest.approx(1, abs=0.05)


def test_strength_of_a_half_lost_concept_lies_between() -> None:
    dev, test = 100 * normal(400, 6, 0), 100 * normal(4000, 6, 1)
    concepts = [np.hstack([x[:, :2] / 100, normal(len(x), 2, len(x))]) for x in (dev, test)]
    assert competition_strength(dev, test, *concepts) == pytest.approx(0.5, abs=0.05)


def test_strength_does_not_depend_on_the_units_or_the_basis_of_the_concept() -> None:
    dev, test, concept_dev, concept_test = normal(100, 5, 0), normal(80, 5, 1), normal(100, 3, 2), normal(80, 3, 3)
    mixed = normal(3, 3, 4)
    plain = competition_strength(dev, test, concept_dev, concept_test)
    assert competition_strength(dev, test, 7 + concept_dev @ mixed, 7 + concept_test @ mixed) == pytest.approx(plain)


def test_strength_by_hand() -> None:
    # a constant representation predicts the mean of dev, (1, 0); the concept on test is (0, 0), (2, 0), (1, 1), (1, -1)
    concept_dev = np.array([[0.0, 0.0], [2.0, 0.0]])
    concept_test = np.array([[0.0, 0.0], [2.0, 0.0], [1.0, 1.0], [1.0, -1.0]])
    found = competition_strength(np.zeros((2, 1)), np.zeros((4, 1)), concept_dev, concept_test)
    # N cov = 4 diag(2/3, 2/3); the sum of squared errors is 4; over two classes
    assert found == pytest.approx(4 / (4 * 2 / 3) / 2)


def test_strength_of_single_precision_is_computed_in_double() -> None:
    arrays = [normal(100, 5, 0), normal(80, 5, 1), normal(100, 3, 2), normal(80, 3, 3)]
    single = [array.astype(np.float32) for array in arrays]
    rounded = [array.astype(np.float64) for array in single]
    assert competition_strength(*single) == competition_strength(*rounded)
