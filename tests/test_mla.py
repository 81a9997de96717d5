"""MLA against steps worked out by hand."""

import torch
from toys import NAMES, Scale, batch, context, gradient, model

from agmbench.contracts import Batch, Step
from agmbench.fusions.early import Early
from agmbench.model import MultimodalModel
from agmbench.modulators.mla import MLA

HEAD = [[0.0] * 4, [0.0] * 4]


def made(steps: int = 1) -> tuple[MultimodalModel, MLA]:
    """A model in which the feature of `a` is (1, 0) and that of `v` is (1, 1), and MLA with a shared head of zeros."""
    net = model({"a": [1.0, 0.0], "v": [1.0, 1.0]}, HEAD)
    method = MLA(NAMES)
    method.prepare(context(net, steps=steps))
    method.begin_epoch(context(net, steps=steps))
    with torch.no_grad():
        method.head.weight.zero_()
        method.head.bias.zero_()
    return net, method


def walk(net: MultimodalModel, method: MLA, given: list[Batch]) -> list[dict[str, torch.Tensor | None]]:
    """The gradients at each step. They are cleared after each step, as in the loop, but no weight changes."""
    seen = []
    for _ in method.steps(net, given):
        seen.append({"head": method.head.weight.grad, **{m: gradient(net, m) for m in NAMES}})
        net.zero_grad(set_to_none=True)
        method.zero_grad(set_to_none=True)
    return seen


def test_each_modality_takes_a_step_and_the_head_keeps_what_the_one_before_taught() -> None:
    net, method = made()
    first, second = walk(net, method, [batch(net, [0])])
    assert first["v"] is None
    assert second["a"] is None
    torch.testing.assert_close(first["head"], torch.tensor([[-0.5, 0.0], [0.5, 0.0]]))  # P is the identity
    kept = 1 - 1 / (0.1 + 1)  # P = I - k k^T / (a + r k) with r = (1, 0)
    torch.testing.assert_close(second["head"], torch.tensor([[-0.5 * kept, -0.5], [0.5 * kept, 0.5]]))


def test_a_falls_with_the_steps_of_an_epoch() -> None:
    net, method = made(steps=2)
    walk(net, method, [batch(net, [0])])
    before = method.projection.clone()
    next(iter(method.steps(net, [batch(net, [0])])))
    k = before[:, :1]  # r = (1, 0)
    torch.testing.assert_close(method.projection, before - k @ k.T / (0.1**1.5 + k[0, 0]))


def test_the_answer_trusts_the_modality_that_is_sure() -> None:
    net, method = made()
    with torch.no_grad():
        method.head.weight.copy_(torch.tensor([[0.0, 2.0], [0.0, 0.0]]))  # z_a = (0, 0), z_v = (2, 0)
    given = batch(net, [0])
    both, alone = frozenset(NAMES), frozenset("v")
    said = method.coalitions(net, given.inputs, [alone, both])
    torch.testing.assert_close(said[alone].logits, torch.tensor([[2.0, 0.0]]))
    p = torch.tensor([2.0, 0.0]).softmax(0)
    entropy = torch.stack([torch.tensor(2.0).log(), -(p * p.log()).sum()])
    trust = torch.exp(entropy.max() - entropy)
    trust = trust / trust.sum()
    torch.testing.assert_close(said[both].logits, torch.stack([2 * trust[1], torch.tensor(0.0)]).unsqueeze(0))
    assert said[alone].representation.tolist() == [[0, 0, 1, 1]]
    assert said[both].representation.tolist() == [[1, 0, 1, 1]]


def test_what_it_cannot_train_is_refused() -> None:
    unlike = model({"a": [1.0], "v": [1.0, 1.0]}, [[0.0] * 3] * 2)
    assert "found a 1, v 2" in str(MLA(NAMES).refuses(unlike))
    encoders = dict(made()[0].encoders.items())
    early = MultimodalModel(encoders, Early({"a": 2, "v": 2}, 2, hidden=4, out=4))  # type: ignore[arg-type]
    assert "take --fusion concat or sum" in str(MLA(NAMES).refuses(early))


def test_an_encoder_that_looks_at_others_is_refused() -> None:
    class Looks(Scale):
        guided = True

    net, method = made()
    net.encoders["v"] = Looks([1.0, 1.0])
    assert "asks each modality by itself, and the encoder of v looks at others too" in str(method.refuses(net))


def test_a_long_run_over_large_features_stays_stable() -> None:
    torch.manual_seed(0)
    net = model({"a": [0.0] * 64, "v": [0.0] * 64}, [[0.0] * 128] * 2)
    method = MLA(NAMES)
    method.prepare(context(net))
    method.begin_epoch(context(net))
    method.head.weight.grad = torch.ones(2, 64)
    middle = 50 * torch.rand(1, 64)
    for _ in range(1500):
        feature = middle * (1 + 0.05 * torch.randn(1, 64)).double()
        method.adjust(net, [Step(torch.zeros(()), torch.zeros(1, 2), kept={"feature": feature})])
        least = torch.linalg.eigvalsh(method.projection).min()
        assert least > 0  # P stays positive definite
        assert method.projection.diagonal().max() <= 1


def test_micro_batches_make_one_step_a_modality() -> None:
    (net, method), (other, whole) = made(), made()
    parts = walk(net, method, [batch(net, [0, 1]), batch(net, [1])])
    once = walk(other, whole, [batch(other, [0, 1, 1])])
    assert len(parts) == len(NAMES)
    for found, expected in zip(parts, once, strict=True):
        torch.testing.assert_close(found["head"], expected["head"])
    torch.testing.assert_close(method.projection, whole.projection)
    assert not torch.equal(method.projection, torch.eye(2))
