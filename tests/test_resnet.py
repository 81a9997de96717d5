"""The ResNet encoder on several frames in time."""

import pytest
import torch

from agmbench.contracts import Unsuitable
from agmbench.encoders.resnet import ResNet


def made(*shape: int) -> ResNet:
    torch.manual_seed(0)
    return ResNet(shape, width=8)


def test_frames_go_through_one_network_and_are_averaged_after_pooling() -> None:
    one, several = made(3, 32, 32).eval(), made(4, 3, 32, 32).eval()
    frames = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        expected = torch.stack([one(frames[:, t]) for t in range(4)]).mean(dim=0)
        found = several(frames)
    assert found.shape == (2, several.out_features)
    torch.testing.assert_close(found, expected)


def test_the_order_of_frames_changes_nothing_and_a_single_frame_is_an_image() -> None:
    encoder, frames = made(3, 3, 32, 32).eval(), torch.randn(2, 3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(encoder(frames), encoder(frames.flip(1)))
        torch.testing.assert_close(encoder(frames[:, :1]), encoder(frames[:, 0]))


def test_frames_have_the_weights_of_an_image() -> None:
    assert made(3, 32, 32).state_dict().keys() == made(4, 3, 32, 32).state_dict().keys()
    assert made(2, 1, 32, 32).net.conv1.weight.shape[1] == 1


def test_every_frame_has_a_gradient() -> None:
    frames = torch.randn(2, 3, 3, 32, 32, requires_grad=True)
    made(3, 3, 32, 32)(frames).square().sum().backward()
    assert frames.grad is not None
    assert (frames.grad.flatten(2).abs().sum(dim=2) > 0).all()


@pytest.mark.parametrize("shape", [(10,), (5, 10), (2, 2, 3, 8, 8)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(Unsuitable, match=r"takes an image \[C, H, W\] or frames \[T, C, H, W\]; found the shape"):
        ResNet(shape)
