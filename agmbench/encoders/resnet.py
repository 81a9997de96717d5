"""Any timm image model as an encoder; ResNet18 by default, as in the AGM paper."""

from typing import Annotated, Any

import timm
import torch
from annotated_types import Gt
from torch import Tensor

from agmbench.contracts import Encoder, Unsuitable


class ResNet(Encoder):
    """`timm.create_model(model, in_chans=C, num_classes=0)`: `[B, C, H, W]` to pooled features.

    Several frames `[B, T, C, H, W]` go through the same network; their pooled features are averaged over time (AGM's and OGM-GE's
    official code).

    model: any name that timm knows. Paper and default: resnet18.
    width: channels of a ResNet's first stage (64 in resnet18), doubled from stage to stage; the stem stays 64 wide. For ResNets
        alone; other families shrink by their own `model_args`.
    model_args: passed to timm as they are.
    pretrained: load timm's weights, which needs a network. Paper and default: from scratch.
    """

    same_in_training = True

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        model: str = "resnet18",
        width: Annotated[int, Gt(0)] | None = None,
        model_args: dict[str, Any] | None = None,
        pretrained: bool = False,
    ) -> None:
        super().__init__(shape)
        if len(shape) not in (3, 4):
            raise Unsuitable(
                f"takes an image [C, H, W] or frames [T, C, H, W]; found the shape {list(shape)}; take encoder mlp"
            )
        arguments = dict(model_args or {})
        if width is not None:
            if "resnet" not in model:
                raise Unsuitable(f"width shrinks ResNets alone; found model '{model}'; use its own model_args")
            arguments["channels"] = tuple(width * 2**stage for stage in range(4))
        if not timm.is_model(model):
            raise Unsuitable(f"timm has no model '{model}'; timm.list_models() names those it has")
        try:
            net: Any = timm.create_model(model, pretrained=pretrained, in_chans=shape[-3], num_classes=0, **arguments)
            with torch.no_grad():
                net.eval()(torch.zeros(1, *shape[-3:]))
        except Exception as error:  # timm, its models and a hub without a network raise what they like
            raise Unsuitable(f"timm cannot build '{model}' with {arguments} for inputs {list(shape)}: {error}") from error
        self.net = net.train()
        self.out_features = net.num_features

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.net(x if x.ndim == 4 else x.flatten(0, 1))  # [B, out_features], or [B * T, out_features]
        return features if x.ndim == 4 else features.unflatten(0, x.shape[:2]).mean(dim=1)
