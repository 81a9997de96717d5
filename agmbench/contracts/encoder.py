"""What an encoder of one modality is."""

from typing import Any, ClassVar

from torch import Tensor, nn

from agmbench.contracts.inputs import Input, Tokens


class Encoder(nn.Module):
    """From the input of one modality, `[B, *shape]`, to features `[B, out_features]`, or to `Tokens` `[B, T, out_features]`.

    A subclass sets `out_features` in `__init__(self, shape, *, ...)` and raises `Unsuitable` for a shape that it cannot take.
    A fusion that takes vectors is given the mean of the tokens. A fusion that takes tokens is given a vector as a sequence of length one.

    `guided`: the encoder looks at other modalities too. Its `forward(x, inputs)` is then given all inputs of the batch, with the absent
    ones muted, and each coalition costs a full pass.

    `same_in_training`: `forward` does not depend on `training` and draws no random numbers. If this holds for all modules of the encoder
    (no BatchNorm, no dropout above 0), one pass serves methods that need passes in train mode and in eval mode. Each subclass has to
    declare it again.

    `reads_numbers`: the input consists of numbers of words or of tokens, between which there is nothing to interpolate. `reads_text`: the
    input consists of the bytes of raw text (`utf8`), which `on_host` turns into tokens.

    `sees_padding`: the encoder reads no mask, as some published networks do. Otherwise, what a mask hides changes nothing.
    """

    guided: ClassVar[bool] = False
    same_in_training: ClassVar[bool] = False
    sees_padding: bool = False
    reads_numbers: bool = False
    reads_text: bool = False
    out_features: int

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()

    def on_host(self, x: Input) -> Input:
        """Change the input before it is copied to the device, for example turn text into tokens; by default nothing is changed.

        `forward` takes both the input and the output of this, and gives the same features for both.
        """
        return x

    def forward(self, *inputs: Any, **named: Any) -> Tensor | Tokens:
        raise TypeError(f"{type(self).__name__} should define forward(x)")
