"""ReconBoost against steps worked out by hand."""

from math import exp, log

import pytest
import torch
from toys import NAMES, batch, context, gradient, model

from agmbench.model import MultimodalModel
from agmbench.modulators.reconboost import ReconBoost


def made(**params: float) -> tuple[MultimodalModel, ReconBoost]:
    """The feature of `a` is 1, that of `v` 2; logits are (feature, 0)."""
    net = model({"a": [1.0], "v": [2.0]}, [[0.0, 0.0], [0.0, 0.0]])
    method = ReconBoost(NAMES, **params)  # type: ignore[arg-type]
    method.prepare(context(net))
    with torch.no_grad():
        for head in method.heads.values():
            head.weight.copy_(torch.tensor([[1.0], [0.0]]))
            head.bias.zero_()
    return net, method


def p(logit: float) -> float:
    """The probability of the first of two classes."""
    return 1 / (1 + exp(-logit))


def test_modalities_take_turns_and_rectify_between() -> None:
    net, method = made(stage=2, rectify=1)
    seen = []
    for epoch in range(8):
        method.begin_epoch(context(net, epoch))
        net.zero_grad(set_to_none=True)
        method.step(net, [batch(net, [0])])
        seen.append("".join(m for m in NAMES if gradient(net, m) is not None))
    assert seen == ["a", "a", "av", "v", "v", "av", "a", "a"]


def test_the_first_stage_learns_what_the_rest_leaves() -> None:
    net, method = made(w1=5, w2=1, alpha=0.5)
    method.begin_epoch(context(net, 0))
    step = method.step(net, [batch(net, [0])])
    factor = 5 - p(2)
    assert float(step.loss) == pytest.approx(-factor * log(p(1)))
    assert gradient(net, "a").item() == pytest.approx(-factor * (1 - p(1)))  # type: ignore[union-attr]
    assert method.heads["v"].weight.grad is None
    torch.testing.assert_close(step.logits, torch.tensor([[3.0, 0.0]]))


def test_later_stages_remember_the_one_before_and_that_has_a_gradient() -> None:
    net, method = made(stage=1, rectify=0, w1=0, w2=0, alpha=0.5)
    method.begin_epoch(context(net, 1))
    step = method.step(net, [batch(net, [0])])
    apart = p(2) - p(1)
    assert float(step.loss) == pytest.approx(0.5 * apart**2)
    assert gradient(net, "v").item() == pytest.approx(0.5 * 2 * apart * p(2) * (1 - p(2)))  # type: ignore[union-attr]
    assert gradient(net, "a") is None


def test_rectification_is_the_joint_loss_of_the_sum() -> None:
    net, method = made(stage=1, rectify=1)
    method.begin_epoch(context(net, 1))
    assert float(method.step(net, [batch(net, [0])]).loss) == pytest.approx(-log(p(3)))


def test_the_answer_is_the_sum_over_who_is_present() -> None:
    net, method = made()
    given = batch(net, [0])
    both, alone = frozenset(NAMES), frozenset("v")
    said = method.coalitions(net, given.inputs, [alone, both])
    assert said[alone].logits.tolist() == [[2, 0]]
    assert said[both].logits.tolist() == [[3, 0]]
    assert said[alone].representation.tolist() == [[0, 2]]
