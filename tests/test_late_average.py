"""Stacked logistic regression: its equation, absent modalities, and classes that do not occur in dev."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from toys import NAMES, context, model

from agmbench.contracts import SPLITS, Batch, TensorSplit
from agmbench.model import MultimodalModel
from agmbench.modulators.late_average import NEVER, LateAverage, fitted

COUNT = 3


def prepared(targets: torch.Tensor) -> tuple[MultimodalModel, LateAverage, TensorSplit]:
    drawn = torch.Generator().manual_seed(0)
    split = TensorSplit({m: torch.randn(len(targets), 2, generator=drawn) for m in NAMES}, targets)
    net = model({"a": [1.0, 1.0], "v": [1.0, 1.0]}, [[0.0] * 4] * COUNT)
    concepts = {m: model({m: [1.0, 2.0]}, [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5]]).eval() for m in NAMES}
    around = context(net, concepts=concepts)
    object.__setattr__(around, "splits", dict.fromkeys(SPLITS, split))
    method = LateAverage(NAMES, strength=0.5)
    method.prepare(around)
    method.begin_epoch(around)
    return net, method, split


def test_each_coalition_has_the_regression_of_its_own_modalities() -> None:
    targets = torch.arange(30) % COUNT
    net, method, split = prepared(targets)
    shown = split.inputs
    # the feature of a unimodal model is (1, 2) times its input, and its head has three rows of two weights
    head = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5]])
    known = {m: shown[m] * torch.tensor([1.0, 2.0]) @ head.T for m in NAMES}
    log_p = {m: z.log_softmax(dim=-1).detach().double().numpy() for m, z in known.items()}
    for which in ({"a"}, {"v"}, {"a", "v"}):
        rows = np.concatenate([log_p[m] for m in NAMES if m in which], axis=1)
        fit = LogisticRegression(C=0.5, max_iter=1000).fit(rows, targets.numpy())
        answer = method.coalitions(net, shown, [frozenset(which)])[frozenset(which)].logits
        np.testing.assert_allclose(answer.softmax(dim=-1).detach().numpy(), fit.predict_proba(rows), atol=1e-4)


def test_an_absent_modality_has_no_part_in_an_answer() -> None:
    net, method, split = prepared(torch.arange(30) % COUNT)
    only = frozenset({"a"})
    other = {"a": split.inputs["a"], "v": torch.full((30, 2), 9.0)}
    assert torch.equal(
        method.coalitions(net, split.inputs, [only])[only].logits, method.coalitions(net, other, [only])[only].logits
    )
    assert list(method.steps(net, [Batch(split.inputs, split.targets, torch.arange(30))])) == []


@pytest.mark.parametrize("classes", [[0, 2], [1]])
def test_classes_that_dev_lacks_are_never_answered(classes: list[int]) -> None:
    right = torch.tensor(classes * 10)
    known = torch.randn(len(right), 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weight, bias = fitted(known, right, COUNT, 1.0)
    answers = (known @ weight.T + bias).argmax(dim=1)
    assert set(answers.tolist()) <= set(classes)
    assert [bias[c] == NEVER for c in range(COUNT)] == [c not in classes for c in range(COUNT)]
    if len(classes) == 2:
        fit = LogisticRegression(max_iter=1000).fit(known.numpy(), right.numpy())
        found = (known @ weight.T + bias)[:, classes].softmax(dim=1).numpy()
        np.testing.assert_allclose(found, fit.predict_proba(known.numpy()), atol=1e-6)
