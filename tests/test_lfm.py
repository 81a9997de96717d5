"""LFM against numbers worked out by hand and against recorded values of the official code."""

from dataclasses import replace

import pytest
import torch
from recorded import Mean, Recorded
from toys import NAMES, batch, context, model

from agmbench.contracts import TensorSplit
from agmbench.modulators.lfm import LFM, fitted

P = {"a": torch.tensor([[0.8, 0.2]]).log(), "v": torch.tensor([[0.4, 0.6]]).log()}


@pytest.mark.parametrize(("divergence", "expected"), [("released", 0.09287), ("js", 0.08630)])
def test_alignment(divergence: str, expected: float) -> None:
    method = LFM(NAMES, divergence=divergence)  # type: ignore[arg-type]
    assert float(method.alignment(P)) == pytest.approx(expected, abs=1e-5)
    three = {**P, "t": P["a"]}  # one of the three pairs has equal predictions
    assert float(method.alignment(three)) == pytest.approx(expected * 2 / 3, abs=1e-5)


def test_the_loss_is_twice_a_weighted_mean() -> None:
    net = model({"a": [1.0], "v": [1.0]}, [[1.0, -1.0], [0.0, 0.0]])
    method = LFM(NAMES, schedule="constant", weight=0.25)
    method.prepare(context(net))
    method.begin_epoch(context(net))
    step = method.step(net, [batch(net, [0])])
    own = {"a": torch.tensor([[2.0, 0.0]]), "v": torch.tensor([[-2.0, 0.0]])}  # M z_m
    expected = 2 * (0.75 * torch.tensor(2.0).log() + 0.25 * method.alignment(own))
    torch.testing.assert_close(step.loss, expected)


def test_recorded_logits() -> None:
    case = Recorded("lfm_logits_learnt")
    arrays = case.arrays
    own = {m: arrays[f"logits_{m}"].clone().requires_grad_() for m in case.modalities}
    a0, a1 = case.settings["logit_alpha"]
    alignment = LFM(case.modalities).alignment(own)
    ce = torch.nn.functional.cross_entropy(torch.stack(list(own.values())).mean(dim=0), arrays["logit_label"])
    loss = 2 * (a0 * ce + a1 * alignment)
    loss.backward()
    for found, name in ((ce, "ce"), (alignment, "alignment"), (loss, "loss")):
        assert float(found.detach()) == pytest.approx(float(arrays[f"logit_{name}"]), abs=1e-6)
    for m in case.modalities:
        torch.testing.assert_close(own[m].grad, arrays[f"logit_grad_{m}"], atol=1e-6, rtol=1e-5)


def test_recorded_fitted() -> None:
    arrays = Recorded("lfm_logits_learnt").arrays
    for epoch, (a0, a1) in zip(arrays["fitted_epochs"].tolist(), arrays["fitted"].tolist(), strict=True):
        assert (fitted(epoch, 200), 1 - fitted(epoch, 200)) == pytest.approx((a0, a1), abs=1e-7)


def test_recorded_learnt() -> None:
    case = Recorded("lfm_logits_learnt")
    s = case.settings["learnt"]
    case.settings |= {"epochs": s["epochs"], "steps_per_epoch": s["steps_per_epoch"]}
    dev = TensorSplit({m: case.arrays[f"valid_{m}"][:4] for m in case.modalities}, case.arrays["valid_label"][:4])
    net = case.model(["audio", "visual"], ["ca", "cv"], Mean)
    method = LFM(case.modalities, schedule="learnt", weight=s["start"][1], rate=s["rate"])
    method.prepare(case.context(net, splits={"dev": dev}))
    steps = case.train(net, method, splits={"dev": dev})
    found = torch.stack([step.signals["weight"].double() for step in steps])
    torch.testing.assert_close(found, case.arrays["alpha"][:, 1], atol=1e-5, rtol=0)
    parts = {m: net.encoders[m].net for m in case.modalities}
    case.agrees(parts | dict(zip(["ca", "cv"], net.fusion.heads(), strict=True)))


def test_a_learnt_weight_moves_half_as_far_after_twenty_epochs() -> None:
    moved = []
    for epoch in (0, 19, 20):
        net = model({"a": [1.0], "v": [2.0]}, [[1.0, -1.0], [0.0, 0.0]])
        method = LFM(NAMES, schedule="learnt", weight=0.5, rate=1e-3)
        method.prepare(context(net))
        method.begin_epoch(replace(context(net), epoch=epoch, epochs=40))
        moved.append(float(method.a1) - 0.5)
    assert moved[0] == moved[1] != 0
    assert moved[2] == pytest.approx(moved[0] / 2)
