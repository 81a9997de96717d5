"""DGL against a step worked out by hand and against recorded runs of the official code."""

from collections.abc import Mapping

import pytest
import torch
from recorded import Recorded
from torch import nn
from toys import NAMES, batch, context, gradient, model

from agmbench.model import MultimodalModel
from agmbench.modulators.dgl import DGL

HEADS = {"dgl_concat": ["fusion_module.fc_out"], "dgl_sum": ["fusion_module.fc_x", "fusion_module.fc_y"]}


def test_encoders_learn_from_their_own_answers_and_the_fusion_from_all() -> None:
    net = model({"a": [1.0], "v": [1.0]}, [[1.0, -1.0], [0.0, 0.0]])
    method = DGL(NAMES, alpha=2.0)
    method.prepare(context(net))
    method.step(net, [batch(net, [0])])
    # p(f) = (1/2, 1/2); dL/dtheta_a = -alpha (1 - sigmoid(1)) 1, dL/dtheta_v = alpha (1 - sigmoid(-1)) 1
    torch.testing.assert_close(net.fusion.heads()[0].weight.grad, torch.tensor([[-0.5, -0.5], [0.5, 0.5]]))
    assert float(gradient(net, "a")) == pytest.approx(-0.5379, abs=1e-4)
    assert float(gradient(net, "v")) == pytest.approx(1.4621, abs=1e-4)


def test_an_encoder_that_does_not_learn_is_left_alone() -> None:
    net = model({"a": [1.0], "v": [1.0]}, [[1.0, -1.0], [0.0, 0.0]])
    net.encoders.requires_grad_(False)
    DGL(NAMES).step(net, [batch(net, [0])])
    assert gradient(net, "a") is None
    assert net.fusion.heads()[0].weight.grad is not None


def parts(name: str, net: MultimodalModel) -> Mapping[str, nn.Module]:
    return {f"{m}_net": e.net for m, e in net.encoders.items()} | dict(zip(HEADS[name], net.fusion.heads(), strict=True))


@pytest.mark.parametrize("name", HEADS)
def test_recorded(name: str) -> None:
    case = Recorded(name)
    net = case.model(["audio_net", "visual_net"], HEADS[name])
    method = DGL(case.modalities, alpha=case.settings["alpha"])
    method.step(net, [case.batch(0)])
    for part, module in parts(name, net).items():
        for key, tensor in module.named_parameters():
            torch.testing.assert_close(tensor.grad, case.arrays[f"grad0/{part}.{key}"], atol=1e-6, rtol=1e-5)

    net = case.model(["audio_net", "visual_net"], HEADS[name])
    case.train(net, method)
    case.agrees(parts(name, net))
