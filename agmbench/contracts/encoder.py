"""What an encoder of one modality is."""

from typing import Any, ClassVar

from torch import Tensor, nn

from agmbench.contracts.inputs import Input, Tokens


class Encoder(nn.Module):
    """One modality's input `[B, *shape]` to features `[B, out_features]`, or to `Tokens` `[B, T, out_features]`.

    A subclass sets `out_features` in `__init__(self, shape, *, ...)` and raises `Unsuitable` for a shape that it cannot take.
    A fusion that takes vectors is given the mean of the tokens, one that takes tokens a vector as a sequence of one.

    `guided` says that the encoder looks at other modalities too: its `forward(x, inputs)` is then given all inputs of the batch, the
    absent ones muted, and each coalition costs a full pass.

    `same_in_training` says that `forward` does not look at `training`, and draws nothing: if none of the encoder's modules does either
    (no BatchNorm, no dropout above 0), methods that ask for passes in eval mode too take one for both. A subclass says it anew.

    `reads_numbers` says that its input are numbers of words or of tokens, so that there is nothing between two of them, `reads_text`
    that they are the bytes of raw text (`utf8`), of which it makes tokens by `on_host`.

    `sees_padding` says that it reads no mask, as some published networks do; otherwise what a mask hides changes nothing.
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
        """What becomes of its input before it is copied to the device, as where text is made tokens; by default nothing.

        `forward` takes both, what comes out of this and what goes in, and makes the same of them.
        """
        return x

    def forward(self, *inputs: Any, **named: Any) -> Tensor | Tokens:
        raise TypeError(f"{type(self).__name__} should define forward(x)")
