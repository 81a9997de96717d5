"""Any Hugging Face text network over raw text, with its tokenizer."""

from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt
from torch import Tensor

from agmbench.contracts import Input, Tokens, Unsuitable
from agmbench.encoders.pretrained import Backbone, Trained, network, without_pooler
from agmbench.encoders.states import States
from agmbench.encoders.words import BYTES, Words


class HFText(Backbone):
    """`AutoModel` over raw text, given as bytes `[B, T, 1]` with a mask (`agmbench.contracts.utf8`); its last hidden states are tokens
    `[B, L, D]`.

    Text is turned into tokens on the host, while batches are read. A batch is as long as its longest text (at most `length` tokens). A
    text that is muted or empty has no token.

    model: a name on the Hugging Face hub, which needs a network once, or a folder. Default bert-base-uncased.
    config: build the network from this configuration (`model_type` and its own keys) with random weights instead; needs no network.
    weights: a file with initial weights (.safetensors or of torch.save).
    tokenizer: a name or a folder, or `bytes`, with each byte as a token and without any file. Default: the model's; with a config, bytes.
    length: most tokens of a text; a longer text is cut off.
    trained: which part learns: `all` (default), `none` (the network stays in eval mode), the last N layers, or `lora`.
    lora: parameters of peft's `LoraConfig`, for trained=lora (`pip install 'agmbench[lora]'`).
    output: `tokens` (default; a fusion that takes vectors gets their mean), or `first`, only the first token (BERT's CLS).

    For token ids that were made beforehand, use encoder `language-model`.
    """

    same_in_training = True
    reads_numbers = True
    reads_text = True

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        model: str = "bert-base-uncased",
        config: dict[str, Any] | None = None,
        weights: str | None = None,
        tokenizer: str | None = None,
        length: Annotated[int, Gt(1)] = 128,
        trained: Trained = "all",
        lora: dict[str, Any] | None = None,
        output: Literal["tokens", "first"] = "tokens",
    ) -> None:
        super().__init__(shape)
        if len(shape) != 2 or shape[1] != 1:
            raise Unsuitable(
                f"takes raw text, bytes [T, 1]; found the shape {list(shape)}; take encoder language-model or lstm"
            )
        self.net = network(model, config, weights)
        without_pooler(self.net)
        places = getattr(self.net.config, "max_position_embeddings", length)
        self.words = Words(tokenizer or (BYTES if config is not None else model), min(length, places))
        self.states = States(self.net)
        self.first = output == "first"
        self.out_features = self.width(torch.zeros(1, 3, 2), "the network takes no text")
        self.settle(trained, lora)

    def on_host(self, x: Input) -> Tensor:
        """Turn raw text into ids, mask and segments `[B, 3, L]`."""
        return self.words(x)

    def forward(self, x: Input) -> Tensor | Tokens:
        tokenized = isinstance(x, Tensor) and x.ndim == 3 and x.shape[1] == 3 and x.shape[2] != 1
        values = x if tokenized else self.words(x, whole=True).to(x.values.device if isinstance(x, Tokens) else x.device)
        assert isinstance(values, Tensor)
        ids, mask, segments = values.round().long().unbind(dim=1)  # each [B, L]
        found = self.states(self.net, ids, mask > 0, segments)
        return found.values[:, 0] if self.first else found
