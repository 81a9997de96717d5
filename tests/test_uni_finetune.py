"""Unimodal training, then joint training: with which encoders it begins, and how fast they learn."""

import torch
from toys import NAMES, batch, context, gradient, model

from agmbench.model import MultimodalModel
from agmbench.modulators.joint import Joint
from agmbench.modulators.uni_finetune import UniFinetune


def test_encoders_begin_as_those_of_the_concepts_and_train_as_joint_does() -> None:
    def alone(modality: str, weight: float) -> MultimodalModel:
        return model({modality: [weight]}, [[1.0], [0.0]]).requires_grad_(False).eval()

    net = model({"a": [1.0], "v": [2.0]}, [[1.0, -1.0], [0.0, 0.5]])
    head = net.fusion.heads()[0].weight.clone()
    around = context(net, concepts={"a": alone("a", 3.0), "v": alone("v", -4.0)})
    method = UniFinetune(NAMES, rate=0.1)
    method.prepare(around)
    assert [net.encoders[m].weight.item() for m in NAMES] == [3.0, -4.0]  # type: ignore[operator]
    assert torch.equal(net.fusion.heads()[0].weight, head)
    assert all(tensor.requires_grad for tensor in net.parameters())
    assert method.rates(around) == {"a": 0.1, "v": 0.1}
    assert list(method.parameters()) == []

    other = model({"a": [3.0], "v": [-4.0]}, [[1.0, -1.0], [0.0, 0.5]])
    found, expected = method.step(net, [batch(net, [0, 1])]), Joint(NAMES).step(other, [batch(other, [0, 1])])
    assert torch.equal(found.loss, expected.loss)
    assert all(torch.equal(gradient(net, m), gradient(other, m)) for m in NAMES)  # type: ignore[arg-type]
