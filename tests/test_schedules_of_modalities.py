"""MSLR, MSES and freeze-dominant: methods that act between epochs."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from agmbench.contracts import Context
from agmbench.encoders.mlp import MLP
from agmbench.fusions.concat import Concat
from agmbench.model import MultimodalModel
from agmbench.modulators.freeze_dominant import FreezeDominant
from agmbench.modulators.mses import MSES
from agmbench.modulators.mslr import MSLR

NAMES = ("a", "b")


def model() -> MultimodalModel:
    torch.manual_seed(0)
    return MultimodalModel({m: MLP((3,), hidden=4, layers=1) for m in NAMES}, Concat(dict.fromkeys(NAMES, 4), 2)).train()


def context(net: MultimodalModel, epoch: int = 0) -> Context:
    return Context(epoch, 20, 1, {}, torch.Generator(), net)


def test_mslr_is_the_factor_alone_in_the_first_five_epochs_then_follows_the_accuracy() -> None:
    net, mslr = model(), MSLR(NAMES, factors={"a": 1.3, "b": 0.7})
    accuracies = [0.1, 0.2, 0.3, 0.4, 0.5, 0.4, 0.9]
    for epoch, accuracy in enumerate(accuracies):
        rates = mslr.rates(context(net, epoch))
        if epoch < 5:
            assert rates == {"a": 1.3, "b": 0.7}
        else:
            last = accuracies[epoch - 5 : epoch]
            assert rates["a"] == pytest.approx(1.3 * last[-1] / (sum(last) / 5))
            assert rates["b"] == pytest.approx(0.7)
        mslr.end_epoch(replace(context(net, epoch), valid_accuracy={"a": accuracy, "b": 0.5}))
    other = MSLR(NAMES, factors={"a": 1.3, "b": 0.7})
    other.load_state_dict(mslr.state_dict())
    assert other.rates(context(net)) == mslr.rates(context(net))


def test_mslr_refuses_a_factor_for_a_modality_that_is_not_there() -> None:
    reason = MSLR(NAMES, factors={"c": 2.0}).refuses(model())  # type: ignore[arg-type]
    assert reason is not None
    assert "factors for c" in reason


def test_mses_smooths_waits_restores_and_freezes() -> None:
    net, mses = model(), MSES(NAMES, patience=2)
    mses.prepare(context(net))
    losses = [1.0, 0.5, 2.0, 2.0, 0.1]
    expected, smoothed = [], math.nan
    for loss in losses:
        smoothed = loss if math.isnan(smoothed) else 0.6 * smoothed + 0.4 * loss
        expected.append(smoothed)
    weights = []
    for epoch, loss in enumerate(losses[:4]):
        mses.begin_epoch(context(net, epoch))
        with torch.no_grad():
            for tensor in net.encoders["a"].parameters():
                tensor.add_(1)
        weights.append(copy.deepcopy(net.encoders["a"].state_dict()))
        mses.end_epoch(replace(context(net, epoch), valid_loss={"a": loss, "b": 1 - epoch / 10}))
        if not mses.frozen[0]:
            assert mses.smoothed[0] == pytest.approx(expected[epoch])
    assert mses.frozen.tolist() == [1, 0]
    best = expected.index(min(expected[:4]))
    mses.begin_epoch(context(net, 4))
    assert all(torch.equal(value, weights[best][name]) for name, value in net.encoders["a"].state_dict().items())
    assert not any(tensor.requires_grad for tensor in net.encoders["a"].parameters())
    assert not net.encoders["a"].training
    assert all(tensor.requires_grad for tensor in net.encoders["b"].parameters())


def test_mses_state_survives() -> None:
    net, mses, other = model(), MSES(NAMES), MSES(NAMES)
    for each in (mses, other):
        each.prepare(context(net))
    mses.end_epoch(replace(context(net), valid_loss={"a": 1.0, "b": 2.0}))
    other.load_state_dict(mses.state_dict())
    assert torch.equal(other.least, mses.least)


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
