"""InfoReg against numbers worked out by hand and against recorded runs of the official code."""

from dataclasses import replace

import pytest
import torch
from recorded import Recorded
from toys import NAMES, batch, context, gradient, model

from agmbench.modulators.inforeg import InfoReg
from agmbench.tasks import Regression

FAST = torch.ones(2)


def test_who_is_ahead_is_drawn_back() -> None:
    pull = InfoReg(NAMES).pull(torch.tensor([5.0, 3.0]), FAST)
    assert (0.1 * pull).tolist() == pytest.approx([0.2491, 0.0], abs=1e-4)
    pull = InfoReg(NAMES, beta={"a": 0.1}).pull(torch.tensor([5.0, 3.0]), FAST)
    assert (0.95 * pull).tolist() == pytest.approx([0.2491, 0.0], abs=1e-4)
    assert InfoReg(NAMES).pull(torch.tensor([5.0, 3.0]), 0.05 * FAST).tolist() == [0.0, 0.0]


def test_growth_is_one_over_the_epochs_at_first_and_none_in_a_steady_state() -> None:
    net = model({"a": [1.0], "v": [1.0]}, [[1.0, -1.0], [0.0, 0.0]])
    method = InfoReg(NAMES)
    found = []
    for epoch in range(13):
        around = replace(context(net), epoch=epoch)
        method.begin_epoch(around)
        found.append(method.growth().tolist())
        method.sums.fill_(0.3)
        method.end_epoch(around)
    for epoch, (a, v) in enumerate(found):
        assert a == v == pytest.approx(1.0 if epoch == 0 else 1 / epoch if epoch <= 10 else 0.0)


def test_the_pull_is_along_the_way_since_the_epoch_began() -> None:
    found = []
    for beta in (0.0, 0.95):
        net = model({"a": [1.0], "v": [1.0]}, [[2.0, -1.0], [0.0, 0.0]])
        method = InfoReg(NAMES, beta=beta)
        method.prepare(context(net))
        method.begin_epoch(context(net))
        with torch.no_grad():
            for m in NAMES:
                net.encoders[m].weight.add_(0.1)
        step = method.step(net, [batch(net, [0])])
        found.append([gradient(net, m) for m in NAMES])
    assert float(step.signals["pull/a"]) > 0 == float(step.signals["pull/v"])
    torch.testing.assert_close(found[1][0], found[0][0] + 0.1 * step.signals["pull/a"])
    torch.testing.assert_close(found[1][1], found[0][1])


def test_refusals() -> None:
    net = model({"a": [1.0], "v": [1.0]}, [[2.0, -1.0], [0.0, 0.0]])
    assert "no modality of this data set" in (InfoReg(NAMES, beta={"text": 1.0}).refuses(net) or "")
    net.task = Regression(1.0)
    assert "Regression" in (InfoReg(NAMES).refuses(net) or "")


@pytest.mark.parametrize("name", ["inforeg_audio_ahead", "inforeg_visual_ahead"])
def test_recorded(name: str) -> None:
    case = Recorded(name)
    s = case.settings
    net = case.model(["audio_net", "visual_net"], ["head"])
    method = InfoReg(case.modalities, beta=s["beta"], threshold=s["threshold"], window=s["window"])
    method.prepare(case.context(net))
    parts = {f"{m}_net": net.encoders[m].net for m in case.modalities} | {"head": net.fusion.heads()[0]}
    ended = method.end_epoch
    epochs: list[int] = []

    def end(around: object) -> None:
        case.agrees(parts, when=f"epoch{len(epochs)}")
        epochs.append(len(epochs))
        ended(around)  # type: ignore[arg-type]

    method.end_epoch = end  # type: ignore[method-assign]
    steps = case.train(net, method)
    assert len(epochs) == s["epochs"]
    ahead = name.split("_")[1]
    assert any(step.signals[f"pull/{ahead}"] > 0 for step in steps)
    for number, m in enumerate(case.modalities):
        torch.testing.assert_close(method.history[-4:, number], case.arrays[f"trace_{m}"], atol=1e-6, rtol=1e-5)
