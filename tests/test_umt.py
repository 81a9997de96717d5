"""UMT against steps worked out by hand, and with sequences."""

import pytest
import torch
from torch import Tensor
from toys import NAMES, batch, context, gradient, model

from agmbench.contracts import Batch, Encoder, Tokens
from agmbench.fusions.concat import Concat
from agmbench.fusions.hybrid import Hybrid
from agmbench.model import MultimodalModel
from agmbench.modulators.umt import UMT


def teacher(modality: str, feature: list[float]) -> MultimodalModel:
    return model({modality: feature}, [[0.0] * len(feature)] * 2).requires_grad_(False).eval()


def test_encoders_are_drawn_to_their_teachers() -> None:
    net = model({"a": [1.0, 0.0], "v": [2.0]}, [[0.0] * 3] * 2)
    method = UMT(NAMES, weight=10)
    method.prepare(context(net, concepts={"a": teacher("a", [0.0, 2.0]), "v": teacher("v", [2.0])}))
    step = method.step(net, [batch(net, [0, 1])])
    # MSE over two features: (1 + 4) / 2, slope 2 (e - t) / 2
    assert float(step.signals["distance/a"]) == 2.5
    assert float(step.signals["distance/v"]) == 0
    assert float(step.loss) == pytest.approx(float(torch.tensor(2.0).log()) + 25)
    torch.testing.assert_close(gradient(net, "a"), 10 * torch.tensor([1.0, -2.0]))
    torch.testing.assert_close(gradient(net, "v"), torch.tensor([0.0]))


def test_teachers_learn_nothing() -> None:
    net = model({"a": [1.0], "v": [2.0]}, [[1.0, 1.0]] * 2)
    method = UMT(NAMES)
    method.prepare(context(net, concepts={m: teacher(m, [0.0]) for m in NAMES}))
    method.step(net, [batch(net, [0, 1])])
    assert all(not tensor.requires_grad and tensor.grad is None for tensor in method.parameters())


class Sequence(Encoder):
    """An encoder that multiplies its tokens by a weight."""

    def __init__(self, weight: float) -> None:
        super().__init__((2, 4))
        self.weight = torch.nn.Parameter(torch.tensor(weight))
        self.out_features = 4

    def forward(self, x: Tokens) -> Tokens:
        return Tokens(x.values * self.weight, x.mask)


def test_of_sequences_only_tokens_that_are_there_count() -> None:
    def made(weight: float) -> MultimodalModel:
        fusion = Hybrid({"a": 4}, 2, width=4, heads=1, layers=1, feed_forward=4, dropout=0.0)
        return MultimodalModel({"a": Sequence(weight)}, fusion)

    values: Tensor = torch.tensor([[[1.0] * 4, [100.0] * 4]])
    given = Batch({"a": Tokens(values, torch.tensor([[True, False]]))}, torch.tensor([0]), torch.tensor([0]))
    alone = MultimodalModel({"a": Sequence(0.0)}, Concat({"a": 4}, 2))
    late = MultimodalModel({"a": Sequence(1.0)}, Concat({"a": 4}, 2))
    for net, taught in ((made(1.0), made(0.0)), (late, alone)):
        method = UMT(("a",))
        method.prepare(context(net, concepts={"a": taught.requires_grad_(False).eval()}))  # type: ignore[arg-type]
        assert float(method.step(net, [given]).signals["distance/a"]) == pytest.approx(1)


def test_a_batch_without_a_token_of_a_modality_adds_nothing() -> None:
    net, taught = (
        MultimodalModel({"a": Sequence(weight)}, Hybrid({"a": 4}, 2, width=4, heads=1, layers=1, feed_forward=4, dropout=0.0))
        for weight in (1.0, 0.0)
    )
    method = UMT(("a",))
    method.prepare(context(net, concepts={"a": taught.requires_grad_(False).eval()}))
    empty = Tokens(torch.ones(2, 3, 4), torch.zeros(2, 3, dtype=torch.bool))
    step = method.step(net, [Batch({"a": empty}, torch.tensor([0, 1]), torch.arange(2))])
    assert float(step.signals["distance/a"]) == 0
    assert torch.isfinite(step.loss)
