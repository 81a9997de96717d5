"""Modality dropout: what is muted and how often, and that one modality always stays."""

import pytest
import torch
from toys import NAMES, batch, context, gradient, model

from agmbench.contracts import Alike, Tokens
from agmbench.modulators.modality_dropout import ModalityDropout, chosen


def test_a_sample_keeps_one_modality_and_loses_each_as_often_as_said() -> None:
    net, method = model({"a": [1.0], "v": [1.0]}, [[1.0, 1.0], [0.0, 0.0]]), ModalityDropout(NAMES, p={"a": 0.9, "v": 0.5})
    method.prepare(context(net))
    kept = method.draw(20_000)
    assert kept.any(dim=0).all()
    # a stays with probability .1; if both would be muted (.45), one of the two stays, each equally often
    torch.testing.assert_close(kept.float().mean(dim=1), torch.tensor([0.1 + 0.225, 0.5 + 0.225]), atol=0.02, rtol=0)


def test_a_modality_that_is_lost_in_all_samples_has_no_gradient_from_them() -> None:
    net, method = model({"a": [1.0], "v": [2.0]}, [[1.0, 1.0], [0.0, 0.0]]), ModalityDropout(NAMES)
    method.prepare(context(net))
    method.draw = lambda count: torch.tensor([[True] * count, [False] * count])  # type: ignore[method-assign]
    step = method.step(net, [batch(net, [0, 0])])
    assert {name: float(value) for name, value in step.signals.items()} == {"kept/a": 1.0, "kept/v": 0.0}
    # f = (1 * a + 0, 0): p_0 = sigmoid(1)
    assert float(step.loss) == pytest.approx(-float(torch.tensor(1.0).sigmoid().log()))
    assert gradient(net, "a") is not None
    assert float(gradient(net, "a")) == pytest.approx(float(torch.tensor(1.0).sigmoid()) - 1)  # type: ignore[arg-type]
    assert float(gradient(net, "v")) == 0  # type: ignore[arg-type]


def test_of_a_sequence_the_mask_stays() -> None:
    mask = torch.tensor([[True, False], [True, True]])
    x = Tokens(torch.ones(2, 2, 1), mask, Alike.of(mask))
    shown = chosen(torch.tensor([True, False]), x, Tokens(torch.zeros(2, 2, 1), mask))
    assert isinstance(shown, Tokens)
    assert shown.values.flatten().tolist() == [1, 1, 0, 0]
    assert shown.mask is mask
    assert shown.alike is x.alike


def test_a_chance_for_a_modality_that_is_not_there_is_refused() -> None:
    reason = ModalityDropout(NAMES, p={"x": 0.1}).refuses(model({"a": [1.0], "v": [2.0]}, [[1.0, 1.0]] * 2))
    assert reason == "has p for x, no modality of this data set: a, v"
