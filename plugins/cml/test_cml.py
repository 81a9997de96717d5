"""CML keeps its promises, and its loss is what the equation gives by hand."""

from math import exp, log
from pathlib import Path

import pytest
import torch
from torch import Tensor

from agmbench import registry
from agmbench.contracts import Batch, Encoder
from agmbench.model import MultimodalModel
from agmbench.tasks import MultiLabel, SingleLabel, Task
from agmbench.testing import check, report

ENTRY = registry.load(Path(__file__).parents[1]).get("modulator", "cml-example")


class Same(Encoder):
    """An encoder that returns its input unchanged."""

    def __init__(self) -> None:
        super().__init__((2,))
        self.out_features = 2

    def forward(self, x: Tensor) -> Tensor:
        return x


def adds(*modalities: str) -> MultimodalModel:
    """A model whose logits are the sum of its inputs."""
    fusion = registry.builtin().get("fusion", "concat").load()(dict.fromkeys(modalities, 2), 2)
    with torch.no_grad():
        fusion.head.weight.copy_(torch.eye(2).repeat(1, len(modalities)))
        fusion.head.bias.zero_()
    return MultimodalModel({m: Same() for m in modalities}, fusion).train()


def batch(**logits: float) -> Batch:
    """One sample of class 0; each modality adds its value to the first logit."""
    return Batch({m: torch.tensor([[value, 0.0]]) for m, value in logits.items()}, torch.tensor([0]), torch.tensor([0]))


def test_it_passes_its_check() -> None:
    checks = check(ENTRY)
    assert "failed" not in [one.outcome for one in checks], report(checks)


def test_the_loss_is_that_of_the_equation() -> None:
    # the confidence of logits (x, 0) is 1 / (1 + exp(-|x|)); |x| is 2 with a alone, 1 with b alone, and 2 - 1 = 1 with both
    sure = {x: 1 / (1 + exp(-x)) for x in (1, 2)}
    step = ENTRY.load()(("a", "b"), strength=3.0).backward(adds("a", "b"), batch(a=2.0, b=-1.0))
    assert float(step.loss) == pytest.approx(log(1 + exp(-1)) + 3 * (sure[2] - sure[1]) / 2, rel=1e-6)
    assert float(step.signals["surer"]) == 0.5


def test_three_modalities_have_nine_pairs() -> None:
    # |x| with all: 3; without a: 1, without b: 2, without c: 3; a alone: 2, b alone: 1, c alone: 0. No removal makes the model surer
    step = ENTRY.load()(("a", "b", "c")).backward(adds("a", "b", "c"), batch(a=2.0, b=1.0, c=0.0))
    assert float(step.loss) == pytest.approx(log(1 + exp(-3)), rel=1e-6)
    # c = -2: x with all is 1; ab 3, ac 0, bc -1; a 2, b 1, c -2. Surer: ab than all, a than ac, c than ac, c than bc
    sure = {x: 1 / (1 + exp(-x)) for x in (0, 1, 2, 3)}
    rise = (sure[3] - sure[1]) + 2 * (sure[2] - sure[0]) + (sure[2] - sure[1])
    step = ENTRY.load()(("a", "b", "c")).backward(adds("a", "b", "c"), batch(a=2.0, b=1.0, c=-2.0))
    assert float(step.loss) == pytest.approx(log(1 + exp(-1)) + rise / 9, rel=1e-6)
    assert float(step.signals["surer"]) == pytest.approx(4 / 9)


def test_a_step_narrows_what_a_removed_modality_adds_to_the_confidence() -> None:
    net, sample = adds("a", "b"), batch(a=2.0, b=-1.0)

    @torch.no_grad()
    def rise() -> float:
        alone, both = frozenset({"a"}), frozenset({"a", "b"})
        said = net.coalitions(sample.inputs, [both, alone])
        return float(said[alone].logits.softmax(dim=1).max() - said[both].logits.softmax(dim=1).max())

    before = rise()
    ENTRY.load()(("a", "b"), strength=100.0).backward(net, sample)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.sub_(0.0001 * parameter.grad)
    assert 0 < rise() < before


@pytest.mark.parametrize(
    ("modalities", "task", "reason"),
    [
        (("a",), SingleLabel(), "needs two or more modalities"),
        (("a", "b"), MultiLabel(), "needs a probability of each class, which a task of MultiLabel has not"),
    ],
)
def test_it_refuses_what_has_no_confidence_to_compare(modalities: tuple[str, ...], task: Task, reason: str) -> None:
    net = adds(*modalities)
    net.task = task
    assert reason in ENTRY.load()(modalities).refuses(net)
