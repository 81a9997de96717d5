"""A bidirectional LSTM over a sequence: the audio branch of the PSP network (Zhou et al., CVPR 2021)."""

from typing import Annotated

from annotated_types import Gt
from torch import Tensor, nn

from agmbench.contracts import Encoder, Input, Tokens, Unsuitable
from agmbench.encoders.recurrent import Recurrent


class BiLSTM(Encoder):
    """From `[B, T, F]` to tokens `[B, T, 2 * width]`: two linear layers F -> inner -> width without bias, then one LSTM per direction.

    Tokens that a mask hides are not skipped; the LSTM sees zeros there.

    width: width of the LSTM in each direction. Official PSP code and default 128.
    inner: width between the linear layers. Official and default 256.
    """

    same_in_training = True

    def __init__(
        self, shape: tuple[int, ...], *, width: Annotated[int, Gt(0)] = 128, inner: Annotated[int, Gt(0)] = 256
    ) -> None:
        super().__init__(shape)
        if len(shape) != 2:
            raise Unsuitable(f"takes a sequence [T, F]; found the shape {list(shape)}; take encoder resnet or mlp")
        self.project = projection(shape[1], inner, width)
        self.lstm = Recurrent(width, width, batch_first=True, bidirectional=True)
        self.out_features = 2 * width

    def forward(self, x: Input) -> Tokens:
        values, mask = (x.values, x.mask) if isinstance(x, Tokens) else (x, None)
        projected: Tensor = self.project(values if mask is None else values * mask.unsqueeze(2))
        states, _ = self.lstm(projected)
        return Tokens(states, mask)


def projection(size: int, inner: int, width: int) -> nn.Sequential:
    """Two linear layers without bias and with nothing between them, as in the official code."""
    return nn.Sequential(nn.Linear(size, inner, bias=False), nn.Linear(inner, width, bias=False))
