"""The effect of each transform on a sample, by numbers that can be worked out by hand."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from agmbench.contracts import Tokens, Unsuitable
from agmbench.transforms.crop_flip import CropFlip
from agmbench.transforms.noise import Noise
from agmbench.transforms.spec_augment import SpecAugment
from agmbench.transforms.time_shift import TimeShift
from agmbench.transforms.token_dropout import TokenDropout


def drawn(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


# pictures


def coordinates(height: int, width: int) -> Tensor:
    """A picture in which each pixel has its own coordinates: the row in red, the column in green."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns, torch.zeros_like(rows)]).float().unsqueeze(0)


def test_a_whole_square_that_is_always_mirrored_is_its_mirror_image() -> None:
    x = coordinates(8, 8)
    mirrored = CropFlip((3, 8, 8), scale=(1, 1), ratio=(1, 1), flip=1)(x, drawn())
    assert torch.equal(mirrored, x.flip(-1))
    assert torch.equal(CropFlip((3, 8, 8), scale=(1, 1), ratio=(1, 1), flip=0)(x, drawn()), x)


def test_a_part_of_its_own_size_is_cut_out_as_it_is() -> None:
    transform = CropFlip((3, 4, 4), scale=(0.25, 0.25), ratio=(1, 1), flip=0)
    places = set()
    for number in range(300):
        part = transform(coordinates(8, 8), drawn(number))
        row, column = int(part[0, 0, 0, 0]), int(part[0, 1, 0, 0])
        assert torch.equal(part[0, :2], coordinates(4, 4)[0, :2] + torch.tensor([row, column]).view(2, 1, 1))
        places.add((row, column))
    assert places == {(row, column) for row in range(5) for column in range(5)}


def test_all_frames_of_a_clip_are_cropped_and_mirrored_alike() -> None:
    frame = torch.randint(256, (1, 1, 3, 60, 80), generator=drawn()).byte()
    clip = frame.expand(1, 3, 3, 60, 80)
    for number in range(10):
        found = CropFlip((3, 3, 16, 16))(clip, drawn(number))
        assert found.dtype == torch.uint8
        assert torch.equal(found[0, 0], found[0, 1])
        assert torch.equal(found[0, 0], found[0, 2])


@pytest.mark.parametrize("size", [(120, 160), (50, 600), (600, 50)])
def test_parts_are_drawn_as_torchvision_draws_them(size: tuple[int, int]) -> None:
    """Means of place, area and ratio agree within five standard errors. Long pictures have no part of an allowed ratio, so the middle is
    taken."""
    transform, theirs = CropFlip((3, 8, 8)), v2.RandomResizedCrop(8)
    count = 2000
    ours = torch.tensor([transform._part(*size, drawn(number)) for number in range(count)]).double()
    torch.manual_seed(0)
    made = [theirs.make_params([torch.zeros(3, *size)]) for _ in range(count)]
    expected = torch.tensor([[one[key] for key in ("top", "left", "height", "width")] for one in made]).double()
    for facts in (lambda x: x, lambda x: x[:, 2:].prod(dim=1, keepdim=True), lambda x: (x[:, 3:] / x[:, 2:3]).log()):
        one, two = facts(ours), facts(expected)
        error = (one.var(dim=0) + two.var(dim=0)).div(count).sqrt()
        assert ((one.mean(dim=0) - two.mean(dim=0)).abs() <= 5 * error + 1e-9).all()


def test_half_of_the_pictures_are_mirrored() -> None:
    transform = CropFlip((3, 8, 8), scale=(1, 1), ratio=(1, 1))
    mirrored = sum(float(transform(coordinates(8, 8), drawn(number))[0, 1, 0, 0]) == 7 for number in range(400))
    assert 160 < mirrored < 240


@pytest.mark.parametrize("shape", [(10, 7, 7, 512), (5,), (12, 5), (2, 28, 28)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(Unsuitable, match=r"takes pictures \[C, H, W\] or frames .*; found \[\d"):
        CropFlip(shape)


def test_a_range_that_falls_is_refused() -> None:
    with pytest.raises(Unsuitable, match=r"scale should rise, such as \[0.5, 1\]; found \[1, 0.5\]"):
        CropFlip((3, 8, 8), scale=(1, 0.5))


# sound


def test_bands_and_stretches_of_a_spectrogram_are_hidden_behind_its_mean() -> None:
    x = torch.randn(1, 1, 30, 100, generator=drawn())
    widths: dict[str, set[int]] = {"bands": set(), "time": set()}
    for number in range(300):
        for name, axis, transform in (
            ("bands", 0, SpecAugment((1, 30, 100), frequency_masks=1, frequency_width=4, time_masks=0)),
            ("time", 1, SpecAugment((1, 30, 100), frequency_masks=0, time_masks=1, time_width=70, share=0.05)),
        ):
            found = transform(x, drawn(number))
            hidden = (found != x)[0, 0].all(dim=1 - axis)
            assert torch.equal(found[found != x], x.double().mean().float().expand_as(found[found != x]))
            assert int((found != x).sum()) == int(hidden.sum()) * (100 if axis == 0 else 30)
            places = hidden.nonzero().flatten()
            assert len(places) == 0 or int(places[-1] - places[0]) == len(places) - 1
            widths[name].add(len(places))
    assert widths == {"bands": {0, 1, 2, 3, 4}, "time": {0, 1, 2, 3, 4, 5}}


def test_time_is_the_axis_that_it_is_said_to_be() -> None:
    x = torch.randn(1, 1, 100, 30, generator=drawn())
    found = SpecAugment((1, 100, 30), frequency_masks=0, time="first")(x, drawn(1))
    hidden = (found != x)[0, 0]
    assert hidden.any()
    assert torch.equal(hidden.any(dim=1), hidden.all(dim=1))


def test_a_sequence_is_hidden_where_its_tokens_are() -> None:
    mask = (torch.arange(20) < 10).unsqueeze(0)
    x = Tokens(torch.randn(1, 20, 6, generator=drawn()) * mask.unsqueeze(2), mask)
    mean = x.values[0, :10].double().mean().float()
    found = SpecAugment((20, 6), frequency_masks=0, share=0.5)(x, drawn(1))
    changed = found.values != x.values
    assert changed.any()
    assert torch.equal(found.values[changed], mean.expand(int(changed.sum())))
    assert not found.values[0, 10:].any()


def test_a_shift_is_a_roll_of_every_step_up_to_the_most() -> None:
    x = torch.arange(20.0).view(1, 1, 1, 20)
    steps = {int(TimeShift((1, 1, 20), most=2)(x, drawn(number)).argmin()) for number in range(100)}
    assert steps == {18, 19, 0, 1, 2}
    mask = (torch.arange(6) < 4).unsqueeze(0)
    words = Tokens(torch.tensor([1.0, 2, 3, 4, 0, 0]).view(1, 6, 1), mask)
    found = {tuple(TimeShift((6, 1), most=1)(words, drawn(number)).values.flatten().tolist()) for number in range(50)}
    assert found == {(1, 2, 3, 4, 0, 0), (4, 1, 2, 3, 0, 0), (2, 3, 4, 1, 0, 0)}


def test_noise_is_in_units_of_the_sample() -> None:
    x = 7 + 3 * torch.randn(1, 1, 50, 50, generator=drawn())
    strengths = [float((Noise((1, 50, 50), level=0.2)(x, drawn(number)) - x).std() / x.std()) for number in range(200)]
    assert max(strengths) < 0.21
    assert sum(strengths) / len(strengths) == pytest.approx(0.1, abs=0.015)
    assert torch.equal(Noise((1, 50, 50), level=0)(x, drawn()), x)


@pytest.mark.parametrize(
    ("make", "shape", "said"),
    [
        (SpecAugment, (5,), r"takes spectrograms \[C, F, T\] or sequences \[T, F\]; found \[5\]"),
        (SpecAugment, (12, 1), "more than one frequency or feature"),
        (TimeShift, (3, 3, 8, 8), "takes spectrograms"),
        (Noise, (12, 1), "not word numbers"),
        (TokenDropout, (3, 8, 8), r"takes sequences \[T, F\] or word numbers \[T, 1\]; found \[3, 8, 8\]"),
    ],
)
def test_what_does_not_fit_is_refused(make: type, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(Unsuitable, match=said):
        make(shape)


def test_noise_on_bytes_is_refused() -> None:
    with pytest.raises(Unsuitable, match=r"adds noise to floats; found torch\.uint8"):
        Noise((3, 8, 8))(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), drawn())


# words


def test_words_are_left_out_as_often_as_is_said_and_one_stays() -> None:
    mask = (torch.arange(12) < 10).unsqueeze(0)
    x = Tokens(torch.arange(1.0, 13).view(1, 12, 1) * mask.unsqueeze(2), mask)
    left = 0
    for number in range(400):
        found = TokenDropout((12, 1), share=0.3)(x, drawn(number))
        assert torch.equal(found.values.flatten(), torch.where(found.mask[0], x.values.flatten(), 0))
        assert not (found.mask & ~mask).any()
        left += 10 - int(found.mask.sum())
    assert left / 4000 == pytest.approx(0.3, abs=5 * math.sqrt(0.3 * 0.7 / 4000))
    kept = {int(TokenDropout((12, 1), share=1)(x, drawn(number)).values.sum()) for number in range(100)}
    assert kept == set(range(1, 11))
    assert torch.equal(TokenDropout((12, 1), share=0)(x, drawn()).values, x.values)
