"""Any timm image model as an encoder; ResNet18 by default, as in the AGM paper."""

from typing import Annotated, Any

import timm
import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from agmbench.contracts import Encoder, Unsuitable


class ResNet(Encoder):
    """`timm.create_model(model, in_chans=C, num_classes=0)`: from `[B, C, H, W]` to pooled features.

    Several frames `[B, T, C, H, W]` go through the same network; their pooled features are averaged over time (AGM's and OGM-GE's
    official code).

    model: any name that timm knows. Paper and default: resnet18.
    width: channels of a ResNet's first stage (64 in resnet18), doubled from stage to stage; the stem stays 64 wide. Only for ResNets;
        networks of other families are made smaller by their own `model_args`.
    model_args: passed to timm as they are.
    pretrained: load timm's weights, which needs a network. Paper and default: from scratch.
    zero_init_last: whether the last BatchNorm in each block of a ResNet begins with zeros, so that the block begins as the identity. In
        timm and by default it does; in the official code of AGM and OGM-GE it does not.
    norm_spread: weights of BatchNorm begin as N(1, norm_spread^2). Official code of AGM on AV-MNIST .02; OGM-GE, whose weights are set
        to 1 afterwards, and default 0.

    The convolutions of a ResNet begin with Kaiming's normal numbers (fan out, ReLU), as in timm and in both official codes. AGM's code on
    CREMA-D uses Kaiming's uniform numbers, which are not offered here.
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
        zero_init_last: bool = True,
        norm_spread: Annotated[float, Ge(0)] = 0.0,
    ) -> None:
        super().__init__(shape)
        if len(shape) not in (3, 4):
            raise Unsuitable(
                f"takes an image [C, H, W] or frames [T, C, H, W]; found the shape {list(shape)}; take encoder mlp"
            )
        arguments = dict(model_args or {})
        if width is not None:
            arguments["channels"] = tuple(width * 2**stage for stage in range(4))
        if not zero_init_last:
            arguments["zero_init_last"] = False
        if "resnet" not in model and (width is not None or not zero_init_last):
            what = "width shrinks ResNets" if width is not None else "zero_init_last=false is for ResNets"
            raise Unsuitable(f"{what} alone; found model '{model}'; use its own model_args")
        if not timm.is_model(model):
            raise Unsuitable(f"timm has no model '{model}'; timm.list_models() names those it has")
        try:
            net: Any = timm.create_model(model, pretrained=pretrained, in_chans=shape[-3], num_classes=0, **arguments)
            with torch.no_grad():
                net.eval()(torch.zeros(1, *shape[-3:]))
        except Exception as error:  # timm, its models and a hub without a network raise what they like
            raise Unsuitable(f"timm cannot build '{model}' with {arguments} for inputs {list(shape)}: {error}") from error
        if norm_spread:
            _spread(net, norm_spread)
        self.net = net.train()
        self.out_features = net.num_features

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.net(x if x.ndim == 4 else x.flatten(0, 1))  # [B, out_features], or [B * T, out_features]
        return features if x.ndim == 4 else features.unflatten(0, x.shape[:2]).mean(dim=1)


@torch.no_grad()
def _spread(net: nn.Module, deviation: float) -> None:
    """Draw the weights of BatchNorm around their present values; those that begin with zeros stay zero."""
    for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.weight.mul_(torch.empty_like(norm.weight).normal_(1, deviation))
