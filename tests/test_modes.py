"""Which modules are known to compute the same in train mode and in eval mode, and which are not."""

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.spectral_norm import spectral_norm

from agmbench.encoders.bilstm import BiLSTM
from agmbench.encoders.conv import Conv
from agmbench.encoders.linear import Linear
from agmbench.encoders.lstm import LSTM
from agmbench.encoders.mlp import MLP
from agmbench.encoders.resnet import ResNet
from agmbench.encoders.transformer import Transformer
from agmbench.modes import DROPPING, LAYERS, same_in_training

VIT = {"img_size": 16, "patch_size": 8, "depth": 2, "embed_dim": 12, "num_heads": 3}


class Unknown(nn.Module):
    """A module of which nothing is known."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Noisy(MLP):
    """A class that derives from a known one, but is not the same in both modes."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        features = super().forward(x)
        return features + torch.randn_like(features) if self.training else features


def patched() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.forward = lambda x: x  # type: ignore[method-assign]
    return layer


def hooked() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda *_: None)
    return layer


@pytest.mark.parametrize(
    ("made", "shape"),
    [
        (MLP((5,)), (5,)),
        (Linear((4, 5)), (4, 5)),
        (LSTM((4, 5), layers=2), (4, 5)),
        (BiLSTM((4, 5), width=4), (4, 5)),
        (Transformer((4, 5), layers=2, heads=2, width=8, dropout=0.0), (4, 5)),
        (ResNet((1, 16, 16), model="vit_tiny_patch16_224", model_args=VIT), (1, 16, 16)),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.SiLU(), nn.Dropout2d(0.0), nn.AdaptiveAvgPool2d(1)),
            (1, 8, 8),
        ),
        (nn.Sequential(nn.Linear(4, 4), nn.GRU(4, 4, num_layers=2)), (3, 4)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_known_to_be_the_same_is(made: nn.Module, shape: tuple[int, ...]) -> None:
    assert same_in_training(made.train())
    x = torch.randn(6, *shape)
    torch.manual_seed(0)
    one = made(x)
    state = torch.get_rng_state()
    two = made.eval()(x)
    for a, b in zip(values(one), values(two), strict=True):
        assert torch.equal(a, b)
    torch.manual_seed(0)
    assert torch.equal(state, torch.get_rng_state()), "nothing is drawn"


def values(found: object) -> list[Tensor]:
    if isinstance(found, Tensor):
        return [found]
    return list(found) if isinstance(found, tuple) else [found.values]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "made",
    [
        MLP((5,), dropout=0.1),
        Conv((1, 8, 8)),
        LSTM((4, 5), dropout=0.1),
        Transformer((4, 5), layers=1, heads=2, width=8, dropout=0.1),
        ResNet((1, 32, 32), width=4),
        ResNet((1, 16, 16), model="vit_tiny_patch16_224", model_args={**VIT, "drop_path_rate": 0.1}),
        timm.create_model("vit_tiny_patch16_224", num_classes=0, attn_drop_rate=0.1, **VIT),
        Noisy((5,)),
        Unknown(),
        nn.Sequential(nn.Linear(4, 4), Unknown()),
        nn.LSTM(4, 4, num_layers=2, dropout=0.1),
        nn.RReLU(),
        nn.BatchNorm1d(4),
        nn.BatchNorm1d(4, track_running_stats=False),
        nn.InstanceNorm1d(4, track_running_stats=True),
        nn.FractionalMaxPool2d(2, output_size=2),
        nn.MultiheadAttention(4, 2),
        nn.TransformerEncoderLayer(4, 2, dropout=0.0),
        Transformer((4, 5), variant="official", layers=1, heads=2, width=8, dropout=0.0),
        spectral_norm(nn.Linear(4, 4)),
        parametrizations.spectral_norm(nn.Linear(4, 4)),
        hooked(),
        patched(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_differs_or_is_not_known_is_not_taken_for_the_same(made: nn.Module) -> None:
    assert not same_in_training(made.train())


def test_what_is_in_eval_mode_already_is_the_same() -> None:
    assert same_in_training(ResNet((1, 32, 32), width=4).eval())
    half = nn.Sequential(nn.BatchNorm1d(4).eval(), nn.Linear(4, 4))
    assert same_in_training(half)
    half[1].register_forward_hook(lambda *_: None)
    assert not same_in_training(half)


@pytest.mark.parametrize("name", DROPPING)
def test_what_drops_is_the_same_where_nothing_is_dropped(name: str) -> None:
    arguments = (3, 3, 2) if DROPPING[name] == "dropout" else ()
    assert same_in_training(getattr(nn, name)(*arguments, **{DROPPING[name]: 0.0}))
    assert not same_in_training(getattr(nn, name)(*arguments, **{DROPPING[name]: 0.1}))


@pytest.mark.parametrize("name", LAYERS.split())
def test_no_known_layer_reads_its_mode(name: str) -> None:
    """Neither its code nor that of a base class uses a name such as `training` or `dropout`."""
    for kind in getattr(nn, name).__mro__:
        if kind is nn.Module:
            break
        assert not {"training", "dropout"} & {used for code in codes(kind) for used in code.co_names}, kind


def codes(kind: type) -> list:  # type: ignore[type-arg]
    return [member.__code__ for member in vars(kind).values() if hasattr(member, "__code__")]
