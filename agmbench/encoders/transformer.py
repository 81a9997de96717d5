"""Transformer encoders: the paper's, by Hugging Face transformers and built from a configuration, and the official code's, by torch."""

from math import prod
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from agmbench.contracts import Encoder, Input, Tokens, Unsuitable

FEED_FORWARD = 2048  # torch's own default, which the official code leaves as it is


class Transformer(Encoder):
    """A linear projection of each frame, and `layers` layers of self-attention.

    A sequence `[B, T, F]` has T frames; an image or spectrogram `[B, C, H, W]` is read as W frames of C*H numbers.

    variant: `paper` (default) adds learned positions, does not see frames that a mask hides, and gives tokens `[B, T, width]`; its
        feed-forward width is 4 * width, as in BERT. `official` is the network of the official code on UR-FUNNY: a projection without
        bias, then torch's `TransformerEncoder` (feed-forward width 2048) without positions and without mask, so that it sees padding. Its
        output is the state of the first frame, `[B, width]`.
    layers, heads, width: paper (UR-FUNNY) and defaults 4, 8, 768; official code 8, 4, 768.
    dropout: dropout of hidden states and attention. Not stated in the paper; in torch, in BERT and ours .1.

    If its input is muted with zeros, the official network normalises only zeros, and gradients through such a pass explode as soon as
    AGM's kappa leaves 1. Use `modulator.muted_gradient=false`, or `mute=random`.
    """

    same_in_training = True

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        variant: Literal["paper", "official"] = "paper",
        layers: Annotated[int, Gt(0)] = 4,
        heads: Annotated[int, Gt(0)] = 8,
        width: Annotated[int, Gt(0)] = 768,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
    ) -> None:
        super().__init__(shape)
        if len(shape) not in (2, 3):
            raise Unsuitable(f"takes a sequence [T, F] or an image [C, H, W]; found the shape {list(shape)}; take encoder mlp")
        if width % heads:
            raise Unsuitable(f"width should be a multiple of heads; found width {width} and {heads} heads")
        frames, frame_size = (shape[0], shape[1]) if len(shape) == 2 else (shape[-1], prod(shape[:-1]))
        self.official = self.sees_padding = variant == "official"
        self.project = nn.Linear(frame_size, width, bias=not self.official)
        self.body = _torchs(layers, heads, width, dropout) if self.official else _bert(frames, layers, heads, width, dropout)
        self.out_features = width

    def forward(self, x: Input) -> Tensor | Tokens:
        values, mask = (x.values, x.mask) if isinstance(x, Tokens) else (x, None)
        if values.ndim == 4:
            values = values.flatten(1, 2).transpose(1, 2)  # [B, C, H, W] -> [B, W, C*H]
        if self.official:
            first: Tensor = self.body(self.project(values))[:, 0]  # [B, width]
            return first
        count = values.shape[1]
        # A mask [B, 1, T, T] says for each token which others it sees. Given a mask [B, T], transformers would test whether it hides
        # anything at all, which waits for the device.
        seen = None if mask is None else mask[:, None, None, :].expand(-1, 1, count, count)
        states: Tensor = self.body(inputs_embeds=self.project(values), attention_mask=seen).last_hidden_state  # [B, T, width]
        return Tokens(states, mask)


def _bert(frames: int, layers: int, heads: int, width: int, dropout: float) -> nn.Module:
    config = BertConfig(
        vocab_size=1,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=frames,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    body: nn.Module = BertModel(config, add_pooling_layer=False)
    body.set_input_embeddings(nn.Identity())  # type: ignore[operator]  # frames are embedded by the projection
    return body


def _torchs(layers: int, heads: int, width: int, dropout: float) -> nn.Module:
    layer = nn.TransformerEncoderLayer(width, heads, FEED_FORWARD, dropout, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
