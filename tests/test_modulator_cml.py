"""CML against losses and gradients worked out by hand. Its plain form is also tested in `plugins/cml`."""

from math import exp, log

import pytest
import torch
from toys import NAMES, batch, model

from agmbench.modulators.cml import CML
from agmbench.tasks import MultiLabel

HEAD = [[1.0, 1.0], [0.0, 0.0]]  # the logits are (a + v, 0)


def p(logit: float) -> float:
    """The confidence of the logits (logit, 0)."""
    return 1 / (1 + exp(-abs(logit)))


def test_the_penalty_is_on_being_surer_with_fewer() -> None:
    net = model({"a": [2.0], "v": [-1.0]}, HEAD)  # the first logit is 1 for both, 2 for `a` alone, -1 for `v` alone
    step = CML(NAMES, strength=3.0).backward(net, batch(net, [0]))
    assert float(step.loss) == pytest.approx(log(1 + exp(-1)) + 3 * (p(2) - p(1)) / 2)
    assert float(step.signals["surer"]) == 0.5


def test_all_views_may_be_learned_from() -> None:
    net = model({"a": [2.0], "v": [-1.0]}, HEAD)
    step = CML(NAMES, strength=0.0, views="all").backward(net, batch(net, [0]))
    assert float(step.loss) == pytest.approx((log(1 + exp(-1)) + log(1 + exp(-2)) + log(1 + exp(1))) / 3)


@pytest.mark.parametrize(
    ("more", "fewer", "rise", "through"),
    [(1.0, 2.0, True, (True, True)), (-1.0, -2.0, True, (False, True)), (-1.0, 2.0, False, (False, False))],
    ids=["both right", "both wrong", "the smaller alone is right"],
)
def test_what_is_excused(more: float, fewer: float, rise: bool, through: tuple[bool, bool]) -> None:
    logits = [torch.tensor([[value, 0.0]], requires_grad=True) for value in (more, fewer)]
    found = CML(NAMES, excuse=True).rise(logits[1], logits[0], torch.tensor([0]))
    assert found.item() == pytest.approx(p(2) - p(1) if rise else 0.0)
    found.sum().backward()
    assert tuple(x.grad is not None and bool(x.grad.any()) for x in logits) == through
    plain = CML(NAMES).rise(logits[1], logits[0], torch.tensor([0]))
    assert plain.item() == pytest.approx(p(2) - p(1))


def test_it_refuses_what_has_no_confidence_to_compare() -> None:
    net = model({"a": [2.0], "v": [-1.0]}, HEAD)
    net.task = MultiLabel()
    assert "needs a probability of each class" in str(CML(NAMES).refuses(net))
