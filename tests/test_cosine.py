"""The cosine fusion against numbers worked out by hand and against recorded runs of the official code."""

import pytest
import torch
from recorded import Recorded
from torch import nn

from agmbench.fusions.cosine import Cosine
from agmbench.modulators.joint import Joint


def test_logits_are_a_sum_of_scaled_cosines() -> None:
    fusion = Cosine({"a": 2, "v": 2}, 2, scale=10.0)
    with torch.no_grad():
        for head, weight in zip(fusion.heads(), ([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 1.0]]), strict=True):
            head.weight.copy_(torch.tensor(weight))
    features = {"a": torch.tensor([[3.0, 4.0]]), "v": torch.tensor([[0.0, 2.0]])}
    logits, representation = fusion(features)
    # cosines: audio (.6, .8), visual (1, 1 / sqrt 2)
    assert logits[0].tolist() == pytest.approx([16.0, 15.0711], abs=1e-4)
    assert float(nn.functional.cross_entropy(logits.detach(), torch.tensor([0]))) == pytest.approx(0.33288, abs=1e-5)
    assert representation.tolist() == [[3.0, 4.0, 0.0, 2.0]]
    assert fusion.terms({**features, "v": torch.zeros(1, 2)})["v"].tolist() == [[0.0, 0.0]]


def test_a_feature_without_a_direction_has_no_gradient() -> None:
    fusion = Cosine({"a": 2}, 2)
    feature = torch.tensor([[0.0, 0.0], [1e-9, 0.0], [3.0, 4.0]], requires_grad=True)
    fusion({"a": feature}).logits[:, 0].sum().backward()
    assert feature.grad is not None
    assert feature.grad[:2].abs().max() == 0 != feature.grad[2].abs().max()


def test_recorded() -> None:
    case = Recorded("mmcosine_s10")
    name = "fusion_module.fc_out"
    for when in ("init", "final"):  # one slice per modality; the recorded bias is not used
        for m, weight in zip(case.modalities, case.arrays[f"{when}/{name}.weight"].split(4, dim=1), strict=True):
            case.arrays[f"{when}/{m}.weight"] = weight
    net = case.model(["audio_net", "visual_net"], list(case.modalities), Cosine)
    assert isinstance(net.fusion, Cosine)
    assert net.fusion.scale == case.settings["scale"]
    steps = case.train(net, Joint(case.modalities))
    found = torch.stack([step.loss.double() for step in steps])
    torch.testing.assert_close(found, case.arrays["loss"][:, 0], atol=1e-5, rtol=1e-5)
    parts: dict[str, nn.Module] = {f"{m}_net": net.encoders[m].net for m in case.modalities}
    case.agrees(parts | dict(zip(case.modalities, net.fusion.heads(), strict=True)))
