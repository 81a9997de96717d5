"""CGGM against numbers worked out by hand and against a recorded run of the official code."""

import pytest
import torch
from recorded import Recorded
from toys import NAMES, batch, context, gradient, model

from agmbench.modulators.cggm import CGGM, right
from agmbench.tasks import MultiLabel, Regression, Segments, SingleLabel, Task


def test_who_has_improved_less_learns_faster() -> None:
    c = CGGM(NAMES).coefficients(torch.tensor([0.1, 0.3], dtype=torch.float64))
    assert (1.3 * c).tolist() == pytest.approx([0.975, 0.325])


def test_the_ratio_is_held_where_nobody_has_improved() -> None:
    stuck = torch.tensor([0.1, -0.1], dtype=torch.float64)
    assert CGGM(NAMES).coefficients(stuck).tolist() == [0.0, 2.0]
    assert CGGM(NAMES, clip=None).coefficients(stuck).abs().min() > 1e6
    assert CGGM(NAMES).coefficients(torch.zeros(2, dtype=torch.float64)).tolist() == [1.0, 1.0]


def test_encoders_are_scaled_and_the_side_heads_only_watch() -> None:
    found = []
    for rho in (1.0, 2.0):
        net = model({"a": [1.0], "v": [1.0]}, [[1.0, -1.0], [0.0, 0.0]])
        method = CGGM(NAMES, rho=rho)
        torch.manual_seed(0)
        method.prepare(context(net))
        method.step(net, [batch(net, [0, 1])])
        found.append([gradient(net, "a"), gradient(net, "v"), net.fusion.heads()[0].weight.grad, method.heads["a"].weight.grad])
    for m in (0, 1):
        torch.testing.assert_close(2 * found[0][m], found[1][m])
    for other in (2, 3):
        torch.testing.assert_close(found[0][other], found[1][other])


@pytest.mark.parametrize(
    ("task", "logits", "targets", "expected"),
    [
        (SingleLabel(), [[1.0, 0.0], [1.0, 0.0]], [0, 1], [1.0, 0.0]),
        (Segments(), [[[1.0, 0.0], [1.0, 0.0]]], [[0, 1]], [0.5]),
        (MultiLabel(), [[1.0, 1.0, -1.0, 1.0]], [[1.0, 0.0, 0.0, 1.0]], [0.75]),
        (Regression(1.0), [[0.3], [0.2], [-1.0]], [2.0, -1.0, -0.1], [1.0, 0.0, 1.0]),
    ],
)
def test_what_is_right(task: Task, logits: list[list[float]], targets: list[float], expected: list[float]) -> None:
    assert right(task, torch.tensor(logits), torch.tensor(targets)).tolist() == expected


def test_recorded() -> None:
    case = Recorded("cggm_3mod")
    s = case.settings
    net = case.model([f"encoders.{number}" for number in range(3)], ["out_layer"])
    method = CGGM(case.modalities, rho=s["rho"], clip=None, head_rate=s["classifier_lr"] / s["lr"])
    method.prepare(case.context(net))
    for number, m in enumerate(case.modalities):
        method.heads[m].load_state_dict(case.weights("init_classifier", f"classifers.{number}.out_layer"))

    steps = case.train(net, method)

    for name, array, unit in (("accuracy", "accuracy", 1.0), ("kappa", "coefficient", s["rho"])):
        found = torch.tensor([[float(step.signals[f"{name}/{m}"]) for m in case.modalities] for step in steps]).double()
        torch.testing.assert_close(found, unit * case.arrays[array], atol=1e-5, rtol=1e-5)
    case.agrees({f"encoders.{n}": net.encoders[m].net for n, m in enumerate(case.modalities)} | {"out_layer": net.fusion.heads()[0]})
    heads = {f"classifers.{n}.out_layer": method.heads[m] for n, m in enumerate(case.modalities)}
    case.agrees(heads, when="final_classifier")
