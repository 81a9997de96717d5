"""Any Hugging Face vision network, for pictures or for videos."""

import inspect
from typing import Any, Literal

import torch
from torch import Tensor

from agmbench.contracts import Tokens, Unsuitable
from agmbench.encoders.pretrained import Backbone, Trained, as_tokens, network, without_pooler


class HFVision(Backbone):
    """`AutoModel` over pictures `[B, C, H, W]` or videos `[B, T, C, H, W]`; its last hidden states are tokens `[B, N, D]`.

    A network for videos (VideoMAE, ViViT, TimeSformer: one whose configuration has `num_frames`) sees all frames at once. A network for
    pictures (ViT, DINOv2, ResNet, ...) sees the frames one by one, and their tokens follow one another. Pictures are taken as the data
    set gives them; no mean is subtracted.

    model: a name on the Hugging Face hub, which needs a network once, or a folder. Default google/vit-base-patch16-224-in21k.
    config: build the network from this configuration (`model_type` and its own keys) with random weights instead; needs no network.
        `image_size`, `num_channels` and `num_frames` are those of the data unless it says otherwise.
    weights: a file with initial weights (.safetensors or of torch.save).
    trained: which part learns: `all` (default), `none` (the network stays in eval mode), the last N layers, or `lora`.
    lora: parameters of peft's `LoraConfig`, for trained=lora (`pip install 'agmbench[lora]'`).
    output: `tokens` (default; a fusion that takes vectors gets their mean), or `first`, only the class token.

    If the network was trained on pictures of another size, its positions are interpolated, if it supports that.
    """

    same_in_training = True

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        model: str = "google/vit-base-patch16-224-in21k",
        config: dict[str, Any] | None = None,
        weights: str | None = None,
        trained: Trained = "all",
        lora: dict[str, Any] | None = None,
        output: Literal["tokens", "first"] = "tokens",
    ) -> None:
        super().__init__(shape)
        if len(shape) not in (3, 4):
            raise Unsuitable(
                f"takes an image [C, H, W] or frames [T, C, H, W]; found the shape {list(shape)}; take encoder mlp"
            )
        frames = {"num_frames": shape[0]} if len(shape) == 4 else {}
        size = {"image_size": shape[-1]} if shape[-1] == shape[-2] else {}
        self.net = network(model, config, weights, num_channels=shape[-3], **size, **frames)
        without_pooler(self.net)
        self.of_videos = getattr(self.net.config, "num_frames", None) is not None
        self.first = output == "first"
        takes = inspect.signature(self.net.forward).parameters
        other = getattr(self.net.config, "image_size", shape[-1]) not in (shape[-1], list(shape[-2:]), tuple(shape[-2:]))
        self._more = {"interpolate_pos_encoding": True} if other and "interpolate_pos_encoding" in takes else {}
        if self.of_videos and len(shape) == 3:
            raise Unsuitable(f"the network takes videos [T, C, H, W]; found the shape {list(shape)}")
        self.out_features = self.width(torch.zeros(1, *shape), f"the network cannot take inputs {list(shape)}")
        self.settle(trained, lora)

    def forward(self, x: Tensor) -> Tensor | Tokens:
        each = x.ndim == 5 and not self.of_videos
        pictures = x.flatten(0, 1) if each else x
        states = as_tokens(self.net(pixel_values=pictures, **self._more).last_hidden_state)
        if self.first:
            first = states[:, 0]
            return first.unflatten(0, x.shape[:2]).mean(dim=1) if each else first
        return Tokens(states.unflatten(0, x.shape[:2]).flatten(1, 2) if each else states)
