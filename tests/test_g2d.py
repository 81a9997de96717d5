"""G2D against numbers worked out by hand and against recorded runs of the official code."""

from dataclasses import replace

import pytest
import torch
from recorded import Mean, Recorded
from toys import NAMES, batch, context, gradient, model

from agmbench.fusions.concat import Concat
from agmbench.model import MultimodalModel
from agmbench.modulators.g2d import G2D
from agmbench.tasks import MultiLabel, Regression, SingleLabel

HEADS = {"g2d_concat": ["fusion_module.fc_out"], "g2d_late": ["fusion_module.fc_x", "fusion_module.fc_y"]}


def test_divergence() -> None:
    method, teacher, own = G2D(NAMES), torch.tensor([[0.75, 0.25]]).log(), torch.zeros(1, 2)
    assert float(method.divergence(SingleLabel(), teacher, own)) == pytest.approx(0.13081, abs=1e-5)
    odds = torch.tensor([[3.0]]).log()
    assert float(method.divergence(MultiLabel(), odds, torch.zeros(1, 1))) == pytest.approx(0.13081, abs=1e-5)
    assert float(method.divergence(Regression(1.0), torch.tensor([[2.0]]), torch.tensor([[0.5]]))) == 2.25
    warm = G2D(NAMES, temperature=2.0)
    assert float(warm.divergence(SingleLabel(), 2 * teacher, own)) == pytest.approx(4 * 0.13081, abs=1e-4)


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, [1.0, 0.0, 0.0]), (2, [1.0, 0.0, 0.0]), (3, [1.0, 0.0, 1.0]), (6, [1.0, 1.0, 1.0])]
)
def test_those_whose_teachers_are_sure_wait_by_stages(epoch: int, expected: list[float]) -> None:
    net = model({"a": [1.0], "v": [1.0]}, [[1.0, -1.0], [0.0, 0.0]])
    method = G2D(("a", "v", "t"), share=0.6)
    method.begin_epoch(replace(context(net), epoch=epoch))
    assert method.coefficients(torch.tensor([0.1, 3.0, 0.5])).tolist() == expected


def test_the_one_with_the_surest_teacher_has_a_gradient_of_zero() -> None:
    def alone(modality: str, weight: float) -> MultimodalModel:
        return model({modality: [weight]}, [[1.0], [0.0]]).requires_grad_(False).eval()

    net = model({"a": [1.0], "v": [1.0]}, [[1.0, -1.0], [0.0, 0.0]])
    concepts = {"a": alone("a", 3.0), "v": alone("v", 0.0)}
    method = G2D(NAMES, features=0.0, logits=0.0)
    method.prepare(context(net, concepts=concepts))
    method.begin_epoch(context(net, concepts=concepts))
    net.encoders["a"].weight = torch.nn.Parameter(torch.ones(1, 1))  # of two dimensions, so that k reaches it
    net.encoders["v"].weight = torch.nn.Parameter(torch.ones(1, 1))
    step = method.step(net, [batch(net, [0])])
    assert [float(step.signals[f"kappa/{m}"]) for m in NAMES] == [0.0, 1.0]
    assert float(gradient(net, "a")) == 0.0 != float(gradient(net, "v"))


@pytest.mark.parametrize("name", HEADS)
def test_recorded(name: str) -> None:
    case = Recorded(name)
    s = case.settings
    net = case.model(["audio_net", "visual_net"], HEADS[name], Mean if len(HEADS[name]) > 1 else None)
    teachers = {}
    for m in case.modalities:
        encoder, head = case.encoder("net", when=f"teacher_{m}"), case.linear("classifier", when=f"teacher_{m}")
        fusion = Concat({m: encoder.out_features}, head.out_features)
        fusion.head = head
        teachers[m] = MultimodalModel({m: encoder}, fusion).requires_grad_(False).eval()
    share = (s["last_epoch_modulated"] + 1) / s["epochs"]
    method = G2D(case.modalities, temperature=s["temperature"], share=share, only_conv=True)
    method.prepare(case.context(net, concepts=teachers))

    steps = case.train(net, method)

    columns = [f"{kind}/{m}" for m in case.modalities for kind in ("divergence", "distance")]
    for number, step in enumerate(steps):
        recorded = case.arrays["loss"][number]
        assert [float(step.signals[column]) for column in columns] == pytest.approx(recorded[1:].tolist(), abs=1e-5)
        assert float(step.loss) == pytest.approx(float(recorded.sum()), abs=1e-5)
        found = [float(step.signals[f"kappa/{m}"]) for m in case.modalities]
        inside = number // s["steps_per_epoch"] <= s["last_epoch_modulated"]
        assert found == (case.arrays["kappa"][number].tolist() if inside else [1.0, 1.0])
    parts = {f"{m}_net": net.encoders[m].net for m in case.modalities}
    case.agrees(parts | dict(zip(HEADS[name], net.fusion.heads(), strict=True)))
