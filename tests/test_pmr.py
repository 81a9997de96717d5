"""PMR against prototypes and steps worked out by hand."""

from math import exp, log

import pytest
import torch
from toys import NAMES, batch, context, gradient, model

from agmbench.model import MultimodalModel
from agmbench.modulators.pmr import PMR, Prototypes

HEAD = [[0.0, 0.0], [0.0, 0.0]]  # all zero, so that the joint loss gives the encoders no gradient
SURE = 1 / (1 + exp(-2))  # the first number of softmax(-1, -3)
BETA = SURE / 0.5 - 1


def made(**params: float) -> tuple[MultimodalModel, PMR]:
    """A model with prototypes at 0 and 4. The feature of `a` is 1, near the prototype of class 0; that of `v` is in the middle."""
    net = model({"a": [1.0], "v": [2.0]}, HEAD)
    method = PMR(NAMES, **params)  # type: ignore[arg-type]
    method.prepare(context(net))
    for modality in NAMES:
        method.prototypes.get_buffer(f"of_{modality}").copy_(torch.tensor([[0.0], [4.0]]))
    return net, method


def test_what_is_behind_is_drawn_to_its_prototype() -> None:
    net, method = made(entropy=0.0, mu=0.5)
    step = method.step(net, [batch(net, [0])])
    # CE(d_v) = log 2, and its slope at the middle is 1
    assert float(step.signals["beta/v"]) == pytest.approx(BETA)
    assert float(step.signals["beta/a"]) == 0
    assert float(step.loss) == pytest.approx(log(2) + 0.5 * BETA * log(2))
    assert gradient(net, "v").item() == pytest.approx(0.5 * BETA)  # type: ignore[union-attr]
    assert gradient(net, "a").item() == 0  # type: ignore[union-attr]


def test_what_is_ahead_is_kept_from_being_sure_in_the_first_epochs() -> None:
    net, method = made(entropy=0.1, mu=0.0, entropy_epochs=1)
    method.step(net, [batch(net, [0])])
    # H of two classes whose logits differ by t = 2 has slope -t p (1 - p) in t, and t falls by 2 as the feature grows by 1
    slope = 2 * 2 * SURE * (1 - SURE)
    assert gradient(net, "a").item() == pytest.approx(-0.1 * BETA * slope)  # type: ignore[union-attr]
    method.begin_epoch(context(net, epoch=1))
    net.zero_grad()
    method.step(net, [batch(net, [0])])
    assert gradient(net, "a").item() == 0  # type: ignore[union-attr]


def test_a_constant_stands_in_for_beta_as_in_the_official_code() -> None:
    beta, _ = made(beta=0.6)[1].coefficients(torch.tensor([0.9, 1.1]))
    assert beta.tolist() == pytest.approx([0.6, 0.0])


def test_features_so_far_apart_that_no_likelihood_is_left_leave_the_loss_finite() -> None:
    net, method = made()
    with torch.no_grad():
        for encoder in net.encoders.values():
            encoder.weight.mul_(1e4)  # type: ignore[operator, union-attr]
        for modality in NAMES:
            method.prototypes.get_buffer(f"of_{modality}").mul_(1e4)
        net.encoders["v"].weight.copy_(net.encoders["a"].weight)  # type: ignore[operator, union-attr, arg-type]
    step = method.step(net, [batch(net, [1])])  # both features are near the prototype of class 0
    assert all(torch.isfinite(value) for value in (step.loss, *step.signals.values()))


def test_prototypes_move_by_momentum_and_wait_for_a_class_that_does_not_occur() -> None:
    prototypes = Prototypes({"a": 1}, 3)
    prototypes.renew({"a": torch.tensor([[2.0], [4.0], [1.0]])}, torch.tensor([0, 0, 1]), momentum=0.5)
    assert prototypes.get_buffer("of_a").flatten().tolist() == [3, 1, 0]
    prototypes.renew({"a": torch.tensor([[5.0], [7.0]])}, torch.tensor([0, 2]), momentum=0.5)
    assert prototypes.get_buffer("of_a").flatten().tolist() == [4, 1, 7]  # moved half way; unchanged; set for the first time
    assert prototypes.known.tolist() == [True, True, True]


def test_an_epoch_begins_with_prototypes_of_the_training_set() -> None:
    net, method = made(part=1.0)
    method.prototypes.known.fill_(False)
    method.begin_epoch(context(net))
    assert method.prototypes.get_buffer("of_v").flatten().tolist() == [2, 2]  # the mean feature of either class
    assert net.training
