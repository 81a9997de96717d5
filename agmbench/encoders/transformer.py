"""A Transformer encoder by Hugging Face transformers, built from a configuration."""

from math import prod
from typing import Annotated

from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from agmbench.contracts import Encoder, Input, Tokens, Unsuitable


class Transformer(Encoder):
    """A linear projection of each frame, learned positions, and `layers` of self-attention: tokens `[B, T, width]`.

    A sequence `[B, T, F]` has T frames; an image or spectrogram `[B, C, H, W]` is read as W frames of C*H numbers.

    layers, heads, width: paper (UR-FUNNY) and defaults 4, 8, 768. The feed-forward width is 4 * width, as in BERT.
    dropout: of hidden states and attention. Not stated in the paper; ours .1, BERT's.
    """

    same_in_training = True

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
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
        self.project = nn.Linear(frame_size, width)
        self.body = BertModel(config, add_pooling_layer=False)
        self.body.set_input_embeddings(nn.Identity())  # frames are embedded by `project`
        self.out_features = width

    def forward(self, x: Input) -> Tokens:
        values, mask = (x.values, x.mask) if isinstance(x, Tokens) else (x, None)
        if values.ndim == 4:
            values = values.flatten(1, 2).transpose(1, 2)  # [B, C, H, W] -> [B, W, C*H]
        count = values.shape[1]
        # for every token the tokens it sees, [B, 1, T, T]: of a mask [B, T] transformers would ask whether it hides anything at all
        seen = None if mask is None else mask[:, None, None, :].expand(-1, 1, count, count)
        states: Tensor = self.body(inputs_embeds=self.project(values), attention_mask=seen).last_hidden_state  # [B, T, width]
        return Tokens(states, mask)
