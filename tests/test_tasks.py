"""Tasks: losses, scores and likelihoods against values by hand, and whole jobs under each task."""

import copy
import math

import pytest
import torch
from torch import Tensor

from agmbench.contracts import SPLITS, Context, Split, SplitName, TensorSplit, in_order
from agmbench.encoders.mlp import MLP
from agmbench.encoders.transformer import Transformer
from agmbench.evaluate import evaluate, measure
from agmbench.fusions.concat import Concat
from agmbench.jobs import Training
from agmbench.loading import Feed
from agmbench.metrics.figure import figure
from agmbench.model import MultimodalModel
from agmbench.modulators.agm import AGM
from agmbench.modulators.joint import Joint
from agmbench.modulators.ogm import OGM
from agmbench.tasks import MultiLabel, Regression, Segments, SingleLabel, Task
from agmbench.train import train

CPU = torch.device("cpu")
NAMES = ("a", "b")


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_single_label_by_hand() -> None:
    logits, targets = torch.tensor([[0.0, math.log(3)], [5.0, 5.0]]), torch.tensor([1, 0])
    task = SingleLabel()
    assert task.likelihood(logits, targets).tolist() == pytest.approx([0.75, 0.5])
    assert task.losses(logits, targets).tolist() == pytest.approx([-math.log(0.75), -math.log(0.5)])
    assert task.accuracy(logits, targets) == 1.0


def test_segments_are_judged_one_by_one_and_a_sample_loses_their_mean() -> None:
    logits = torch.tensor([[[0.0, math.log(3)], [0.0, math.log(3)]]])  # one sample, two segments
    targets = torch.tensor([[1, 0]])
    task = Segments()
    assert task.losses(logits, targets).tolist() == pytest.approx([(-math.log(0.75) - math.log(0.25)) / 2])
    assert task.likelihood(logits, targets).tolist() == pytest.approx([0.5])
    assert task.accuracy(logits, targets) == 0.5
    assert task.rows(logits).shape == (2, 2)
    assert isinstance(task.of_rows(), SingleLabel)


def test_multi_label_by_hand() -> None:
    logits, targets = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 1.0]])
    task = MultiLabel()
    assert task.losses(logits, targets).tolist() == pytest.approx([(-math.log(sigmoid(2)) - math.log(sigmoid(-1))) / 2])
    assert task.likelihood(logits, targets).tolist() == pytest.approx([(sigmoid(2) + sigmoid(-1)) / 2])
    assert task.accuracy(logits, targets) == 0.5


def test_regression_by_hand() -> None:
    logits, targets = torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 4.0])
    task = Regression(variance=4.0)
    assert task.outputs(7) == 1
    assert task.losses(logits, targets).tolist() == [1.0, 1.0]
    assert task.scores(logits, targets).tolist() == [0.25, 0.25]
    assert task.likelihood(logits, targets).tolist() == pytest.approx([math.exp(-0.125)] * 2)
    assert task.accuracy(logits, targets) == pytest.approx(1 - 1 / 4)  # R2


class PerSegment(Concat):
    """A fusion with two segments per sample; the logits of the second are those of the first with opposite sign."""

    def forward(self, features: dict[str, Tensor]):  # type: ignore[no-untyped-def, override]
        fused = super().forward(features)
        both = torch.stack([fused.logits, -fused.logits], dim=1)
        return fused._replace(logits=both, representation=torch.stack([fused.representation] * 2, dim=1))

    def terms(self, features: dict[str, Tensor]) -> dict[str, Tensor]:  # type: ignore[override]
        return {m: torch.stack([term, -term], dim=1) for m, term in super().terms(features).items()}


def data(task: Task) -> dict[SplitName, Split]:
    drawn = torch.Generator().manual_seed(0)
    splits: dict[SplitName, Split] = {}
    for name in SPLITS:
        x = {m: torch.randn(32, 5, generator=drawn) for m in NAMES}
        signal = x["a"][:, 0] + 0.3 * x["b"][:, 0]
        targets = {
            SingleLabel: (signal > 0).long(),
            Segments: torch.stack([(signal > 0).long(), (signal < 0).long()], dim=1),
            MultiLabel: torch.stack([signal > 0, x["b"][:, 1] > 0], dim=1).float(),
            Regression: signal,
        }[type(task)]
        splits[name] = TensorSplit(x, targets)
    return splits


@pytest.mark.parametrize("task", [SingleLabel(), Segments(), MultiLabel(), Regression(1.09)], ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("kind", [Joint, AGM, OGM])
def test_every_task_is_learned_under_every_kind_of_method(task: Task, kind: type) -> None:
    torch.manual_seed(0)
    fusion = (PerSegment if isinstance(task, Segments) else Concat)(dict.fromkeys(NAMES, 8), task.outputs(2))
    model = MultimodalModel({m: MLP((5,), hidden=8, layers=1) for m in NAMES}, fusion, task=task)
    splits = data(task)
    recipe = Training(epochs=15, batch_size=16, lr=0.1, weight_decay=0)
    *_, last = train(model, kind(NAMES), Feed(splits, CPU), recipe, 1)
    assert last.by == task.figure
    assert last.valid[task.figure] > 0.6
    outcome = evaluate(model, kind(NAMES), in_order(splits["test"]))
    rows = 64 if isinstance(task, Segments) else 32
    assert len(outcome.targets) == len(outcome.full) == len(outcome.representation) == rows
    assert outcome.kind == task.kind
    values = measure(outcome, task)
    found = figure(outcome, outcome.full)
    assert values[task.figure] == pytest.approx(found, abs=1e-6)
    of = "" if task.figure == "accuracy" else "-r2"
    assert {f"response{of}/a", "response-loss/b", f"coalition{of}/a:b"} < values.keys()


def test_agm_divides_a_regression_s_error_by_the_variance() -> None:
    task = Regression(variance=2.0)
    torch.manual_seed(0)
    model = MultimodalModel({m: MLP((5,), hidden=8, layers=1) for m in NAMES}, Concat(dict.fromkeys(NAMES, 8), 1), task=task)
    batch = data(task)["train"].batch(torch.arange(8))
    phi = {m: term.detach() for m, term in copy.deepcopy(model).responses(batch.inputs).items()}
    agm = AGM(NAMES)
    agm.prepare(Context(0, 1, 1, {}, torch.Generator(), model))
    step = agm.step(model.train(), [batch])
    expected = ((phi["a"].squeeze(1) - batch.targets) ** 2).mean() / 2
    assert float(step.signals["score/a"]) == pytest.approx(float(expected), rel=1e-4)


def test_a_transformer_s_tokens_reach_a_vector_fusion_under_any_task() -> None:
    encoder = Transformer((4, 3), layers=1, heads=2, width=8)
    model = MultimodalModel({"a": encoder}, Concat({"a": 8}, 2), task=MultiLabel())
    assert model({"a": torch.randn(2, 4, 3)}).logits.shape == (2, 2)
