"""AGM's gradient explodes if a muted input of zeros reaches a LayerNorm without any bias before it; two parameters prevent this.

The network is a small version of that in the official UR-FUNNY code: a projection without bias, then torch's TransformerEncoder.
"""

import torch
from torch import Tensor, nn

from agmbench.contracts import Batch, Encoder, TensorSplit
from agmbench.fusions.concat import Concat
from agmbench.model import MultimodalModel
from agmbench.modulators.agm import AGM
from agmbench.muting import Mean, Zeros

SHAPES = {"visual": (8, 37), "audio": (8, 12), "text": (8, 30)}
BATCH, WIDTH = 16, 32


class BiasFree(Encoder):
    """A 1x1 convolution without bias and two Transformer layers; the feature is the last token."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.project = nn.Conv1d(shape[1], WIDTH, kernel_size=1, bias=False)
        layer = nn.TransformerEncoderLayer(WIDTH, nhead=4, dim_feedforward=4 * WIDTH, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.out_features = WIDTH

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.body(self.project(x.transpose(1, 2)).transpose(1, 2))  # [B, T, WIDTH]
        return features[:, -1]


def gradient_norm(alpha: float, muted_gradient: bool = True, mean: bool = False) -> float:
    torch.manual_seed(0)
    inputs = {m: torch.randn(BATCH, *shape) + 0.5 for m, shape in SHAPES.items()}
    batch = Batch(inputs, torch.arange(BATCH) % 2, torch.arange(BATCH))
    encoders = {m: BiasFree(shape) for m, shape in SHAPES.items()}
    muting = Mean(TensorSplit(inputs, batch.targets), SHAPES) if mean else Zeros()
    model = MultimodalModel(encoders, Concat(dict.fromkeys(SHAPES, WIDTH), 2), muting=muting).train()
    with torch.no_grad():  # puts one modality ahead, so that kappa is not 1
        model.fusion.head.weight[:, :WIDTH] *= 4  # type: ignore[union-attr, index, operator]
    modulator = AGM(tuple(SHAPES), alpha=alpha, clip=None, muted_gradient=muted_gradient)
    modulator.backward(model, batch)  # type: ignore[arg-type]
    return float(torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm())


def test_the_gradient_explodes_where_zeros_meet_a_layer_norm() -> None:
    assert gradient_norm(alpha=2) > 20 * gradient_norm(alpha=0)


def test_detached_muted_passes_cure_it() -> None:
    assert gradient_norm(alpha=2, muted_gradient=False) < 3 * gradient_norm(alpha=0)


def test_muting_by_the_mean_cures_it() -> None:
    assert gradient_norm(alpha=2, mean=True) < 3 * gradient_norm(alpha=0, mean=True)
