"""Crops the middle of a picture, as in the evaluation of ImageNet networks."""

from typing import Annotated

import torch
from annotated_types import Gt, Le
from torch import Tensor
from torchvision.transforms.v2 import functional

from agmbench.contracts import Transform, Unsuitable


class CenterCrop(Transform):
    """Takes the middle of a picture and resizes it to the size of the data set's pictures; all frames of a clip in the same way. Nothing is
    random.

    It is for evaluation: `--set evaluation.visual=center-crop`. The official code of OGM-GE and AGM resizes the whole picture, as the
    data sets do without a transform. Pictures from files are cropped at their own size, those of prepared folders at the size that
    they have there.

    share: share of each side that is kept. He et al. (Deep Residual Learning, CVPR 2016), torchvision and ours: .875 (224 of 256 pixels).
    """

    any_size = True

    def __init__(self, shape: tuple[int, ...], *, share: Annotated[float, Gt(0), Le(1)] = 0.875) -> None:
        if len(shape) not in (3, 4) or shape[-3] not in (1, 3):
            raise Unsuitable(f"takes pictures [C, H, W] or frames [T, C, H, W] of one or three colours; found {list(shape)}")
        self.size = list(shape[-2:])
        self.share = share

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Turn pictures `[1, ..., C, H, W]` of any size into pictures of the data set's size."""
        height, width = (max(1, round(side * self.share)) for side in x.shape[-2:])
        top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
        middle: Tensor = functional.resized_crop(x, top, left, height, width, self.size, antialias=True)
        return middle
