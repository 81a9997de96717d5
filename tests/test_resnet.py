"""The ResNet encoder on several frames in time."""

from typing import Any

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


def weights(**settings: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(ResNet((1, 32, 32), **settings).requires_grad_(False).net.named_parameters())


def test_initial_weights_are_timm_s_by_default_and_the_official_code_s_by_name() -> None:
    timms, official, spread = weights(), weights(zero_init_last=False), weights(zero_init_last=False, norm_spread=0.02)
    last = [name for name in timms if name.endswith("bn2.weight")]
    assert len(last) == 8
    for name, value in timms.items():
        norm = ".bn" in f".{name}" or ".downsample.1." in name
        if norm and name.endswith("weight"):
            assert (value == (0 if name in last else 1)).all(), name
            assert (official[name] == 1).all(), name
            assert spread[name].std() == pytest.approx(0.02, rel=0.4), name
            assert spread[name].mean() == pytest.approx(1, abs=0.01), name
        else:
            assert torch.equal(value, official[name]), name
            assert torch.equal(value, spread[name]), name
        if value.ndim == 4:  # kaiming normal, fan out, ReLU: OGM-GE's and AGM's as well as timm's
            out, _, *kernel = value.shape
            assert value.std() == pytest.approx((2 / (out * kernel[0] * kernel[1])) ** 0.5, rel=0.05), name


def test_blocks_that_begin_with_zeros_stay_so_under_a_spread() -> None:
    found = weights(norm_spread=0.02)
    assert all((value == 0).all() for name, value in found.items() if name.endswith("bn2.weight"))


def test_blocks_are_a_resnet_s() -> None:
    with pytest.raises(Unsuitable, match="zero_init_last=false is for ResNets alone; found model 'mobilenetv3_small_050'"):
        ResNet((1, 32, 32), model="mobilenetv3_small_050", zero_init_last=False)


@pytest.mark.parametrize("shape", [(10,), (5, 10), (2, 2, 3, 8, 8)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(Unsuitable, match=r"takes an image \[C, H, W\] or frames \[T, C, H, W\]; found the shape"):
        ResNet(shape)
