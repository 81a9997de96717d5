"""ReconBoost against steps worked out by hand."""

from dataclasses import replace
from math import exp, log

import pytest
import torch
from toys import NAMES, batch, context, gradient, model

from agmbench.contracts import Batch
from agmbench.encoders.mlp import MLP
from agmbench.fusions.concat import Concat
from agmbench.model import MultimodalModel
from agmbench.modulators.reconboost import ReconBoost


def made(**params: float) -> tuple[MultimodalModel, ReconBoost]:
    """A model in which the feature of `a` is 1 and that of `v` is 2, and ReconBoost whose logits are (feature, 0)."""
    net = model({"a": [1.0], "v": [2.0]}, [[0.0, 0.0], [0.0, 0.0]])
    method = ReconBoost(NAMES, **params)  # type: ignore[arg-type]
    method.prepare(context(net))
    with torch.no_grad():
        for head in method.heads.values():
            head.weight.copy_(torch.tensor([[1.0], [0.0]]))
            head.bias.zero_()
    return net, method


def p(logit: float) -> float:
    """The probability of the first of two classes with the logits (logit, 0)."""
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
    factor = (5 - p(2)) / 2  # divided by the number of classes
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


def test_what_rests_is_in_train_mode_and_runs_once_or_twice_a_step() -> None:
    torch.manual_seed(0)
    encoders = {m: MLP((3,), hidden=4, layers=1) for m in NAMES}
    for encoder in encoders.values():
        encoder.net.append(torch.nn.BatchNorm1d(4))
    net = MultimodalModel(encoders, Concat(dict.fromkeys(NAMES, 4), 2)).train()
    given = Batch({m: torch.randn(6, 3) for m in NAMES}, torch.tensor([0, 1] * 3), torch.arange(6))
    method = ReconBoost(NAMES, stage=1, rectify=0)
    method.prepare(context(net))
    seen = []
    for epoch in range(2):
        method.begin_epoch(context(net, epoch))
        before = [int(net.encoders[m].net[-1].num_batches_tracked) for m in NAMES]
        method.step(net, [given])
        seen.append([int(net.encoders[m].net[-1].num_batches_tracked) - n for m, n in zip(NAMES, before, strict=True)])
    assert seen == [[1, 1], [2, 1]]  # in the second stage `a` runs twice: as the rest, and as the stage before


def test_the_optimizer_forgets_where_a_stage_and_where_its_rectification_begin() -> None:
    net, method = made(stage=2, rectify=1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    forgot = []
    for epoch in range(6):
        optimizer.state["anything"] = {}
        method.begin_epoch(replace(context(net, epoch), optimizer=optimizer))
        forgot.append(not optimizer.state)
    assert forgot == [True, False, True, True, False, True]


def test_the_rate_is_part_of_the_answer_and_learned_if_asked_for() -> None:
    net, method = made(stage=1, rectify=1)
    method.begin_epoch(context(net, 1))
    with torch.no_grad():
        method.rate.fill_(2)
    step = method.step(net, [batch(net, [0])])
    assert float(step.loss) == pytest.approx(-log(p(6)), rel=1e-4)
    assert method.rate.grad is not None
    assert method.rate.grad.item() == pytest.approx(-3 * (1 - p(6)), rel=1e-4)
    _, fixed = made(boost_rate=False)
    assert not fixed.rate.requires_grad


def test_all_may_share_a_head() -> None:
    net = model({"a": [1.0], "v": [2.0]}, [[0.0, 0.0], [0.0, 0.0]])
    method = ReconBoost(NAMES, heads="shared")
    assert method.refuses(net) is None
    method.prepare(context(net))
    method.begin_epoch(context(net))
    method.step(net, [batch(net, [0])])
    assert all(tensor.grad is not None for tensor in method.heads.parameters())
    unequal = model({"a": [1.0], "v": [1.0, 1.0]}, [[0.0] * 3] * 2)
    assert "found a 1, v 2" in str(method.refuses(unequal))
    assert ReconBoost(NAMES).refuses(unequal) is None  # type: ignore[arg-type]
