"""A small convolutional network that is fast enough for a CPU."""

from itertools import pairwise
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor, nn

from agmbench.contracts import Encoder, Unsuitable


class Conv(Encoder):
    """`layers` times a 3x3 convolution of stride 2 (no bias), BatchNorm and ReLU; then the mean over the image.

    From `[B, C, H, W]` to `[B, width * 2^(layers-1)]`: in each layer the image is halved (rounded up) and the width doubles.

    width: channels after the first layer. Ours 16.
    layers: number of layers. Ours 3.
    dropout: dropout of the features. Ours none.
    pool: first average the input over squares of `pool` by `pool` points, which makes large inputs cheap. Ours 1, no averaging.
    """

    same_in_training = True

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        width: Annotated[int, Gt(0)] = 16,
        layers: Annotated[int, Gt(0), Le(8)] = 3,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
        pool: Annotated[int, Gt(0)] = 1,
    ) -> None:
        super().__init__(shape)
        if len(shape) != 3:
            raise Unsuitable(f"takes an image [C, H, W]; found the shape {list(shape)}; take encoder mlp")
        if pool > min(shape[1:]):
            raise Unsuitable(f"pool {pool} is larger than the input {list(shape)}; take one of {min(shape[1:])} at most")
        blocks: list[nn.Module] = [nn.AvgPool2d(pool)] if pool > 1 else []
        for before, after in pairwise([shape[0], *(width * 2**layer for layer in range(layers))]):
            blocks += [
                nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        self.net = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout))
        self.out_features = width * 2 ** (layers - 1)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.net(x)  # [B, out_features]
        return features
