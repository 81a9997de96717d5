"""Any image network of timm, convolutional or a transformer: pooled or as patches, trained, frozen or with adapters."""

from typing import Any, Literal

import timm
import torch
from torch import Tensor

from agmbench.contracts import Tokens, Unsuitable
from agmbench.encoders.pretrained import Backbone, Trained, as_tokens, one_line


class Timm(Backbone):
    """`timm.create_model(model, in_chans=C, num_classes=0)`: from `[B, C, H, W]` to pooled features `[B, D]`, or to patches as tokens
    `[B, N, D]`.

    Several frames `[B, T, C, H, W]` go through the same network. Their pooled features are averaged over time; as tokens, the patches of
    one frame follow those of the one before. Pictures are taken as the data set gives them; no mean is subtracted.

    model: any name that timm knows, also `hf-hub:NAME` and `local-dir:FOLDER`. Default vit_tiny_patch16_224.
    pretrained: load timm's weights, from the hub or the cache. Default: random ones, which need no network.
    weights: a file with weights of that network, instead of timm's; its classifier is left out.
    model_args: passed to timm as they are. A network that takes only one size of pictures (`img_size`) is given that of the data.
    trained: which part learns: `all` (default), `none` (the network stays in eval mode), the last N layers as timm counts them, or `lora`.
    lora: parameters of peft's `LoraConfig`, for trained=lora (`pip install 'agmbench[lora]'`): r, lora_alpha, target_modules, ...
    output: `pooled` (default), in the way of the network, or `patches`; those of a transformer are without class and register tokens.

    With trained=N the frozen layers have no gradients, but their BatchNorm statistics still move, as in training.
    """

    same_in_training = True

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        model: str = "vit_tiny_patch16_224",
        pretrained: bool = False,
        weights: str | None = None,
        model_args: dict[str, Any] | None = None,
        trained: Trained = "all",
        lora: dict[str, Any] | None = None,
        output: Literal["pooled", "patches"] = "pooled",
    ) -> None:
        super().__init__(shape)
        if len(shape) not in (3, 4):
            raise Unsuitable(
                f"takes an image [C, H, W] or frames [T, C, H, W]; found the shape {list(shape)}; take encoder mlp"
            )
        if ":" not in model and not timm.is_model(model):
            raise Unsuitable(f"timm has no model '{model}'; timm.list_models() names those it has")
        given = dict(model_args or {})
        if weights is not None:
            given["pretrained_cfg_overlay"] = {"file": weights}
        self.net = _made(model, pretrained or weights is not None, shape[-3:], given)
        self.patches = output == "patches"
        self.out_features = self.width(
            torch.zeros(1, *shape), f"'{model}' with output={output} cannot take inputs {list(shape)}"
        )
        self.settle(trained, lora)

    def forward(self, x: Tensor) -> Tensor | Tokens:
        frames = x if x.ndim == 4 else x.flatten(0, 1)  # [B * T, C, H, W]
        if self.patches:
            states = as_tokens(self.net.forward_features(frames), self.net.num_features)
            states = states[:, getattr(self.net, "num_prefix_tokens", 0) :]
            return Tokens(states if x.ndim == 4 else states.unflatten(0, x.shape[:2]).flatten(1, 2))
        features: Tensor = self.net(frames)
        return features if x.ndim == 4 else features.unflatten(0, x.shape[:2]).mean(dim=1)


def _made(model: str, pretrained: bool, shape: tuple[int, ...], given: dict[str, Any]) -> Any:
    sized = {"img_size": tuple(shape[-2:]), **given}
    for arguments in (sized, given):  # networks that take pictures of any size do not know `img_size`
        try:
            net: Any = timm.create_model(model, pretrained=pretrained, in_chans=shape[0], num_classes=0, **arguments)
            with torch.no_grad():
                net.eval()(torch.zeros(1, *shape))
            return net
        except TypeError as error:
            if arguments is sized and "img_size" in str(error):
                continue
            raise Unsuitable(f"timm cannot build '{model}' with {given} for inputs {list(shape)}: {one_line(error)}") from error
        except Exception as error:  # timm, its models and a hub without a network raise what they like
            raise Unsuitable(f"timm cannot build '{model}' with {given} for inputs {list(shape)}: {one_line(error)}") from error
    raise AssertionError("one of them returns or raises")
