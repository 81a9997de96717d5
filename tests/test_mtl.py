"""Multi-task solvers: each against values by hand on two rows, their input in a step, and the message if a package is missing."""

import sys

import pytest
import torch
from torchjd import aggregation
from toys import NAMES, batch, context, gradient, model

from agmbench.contracts import Unsuitable
from agmbench.modulators.mtl import MTL, SOLVERS

SHOWN = {
    "sum": (0.5, 1.0),
    "mgda": (0.3077, 0.4615),
    "pcgrad": (0.8, 1.4),
    "imtlg": (0.2918, 0.4721),
    "upgrad": (0.4, 0.7),
    "cagrad": (0.4256, 0.6384),
}


@pytest.mark.parametrize("name", SHOWN)
def test_what_a_solver_makes_of_two_rows(name: str) -> None:
    if name == "cagrad":
        pytest.importorskip("cvxpy", reason="pip install 'torchjd[cagrad]'")
    method = MTL(NAMES, aggregator=name)  # type: ignore[arg-type]
    g0, g1 = [torch.tensor([1.0]), torch.tensor([[0.0]])], [torch.tensor([-0.5]), torch.tensor([[1.0]])]
    found, signals = method.combine("a", g0, g1)
    assert [tuple(tensor.shape) for tensor in found] == [(1,), (1, 1)]
    assert [float(tensor) for tensor in found] == pytest.approx(SHOWN[name], abs=1e-3)
    assert float(signals["cosine/a"]) == pytest.approx(-0.5 / 1.25**0.5)


def test_the_rows_are_the_joint_loss_and_its_own_over_all_micro_batches() -> None:
    net = model({"a": [1.0, -1.0], "v": [2.0]}, [[1.0, 0.5, -1.0], [0.0, 0.2, 0.0]])
    torch.manual_seed(0)
    method = MTL(NAMES, aggregator="sum")
    method.prepare(context(net))
    parts = [batch(net, [0, 1, 1]), batch(net, [0])]
    method.step(net, parts)
    whole = batch(net, [0, 1, 1, 0])
    features = net.encode(whole.inputs)
    alone = method.heads.answers(net, features)
    losses = [net.loss(net.fusion(features).logits, whole.targets), *(net.loss(alone[m], whole.targets) for m in NAMES)]
    for number, m in enumerate(NAMES, 1):
        (expected,) = torch.autograd.grad(losses[0] + losses[number], [net.encoders[m].weight], retain_graph=True)  # type: ignore[list-item]
        torch.testing.assert_close(gradient(net, m), expected)
    (of_head,) = torch.autograd.grad(losses[0], [net.fusion.heads()[0].weight], retain_graph=True)
    torch.testing.assert_close(net.fusion.heads()[0].weight.grad, of_head)


def test_a_package_that_is_not_here_is_one_line_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(Unsuitable, match=r"^needs the package torchjd, which is not here: pip install 'agmbench\[mtl\]'$"):
        MTL(NAMES)


@pytest.mark.parametrize("name", [name for name, (_, extra) in SOLVERS.items() if extra])
def test_a_solvers_own_packages_are_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(**_: float) -> None:
        raise ImportError("two\nlines")

    monkeypatch.setattr(aggregation, SOLVERS[name][0], lacking)
    with pytest.raises(Unsuitable, match=rf"^aggregator={name} needs packages that are not here: pip install 'torchjd\["):
        MTL(NAMES, aggregator=name)  # type: ignore[arg-type]


def test_a_strength_that_no_one_reads_is_refused() -> None:
    with pytest.raises(Unsuitable, match="aggregator=mgda has no strength"):
        MTL(NAMES, aggregator="mgda", strength=0.3)
