"""A multilayer perceptron on the flattened input."""

from itertools import pairwise
from math import prod
from typing import Annotated

from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from agmbench.contracts import Encoder, Input, Tokens


class MLP(Encoder):
    """`layers` times Linear, ReLU, dropout; from `[B, *shape]` to `[B, hidden]`. It takes any shape.

    hidden: width of every layer. Ours 128.
    layers: number of layers. Ours 2.
    dropout: dropout after each layer. Ours none.
    """

    same_in_training = True

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        hidden: Annotated[int, Gt(0)] = 128,
        layers: Annotated[int, Gt(0)] = 2,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
    ) -> None:
        super().__init__(shape)
        widths = [prod(shape), *[hidden] * layers]
        blocks: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(widths):
            blocks += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
        self.net = nn.Sequential(*blocks)
        self.out_features = hidden

    def forward(self, x: Input) -> Tensor:
        if isinstance(x, Tokens):
            x = x.values if x.mask is None else x.values * x.mask.unsqueeze(2)
        features: Tensor = self.net(x)  # [B, hidden]
        return features
