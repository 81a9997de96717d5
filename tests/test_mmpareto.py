"""MMPareto against steps worked out by hand."""

import copy

import pytest
import torch
from toys import NAMES, batch, context, gradient, model

from agmbench.model import MultimodalModel
from agmbench.modulators.mmpareto import MMPareto, weights

# if features are zero, logits are zero, and dL/df for class 0 is (-1/2, 1/2), so that G = W^T (-1/2, 1/2)
JOINT = [[1.0, 0.0, 1.0, 0.0], [-1.0, 0.0, -1.0, 0.0]]  # G0 = (-1, 0) for both
AGAINST = [[-1.0, 1.0], [1.0, -1.0]]  # G1 = (1, -1)
ALIKE = [[1.0, 0.0], [-1.0, 0.0]]  # G1 = (-1, 0)


def made(gamma: float = 1.5) -> tuple[MultimodalModel, MMPareto]:
    net = model({"a": [0.0, 0.0], "v": [0.0, 0.0]}, JOINT)
    method = MMPareto(NAMES, gamma=gamma)
    method.prepare(context(net))
    with torch.no_grad():
        for modality, weight in zip(NAMES, (AGAINST, ALIKE), strict=True):
            method.heads[modality].weight.copy_(torch.tensor(weight))
            method.heads[modality].bias.zero_()
    return net, method


def test_gradients_in_conflict_take_the_shortest_of_their_combinations() -> None:
    net, method = made()
    step = method.step(net, [batch(net, [0])])
    # w0 = G1.(G1 - G0) / |G0 - G1|^2 = 3/5; g = 2 (-.2, -.4), |g| = .894 < |G0 + G1| = 1, so g = (-.447, -.894); times 1.5
    assert float(step.signals["weight/a"]) == pytest.approx(0.6)
    assert float(step.signals["cosine/a"]) == pytest.approx(-(0.5**0.5))
    torch.testing.assert_close(gradient(net, "a"), 1.5 * torch.tensor([-0.2, -0.4]) / 0.2**0.5)


def test_gradients_that_agree_are_added() -> None:
    net, method = made()
    step = method.step(net, [batch(net, [0])])
    assert float(step.signals["weight/v"]) == 0.5
    assert float(step.signals["cosine/v"]) == pytest.approx(1)
    torch.testing.assert_close(gradient(net, "v"), torch.tensor([-3.0, 0.0]))


def test_the_fusion_and_the_heads_take_the_sum_of_the_losses() -> None:
    net, method = made()
    method.step(net, [batch(net, [0])])
    (head,) = net.fusion.heads()
    torch.testing.assert_close(head.bias.grad, torch.tensor([-0.5, 0.5]))
    torch.testing.assert_close(method.heads["a"].bias.grad, torch.tensor([-0.5, 0.5]))


def test_micro_batches_are_combined_once_from_their_means() -> None:
    net, method = made()
    other, whole = copy.deepcopy(net), copy.deepcopy(method)
    method.step(net, [batch(net, [0, 0]), batch(net, [1])])
    whole.step(other, [batch(other, [0, 0, 1])])
    for modality in NAMES:
        torch.testing.assert_close(gradient(net, modality), gradient(other, modality))
        torch.testing.assert_close(method.heads[modality].weight.grad, whole.heads[modality].weight.grad)


def test_an_encoder_with_nothing_to_learn_is_left_alone() -> None:
    net, method = made()
    net.encoders["v"].requires_grad_(False)
    step = method.step(net, [batch(net, [0])])
    assert set(step.signals) == {"loss/a", "loss/v", "cosine/a", "weight/a"}
    assert gradient(net, "v") is None
    torch.testing.assert_close(method.heads["v"].bias.grad, torch.tensor([-0.5, 0.5]))


@pytest.mark.parametrize(
    ("g0", "g1", "expected"),
    [
        ((1.0, 0.0), (-10.0, 0.0), 10 / 11),
        ((1.0, 0.0), (-1.0, 0.0), 0.5),
        ((0.0, 0.0), (0.0, 0.0), 0.0),
        ((1.0, 0.0), (0.0, 1.0), 0.5),
    ],
)
def test_weights_of_known_vectors(g0: tuple[float, ...], g1: tuple[float, ...], expected: float) -> None:
    _, w0 = weights([torch.tensor(g0)], [torch.tensor(g1)])
    assert float(w0) == pytest.approx(expected)
