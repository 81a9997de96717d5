"""OPM against steps worked out by hand."""

from math import tanh

import pytest
import torch
from toys import NAMES, batch, context, gradient, model

from agmbench.model import MultimodalModel
from agmbench.modulators import terms
from agmbench.modulators.opm import OPM
from agmbench.tasks import SingleLabel

HEAD = [[1.0, 1.0], [0.0, 0.0]]
FEATURES = {"a": [3.0], "v": [1.0]}  # `a` is ahead


def made(**params: float) -> tuple[MultimodalModel, OPM]:
    net = model(FEATURES, HEAD)
    method = OPM(NAMES, **{"starts": 0, **params})  # type: ignore[arg-type]
    method.prepare(context(net))
    method.begin_epoch(context(net))
    return net, method


def test_only_what_is_ahead_is_dropped_and_by_how_much() -> None:
    _, method = made(base=0.5, slope=0.4)
    q = method.probabilities(torch.tensor([0.7, -0.2]))
    assert q.tolist() == pytest.approx([0.5 * (1 + 0.4 * tanh(0.7)), 0])


def test_with_all_of_it_dropped_the_rest_stands_for_both() -> None:
    net, method = made(base=1.0, executes=1.0)
    given = batch(net, [0, 0, 1])
    step = method.step(net, [given])
    alone = model({"a": [0.0], "v": [2.0]}, HEAD)  # scaled by 1 / (1 - 1/2)
    expected = SingleLabel().losses(alone(given.inputs).logits.detach(), given.targets).mean()
    assert float(step.loss) == pytest.approx(float(expected))
    assert gradient(net, "a").item() == 0  # type: ignore[union-attr]
    assert gradient(net, "v").item() != 0  # type: ignore[union-attr]
    torch.testing.assert_close(step.logits, net(given.inputs).logits.detach())


def test_no_sample_loses_every_modality() -> None:
    _, method = made(base=1.0)
    for score in torch.rand(200, 4, generator=torch.Generator().manual_seed(0)):
        assert (method.probabilities(terms.to_the_others(score) - 1) == 0).any()
    assert not method.probabilities(torch.full((4,), 1e-7)).any()  # such numbers come from rounding if all are equal


def test_where_it_does_not_execute_features_are_what_they_were() -> None:
    _, method = made(executes=0.0)
    features = {m: torch.randn(6, 1) for m in NAMES}
    shown = method.drop(features, torch.tensor([1.0, 1.0]), 6)
    assert all(torch.equal(shown[m], features[m]) for m in NAMES)


def test_it_executes_in_its_share_of_the_batches() -> None:
    net, method = made(base=1.0, executes=0.7)
    given = batch(net, [0, 0, 1])
    losses = [float(method.step(net, [given]).loss) for _ in range(400)]
    assert len(set(losses)) == 2
    dropped = sum(loss != losses[0] for loss in losses) / 400
    assert min(dropped, 1 - dropped) == pytest.approx(0.3, abs=0.08)
