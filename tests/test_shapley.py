"""Shapley responses against their definition."""

from itertools import permutations

import pytest
import torch
from torch import Tensor

from agmbench import shapley
from agmbench.contracts import Coalition

NAMES = ("a", "b", "c", "d", "e")


def random_logits(count: int) -> dict[Coalition, Tensor]:
    torch.manual_seed(count)
    return {coalition: torch.randn(6, 3, dtype=torch.float64) for coalition in shapley.coalitions(NAMES[:count])}


def by_permutations(logits: dict[Coalition, Tensor], modalities: tuple[str, ...], modality: str) -> Tensor:
    """What a modality adds to those before it, averaged over all orders. The empty coalition has the value zero."""
    worth = {**logits, frozenset(): torch.zeros_like(logits[frozenset(modalities)])}
    added = []
    for order in permutations(modalities):
        before = frozenset(order[: order.index(modality)])
        added.append(worth[before | {modality}] - worth[before])
    return torch.stack(added).mean(dim=0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_coalitions_are_all_sets_but_the_empty_one_smallest_first(count: int) -> None:
    found = shapley.coalitions(NAMES[:count])
    assert len(found) == len(set(found)) == 2**count - 1
    assert [len(coalition) for coalition in found] == sorted(len(coalition) for coalition in found)
    assert found[-1] == frozenset(NAMES[:count])


def test_more_modalities_than_can_be_computed_are_refused() -> None:
    most = [f"m{number}" for number in range(shapley.MOST)]
    assert len(shapley.coalitions(most)) == 1023
    with pytest.raises(ValueError, match=r"has 60 modalities, .* 1,152,921,504,606,846,975 passes .* at most 10 modalities"):
        shapley.coalitions([f"m{number}" for number in range(60)])


def test_a_coalition_is_named_in_the_order_of_the_modalities() -> None:
    assert shapley.coalition_name(frozenset({"image", "audio"}), ("audio", "image", "text")) == "audio:image"


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_responses_sum_to_the_logits_of_all(count: int) -> None:
    logits = random_logits(count)
    responses = shapley.responses(logits, NAMES[:count])
    torch.testing.assert_close(sum(responses.values()), logits[frozenset(NAMES[:count])])


def test_two_modalities_have_the_closed_form() -> None:
    logits = random_logits(2)
    a, b, both = (logits[frozenset(names)] for names in ("a", "b", "ab"))
    responses = shapley.responses(logits, ("a", "b"))
    torch.testing.assert_close(responses["a"], (both - b + a) / 2)
    torch.testing.assert_close(responses["b"], (both - a + b) / 2)


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_responses_are_the_mean_over_all_orders_of_arrival(count: int) -> None:
    logits = random_logits(count)
    responses = shapley.responses(logits, NAMES[:count])
    for modality in NAMES[:count]:
        torch.testing.assert_close(responses[modality], by_permutations(logits, NAMES[:count], modality))


def test_the_order_of_coalitions_does_not_matter() -> None:
    logits = random_logits(3)
    backwards = dict(reversed(logits.items()))
    for one, two in zip(
        shapley.responses(logits, NAMES[:3]).values(), shapley.responses(backwards, NAMES[:3]).values(), strict=True
    ):
        torch.testing.assert_close(one, two)


def test_a_modality_that_adds_nothing_and_says_nothing_has_no_response() -> None:
    logits = random_logits(3)
    logits |= {coalition: logits[coalition - {"c"}] for coalition in logits if "c" in coalition and len(coalition) > 1}
    logits[frozenset("c")] = torch.zeros_like(logits[frozenset("c")])
    torch.testing.assert_close(shapley.responses(logits, NAMES[:3])["c"], torch.zeros(6, 3, dtype=torch.float64))
