"""The towers of CLIP and of networks like it: pictures or raw text to embeddings that were made to be compared."""

from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt
from torch import Tensor, nn

from agmbench.contracts import Input, Tokens, Unsuitable
from agmbench.encoders.pretrained import Backbone, Trained, network
from agmbench.encoders.words import BYTES, Words


class CLIP(Backbone):
    """One tower of `AutoModel` (CLIP, Radford et al., ICML 2021; SigLIP): pictures `[B, C, H, W]`, frames `[B, T, C, H, W]` or raw text
    `[B, T, 1]` (`agmbench.contracts.utf8`) to embeddings `[B, D]`, or to the tower's states as tokens.

    Each modality has a tower with weights of its own. Frames go through the tower one by one; their embeddings are averaged, and their
    tokens follow one another. Pictures are taken as the data set gives them; no mean is subtracted.

    model: a name on the Hugging Face hub, which needs a network once, or a folder. Default openai/clip-vit-base-patch32.
    config: build the network from this configuration (`model_type`, `vision_config`, `text_config`, ...) with random weights instead;
        needs no network.
    weights: a file of weights (.safetensors or of torch.save) of the whole network.
    tokenizer: for text, a name or a folder, or `bytes`, with each byte as a token. Default: the model's; with a config, bytes.
    length: most tokens of a text; CLIP has 77.
    trained: which part of the tower learns: `all` (default), `none` (it stays in eval mode), its last N layers, or `lora`.
    lora: parameters of peft's `LoraConfig`, for trained=lora (`pip install 'agmbench[lora]'`).
    output: `embedding` (default), projected as CLIP compares it but not normalised, or `tokens`.
    """

    same_in_training = True

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        model: str = "openai/clip-vit-base-patch32",
        config: dict[str, Any] | None = None,
        weights: str | None = None,
        tokenizer: str | None = None,
        length: Annotated[int, Gt(1)] = 77,
        trained: Trained = "all",
        lora: dict[str, Any] | None = None,
        output: Literal["embedding", "tokens"] = "embedding",
    ) -> None:
        super().__init__(shape)
        text = len(shape) == 2 and shape[1] == 1
        if len(shape) not in (3, 4) and not text:
            raise Unsuitable(f"takes an image [C, H, W], frames [T, C, H, W] or raw text [T, 1]; found the shape {list(shape)}")
        whole = network(model, config, weights)
        if not hasattr(whole, "vision_model") or not hasattr(whole, "text_model"):
            raise Unsuitable(
                f"the network '{whole.config.model_type}' has no towers of pictures and text; take hf-vision or hf-text"
            )
        self.net = Tower(whole, "text" if text else "vision", output == "embedding")
        self.reads_text = self.reads_numbers = text
        self.words: Words | None = None
        if text:
            limit = min(length, whole.config.text_config.max_position_embeddings)
            self.words = Words(tokenizer or (BYTES if config is not None else model), limit)
        self.out_features = self.width(
            torch.zeros(1, 3, 2) if text else torch.zeros(1, *shape), f"the tower cannot take inputs {list(shape)}"
        )
        self.settle(trained, lora)

    def on_host(self, x: Input) -> Input:
        """Turn raw text into ids, mask and segments `[B, 3, L]`; return pictures unchanged."""
        return x if self.words is None else self.words(x)

    def forward(self, x: Input) -> Tensor | Tokens:
        if self.words is not None:
            return self._of_text(x)
        assert isinstance(x, Tensor)
        states = self.net(x if x.ndim == 4 else x.flatten(0, 1))
        if x.ndim == 5:
            states = states.unflatten(0, x.shape[:2])
            states = states.mean(dim=1) if self.net.embeds else states.flatten(1, 2)
        return states if self.net.embeds else Tokens(states)

    def _of_text(self, x: Input) -> Tensor | Tokens:
        assert self.words is not None
        tokenized = isinstance(x, Tensor) and x.ndim == 3 and x.shape[1] == 3 and x.shape[2] != 1
        values = x if tokenized else self.words(x, whole=True).to(x.values.device if isinstance(x, Tokens) else x.device)
        assert isinstance(values, Tensor)
        ids, mask, _ = values.round().long().unbind(dim=1)  # each [B, L]
        states: Tensor = self.net(ids)
        return states if self.net.embeds else Tokens(states, mask > 0)


class Tower(nn.Module):
    """One tower with its projection. Text needs no mask: CLIP's text tower only looks back, and is read at the end of the text."""

    same_in_training = True

    def __init__(self, whole: Any, kind: Literal["vision", "text"], embeds: bool) -> None:
        super().__init__()
        self.kind, self.embeds = kind, embeds
        self.tower = whole.vision_model if kind == "vision" else whole.text_model
        projection = getattr(whole, "visual_projection" if kind == "vision" else "text_projection", None)
        self.project = projection if embeds and projection is not None else nn.Identity()
        for name, part in self.tower.named_modules():
            if kind == "vision" and not embeds and name.endswith("post_layernorm"):
                part.requires_grad_(False)  # this layer is applied only to the class token, which `output=tokens` does not use
        self.most = getattr(whole.config.text_config, "vocab_size", 1) - 1

    def forward(self, x: Tensor) -> Tensor:
        said = self.tower(pixel_values=x) if self.kind == "vision" else self.tower(input_ids=x.clamp(0, self.most))
        found: Tensor = self.project(said.pooler_output) if self.embeds else said.last_hidden_state
        return found
