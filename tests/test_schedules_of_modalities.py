"""MSLR, MSES and freeze-dominant: methods that act between epochs."""

import copy
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch

from agmbench.contracts import Batch, Context, Fusion
from agmbench.encoders.mlp import MLP
from agmbench.fusions.concat import Concat
from agmbench.fusions.early import Early
from agmbench.fusions.sum import Sum
from agmbench.model import MultimodalModel
from agmbench.modulators.freeze_dominant import FreezeDominant
from agmbench.modulators.mses import MSES
from agmbench.modulators.mslr import MSLR

NAMES = ("a", "b")


def model(fusion: type[Fusion] = Concat) -> MultimodalModel:
    torch.manual_seed(0)
    return MultimodalModel({m: MLP((3,), hidden=4, layers=1) for m in NAMES}, fusion(dict.fromkeys(NAMES, 4), 2)).train()


def context(net: MultimodalModel, epoch: int = 0) -> Context:
    return Context(epoch, 20, 1, {}, torch.Generator(), net)


def test_mslr_is_the_factor_alone_in_the_first_six_epochs_then_follows_the_accuracy() -> None:
    net, mslr = model(), MSLR(NAMES, factors={"a": 1.3, "b": 0.7})
    accuracies = [0.1, 0.2, 0.3, 0.4, 0.5, 0.4, 0.9, 0.8]
    for epoch, accuracy in enumerate(accuracies):
        mslr.begin_epoch(context(net, epoch))
        pace = 1.0 if epoch < 6 else accuracies[epoch - 1] / (sum(accuracies[epoch - 6 : epoch - 1]) / 5)
        assert mslr.rate.tolist() == pytest.approx([1.3 * pace, 0.7])
        mslr.end_epoch(replace(context(net, epoch), valid_accuracy={"a": accuracy, "b": 0.5}))
    other = MSLR(NAMES, factors={"a": 1.3, "b": 0.7})
    other.load_state_dict(mslr.state_dict())
    for each in (mslr, other):
        each.begin_epoch(context(net, 8))
    assert torch.equal(other.rate, mslr.rate)


@pytest.mark.parametrize("fusion", [Concat, Sum, Early])
def test_mslr_scales_what_is_a_modalitys_own(fusion: type[Fusion]) -> None:
    net, mslr = model(fusion), MSLR(NAMES, factors={"a": 3.0})
    mslr.begin_epoch(context(net))
    for tensor in net.parameters():
        tensor.grad = torch.ones_like(tensor)
    mslr.adjust(net, [])
    assert all((t.grad == 3).all() for t in net.encoders["a"].parameters())
    assert all((t.grad == 1).all() for t in net.encoders["b"].parameters())
    threes = sum(int((t.grad == 3).sum()) for t in net.fusion.parameters())
    assert threes == {Concat: 8, Sum: 10, Early: 0}[fusion]  # two classes; the bias under `concat` belongs to no modality
    mslr.zero_grad()
    net.zero_grad(set_to_none=True)
    mslr.adjust(net, [])  # without gradients there is nothing to scale


def test_mslr_refuses_a_factor_for_a_modality_that_is_not_there() -> None:
    reason = MSLR(NAMES, factors={"c": 2.0}).refuses(model())  # type: ignore[arg-type]
    assert reason is not None
    assert "factors for c" in reason


LOSSES = [1.0, 0.8, 0.7, 0.9, 0.9, 0.9]  # the averages are 1, .92, .76, .78, .9, .9, so epoch 2 is the best


def trained(
    scope: Literal["model", "encoder"], epochs: int = 6
) -> tuple[MultimodalModel, MSES, torch.optim.Optimizer, list[Any]]:
    """Train while `a` has the losses `LOSSES` and `b` improves all the time. Also returns the weights after each epoch."""
    net, mses = model(), MSES(NAMES, patience=2, scope=scope)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    weights = []
    for epoch, loss in enumerate(LOSSES[:epochs]):
        around = replace(context(net, epoch), optimizer=optimizer)
        mses.begin_epoch(around)
        for tensor in net.parameters():
            tensor.grad = torch.ones_like(tensor)
        optimizer.step()
        weights.append(copy.deepcopy((net.state_dict(), optimizer.state_dict()["state"])))
        mses.end_epoch(replace(around, valid_loss={"a": loss, "b": 1 - epoch / 10}))
    return net, mses, optimizer, weights


@pytest.mark.parametrize("scope", ["model", "encoder"])
def test_mses_averages_two_waits_restores_and_freezes(scope: Literal["model", "encoder"]) -> None:
    assert trained(scope, 5)[1].frozen.tolist() == [0, 0]  # after epoch 4, which is only two after the best
    net, mses, optimizer, weights = trained(scope)
    assert mses.frozen.tolist() == [1, 0]
    assert mses.best.tolist() == [2, 5]
    around = replace(context(net, 6), optimizer=optimizer)
    mses.begin_epoch(around)
    for name, value in net.state_dict().items():
        epoch = 2 if scope == "model" or name.startswith("encoders.a.") else 5
        assert torch.equal(value, weights[epoch][0][name])
    momentum = [state["momentum_buffer"] for state in optimizer.state_dict()["state"].values()]
    expected = weights[2 if scope == "model" else 5][1].values()
    assert all(torch.equal(one, two["momentum_buffer"]) for one, two in zip(momentum, expected, strict=True))
    assert not any(tensor.requires_grad for tensor in net.encoders["a"].parameters())
    assert not net.encoders["a"].training
    assert all(tensor.requires_grad for tensor in net.encoders["b"].parameters())

    with torch.no_grad():
        for tensor in net.encoders["b"].parameters():
            tensor.add_(1)
    learned = copy.deepcopy(net.encoders["b"].state_dict())
    mses.begin_epoch(replace(around, epoch=7))  # does not restore a second time
    assert all(torch.equal(value, learned[name]) for name, value in net.encoders["b"].state_dict().items())


def test_mses_leaves_the_head_of_what_has_stopped_without_gradient() -> None:
    net, mses, optimizer, _ = trained("model")
    mses.begin_epoch(replace(context(net, 6), optimizer=optimizer))
    net.zero_grad(set_to_none=True)
    (step,) = mses.steps(net, [Batch({m: torch.ones(2, 3) for m in NAMES}, torch.tensor([0, 1]), torch.arange(2))])
    assert torch.isfinite(step.loss)
    assert net.fusion.head.weight.grad is not None
    assert not net.fusion.head.weight.grad[:, :4].any()
    assert all(tensor.grad is None for tensor in net.encoders["a"].parameters())
    mses.frozen.fill_(1)
    mses.begin_epoch(replace(context(net, 7), optimizer=optimizer))
    assert list(mses.steps(net, [])) == []  # nothing is left to learn


def test_mses_state_survives() -> None:
    net, mses, optimizer, _ = trained("model")
    other, again = MSES(NAMES, patience=2), copy.deepcopy(net)
    other.load_state_dict(copy.deepcopy(mses.state_dict()))
    mses.begin_epoch(replace(context(net, 6), optimizer=optimizer))
    other.begin_epoch(context(again, 6))
    assert all(torch.equal(one, two) for one, two in zip(net.state_dict().values(), again.state_dict().values(), strict=True))


def test_freeze_dominant_rests_the_strongest_after_one_epoch() -> None:
    net, freeze = model(), FreezeDominant(NAMES, epochs=2)
    freeze.prepare(context(net))
    resting = []
    for epoch in range(5):
        accuracy = {"a": 0.3, "b": 0.6 if epoch == 1 else 0.1} if epoch else {}
        net.train()
        freeze.begin_epoch(replace(context(net, epoch), valid_accuracy=accuracy))
        resting.append([m for m in NAMES if not any(t.requires_grad for t in net.encoders[m].parameters())])
        assert [m for m in NAMES if not net.encoders[m].training] == resting[-1]
    assert resting == [[], ["b"], ["b"], [], []]


def test_freeze_dominant_by_name_from_the_first_epoch() -> None:
    net, freeze = model(), FreezeDominant(NAMES, epochs=1, dominant="a")
    freeze.prepare(context(net))
    freeze.begin_epoch(context(net))
    assert not any(t.requires_grad for t in net.encoders["a"].parameters())
    freeze.begin_epoch(context(net, 1))
    assert all(t.requires_grad for t in net.encoders["a"].parameters())
    assert FreezeDominant(NAMES, dominant="z").refuses(net) is not None  # type: ignore[arg-type]


def test_a_tensor_that_its_encoder_keeps_frozen_is_not_woken() -> None:
    net, freeze = model(), FreezeDominant(NAMES, epochs=1, dominant="a")
    first, *others = net.encoders["a"].parameters()
    first.requires_grad_(False)
    freeze.prepare(context(net))
    for epoch, learns in enumerate([False, True]):
        freeze.begin_epoch(context(net, epoch))
        assert not first.requires_grad
        assert all(tensor.requires_grad == learns for tensor in others)
