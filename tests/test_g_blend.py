"""G-Blend: its weights are compared with values by hand, and its rounds leave the model as it was."""

import copy
from dataclasses import replace

import pytest
import torch
from toys import NAMES, batch, context, model

from agmbench.contracts import Context
from agmbench.model import MultimodalModel
from agmbench.modulators.g_blend import GBlend, Losses, blended


def test_weights_follow_gain_and_overfitting() -> None:
    joint, a, v = ((1.0, 1.1), (0.4, 0.8)), ((1.0, 1.1), (0.6, 0.9)), ((1.2, 1.2), (1.0, 1.1))
    rounds = [(Losses(*before), Losses(*after)) for before, after in (joint, a, v)]
    assert blended(rounds) == pytest.approx([0.1818, 0.2727, 0.5455], abs=1e-4)


def test_what_generalizes_worse_counts_for_nothing() -> None:
    better, worse = (Losses(1.0, 1.0), Losses(0.8, 0.9)), (Losses(1.0, 1.0), Losses(0.5, 1.5))
    assert blended([better, worse]) == [1.0, 0.0]
    assert blended([worse, worse]) == [0.5, 0.5]


def around(net: MultimodalModel, epoch: int = 0) -> Context:
    return replace(context(net), epoch=epoch, fresh=lambda tensors: torch.optim.SGD(tensors, lr=0.5))


def test_a_round_trains_copies_on_one_loss_each() -> None:
    torch.manual_seed(0)
    net = model({"a": [1.0], "v": [2.0]}, [[1.0, -1.0], [0.0, 0.0]])
    method = GBlend(NAMES, super_epoch=3)
    method.prepare(around(net))
    before, heads = copy.deepcopy(net.state_dict()), copy.deepcopy(method.heads.state_dict())
    # by hand: three steps of the modality's encoder and head on its own loss; train and dev have the same two samples, one batch
    encoder, head = copy.deepcopy(net.encoders["a"]), copy.deepcopy(method.heads["a"])
    optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=0.5)
    shown = batch(net, [0, 1])
    losses = []
    for number in range(4):
        loss = net.loss(head(encoder(shown.inputs["a"])), shown.targets)
        losses.append(loss.item())
        if number < 3:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    first, last = method.tried(around(net), "a")
    assert first == pytest.approx((losses[0], losses[0]))
    assert last == pytest.approx((losses[3], losses[3]))
    method.begin_epoch(around(net))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(value, heads[name]) for name, value in method.heads.state_dict().items())
    assert all(tensor.grad is None for tensor in net.parameters())
    assert float(method.weight.sum()) == pytest.approx(1)


def test_rounds_come_every_so_many_epochs_or_once() -> None:
    net = model({"a": [1.0], "v": [2.0]}, [[1.0, -1.0], [0.0, 0.0]])
    begun: list[tuple[int, str]] = []

    class Noting(GBlend):
        def tried(self, context: Context, name: str) -> tuple[Losses, Losses]:
            begun.append((context.epoch, name))
            return Losses(1, 1), Losses(0.5, 0.5)

    for offline, expected in ((False, [0, 2, 4]), (True, [0])):
        begun.clear()
        method = Noting(NAMES, super_epoch=2, offline=offline)
        method.prepare(around(net))
        for epoch in range(5):
            method.begin_epoch(around(net, epoch))
        assert begun == [(epoch, name) for epoch in expected for name in ("", *NAMES)]


def test_the_loss_is_the_weighted_sum() -> None:
    net = model({"a": [1.0], "v": [2.0]}, [[1.0, -1.0], [0.0, 0.0]])
    method = GBlend(NAMES)
    method.prepare(around(net))
    method.weight.copy_(torch.tensor([0.5, 0.3, 0.2]))
    step = method.step(net, [batch(net, [0, 1])])
    logits = net(batch(net, [0, 1]).inputs).logits
    parts = [net.loss(logits, torch.tensor([0, 1])).item(), *(float(step.signals[f"loss/{m}"]) for m in NAMES)]
    assert float(step.loss) == pytest.approx(0.5 * parts[0] + 0.3 * parts[1] + 0.2 * parts[2])
