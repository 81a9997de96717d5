"""A linear adapter, one token at a time."""

from typing import Annotated

from annotated_types import Gt
from torch import Tensor, nn

from agmbench.contracts import Encoder, Input, Tokens, Unsuitable


class Linear(Encoder):
    """A linear projection of each token: `[B, T, F]` to tokens `[B, T, width]`.

    width: width of a token. UMONS code and default 512.
    """

    same_in_training = True

    def __init__(self, shape: tuple[int, ...], *, width: Annotated[int, Gt(0)] = 512) -> None:
        super().__init__(shape)
        if len(shape) != 2:
            raise Unsuitable(f"takes a sequence [T, F]; found the shape {list(shape)}; take encoder mlp")
        self.project = nn.Linear(shape[1], width)
        self.out_features = width

    def forward(self, x: Input) -> Tokens:
        values, mask = (x.values, x.mask) if isinstance(x, Tokens) else (x, None)
        projected: Tensor = self.project(values)  # [B, T, width]
        return Tokens(projected, mask)
