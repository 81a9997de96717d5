"""Visual attention that another modality guides: the visual branch of the PSP network (Zhou et al., CVPR 2021)."""

from collections.abc import Mapping
from typing import Annotated

from annotated_types import Gt
from torch import Tensor, nn

from agmbench.contracts import Encoder, Input, Tokens, Unsuitable
from agmbench.encoders.bilstm import BiLSTM, projection


class Guided(Encoder):
    """From `[B, T, H, W, D]` to tokens `[B, T, 2 * width]`: each of the T feature maps becomes a mean over its H*W places, weighted by an
    attention that segment t of the guide computes; then encoder `bilstm` runs over the T means.

    The attention is that of Tian et al. (ECCV 2018), which PSP uses. In the official code the guide enters it through the layers that
    also feed the LSTM of the audio; here it has layers of its own, so that no encoder is part of another. A guide that is absent, as in
    a unimodal model ("mono-modal concept"), is zero.

    guide, guide_size: the modality that guides; its inputs are `[B, T, guide_size]`. Official: audio, 128 VGGish features.
    attention: width of the layer where places and guide meet. Official and default 512.
    width, inner: those of encoder `bilstm`, and of the guide's layers. Official and defaults 128, 256.
    """

    guided = True

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        guide: str = "audio",
        guide_size: Annotated[int, Gt(0)] = 128,
        attention: Annotated[int, Gt(0)] = 512,
        width: Annotated[int, Gt(0)] = 128,
        inner: Annotated[int, Gt(0)] = 256,
    ) -> None:
        super().__init__(shape)
        if len(shape) != 4:
            raise Unsuitable(f"takes feature maps [T, H, W, D]; found the shape {list(shape)}; take encoder resnet or mlp")
        segments, height, breadth, size = shape
        self.guide, self.guide_shape = guide, (segments, guide_size)
        self.project = projection(guide_size, inner, width)
        self.listen = nn.Linear(width, attention)
        self.look = nn.Linear(size, attention)
        self.heard = nn.Linear(attention, height * breadth, bias=False)
        self.seen = nn.Linear(attention, height * breadth, bias=False)
        self.weigh = nn.Linear(height * breadth, 1, bias=False)
        for layer in (self.listen, self.look, self.heard, self.seen, self.weigh):
            nn.init.xavier_uniform_(layer.weight)
        self.sequence = BiLSTM((segments, size), width=width, inner=inner)
        self.out_features = self.sequence.out_features

    def forward(self, x: Tensor, inputs: Mapping[str, Input]) -> Tokens:
        places = x.flatten(2, 3)  # [B, T, H*W, D]
        heard = self.heard(self.listen(self.project(self._guide(x, inputs))).relu())  # [B, T, H*W]
        scores = self.weigh((self.seen(self.look(places).relu()) + heard.unsqueeze(3)).tanh())  # [B, T, H*W, 1]
        attended = (scores.softmax(dim=2) * places).sum(dim=2)  # [B, T, D]
        tokens: Tokens = self.sequence(attended)
        return tokens

    def _guide(self, x: Tensor, inputs: Mapping[str, Input]) -> Tensor:
        if self.guide not in inputs:
            return x.new_zeros(len(x), *self.guide_shape)
        guide = inputs[self.guide]
        values = guide.values if isinstance(guide, Tokens) else guide
        if values.shape[1:] != self.guide_shape:
            raise Unsuitable(
                f"encoder guided takes {list(self.guide_shape)} of its guide '{self.guide}'; found {list(values.shape[1:])}"
            )
        return values
