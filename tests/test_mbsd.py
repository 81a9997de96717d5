"""MBSD against numbers worked out by hand."""

import pytest
import torch
from torch import Tensor
from toys import NAMES, batch, context, model

from agmbench.modulators.mbsd import MBSD, pair


def log(*rows: list[float]) -> Tensor:
    return torch.tensor(rows).log()


def test_the_term_of_two_modalities() -> None:
    # w = .4, square .16, KL .3348
    assert float(pair(log([0.8, 0.2]), log([0.4, 0.6]), torch.tensor([0]))) == pytest.approx(0.1979, abs=1e-4)
    assert float(pair(log([0.4, 0.6]), log([0.8, 0.2]), torch.tensor([0]))) == pytest.approx(0.1979, abs=1e-4)
    assert float(pair(log([0.3, 0.7]), log([0.2, 0.8]), torch.tensor([0]))) == 0  # neither is right


def test_no_gradient_flows_through_the_surer_one_in_kl() -> None:
    one, two = (torch.tensor([row], requires_grad=True) for row in ([1.0, 0.0], [-1.0, 0.0]))
    p, q = one.softmax(dim=-1), two.softmax(dim=-1)
    pair(one.log_softmax(dim=-1), two.log_softmax(dim=-1), torch.tensor([0])).backward()
    weight = float((p - q)[0, 0].detach())
    square = (p - q).square().mean()
    (of_square,) = torch.autograd.grad(weight * square, one, retain_graph=True)
    torch.testing.assert_close(one.grad, of_square.detach())
    (of_both,) = torch.autograd.grad(weight * (square + (p.detach() * (p.detach().log() - q.log())).sum()), two)
    torch.testing.assert_close(two.grad, of_both.detach())


def test_the_loss_has_each_part() -> None:
    net, method = model({"a": [1.0], "v": [1.0]}, [[2.0, -1.0], [0.0, 0.0]]), MBSD(NAMES, own=0.5, strength=3.0)
    method.prepare(context(net))
    step = method.step(net, [batch(net, [0, 0])])
    own = [-float(torch.tensor(z).sigmoid().log()) for z in (2.0, -1.0)]
    assert [float(step.signals[f"loss/{m}"]) for m in NAMES] == pytest.approx(own)
    joint = -float(torch.tensor(1.0).sigmoid().log())
    assert float(step.loss) == pytest.approx(joint + 0.5 * sum(own) + 3 * float(step.signals["distilled"]), rel=1e-5)


def test_of_three_modalities_it_is_the_mean_over_pairs() -> None:
    names = ("a", "v", "t")
    terms = {m: log([p, 1 - p]) for m, p in zip(names, (0.8, 0.4, 0.8), strict=True)}
    found = MBSD(names).distilled(terms, torch.tensor([0]))
    assert float(found) == pytest.approx(0.1979 * 2 / 3, abs=1e-4)  # a and t have equal predictions
