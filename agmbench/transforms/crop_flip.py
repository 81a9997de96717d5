"""Random crops and flips of pictures, as in the training of ImageNet networks."""

from math import exp, log, sqrt
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torchvision.transforms.v2 import functional

from agmbench.contracts import Transform, Unsuitable

Share = Annotated[float, Gt(0), Le(1)]
Ratio = Annotated[float, Gt(0)]

TRIES = 10  # how often a part is drawn at most, until one lies in the picture; as in torchvision


class CropFlip(Transform):
    """Takes a random part of a picture, resizes it to the size of the data set's pictures and mirrors it at random; all frames of a clip in
    the same way.

    The share of the area and the ratio of the sides are drawn as in torchvision's RandomResizedCrop, and the part is resized by its
    bilinear filter with antialiasing. Pictures from files are cropped at their own size, those of prepared folders at the size that
    they have there.

    Official code: OGM-GE's and AGM's use RandomResizedCrop(224) and RandomHorizontalFlip, which draw for each frame of a clip separately.

    scale: least and largest share of the picture's area. Official code of OGM-GE and AGM, torchvision and ours: .08 to 1.
    ratio: least and largest ratio of width to height. Official code, torchvision and ours: 3/4 to 4/3.
    flip: how often it is mirrored. Official code, torchvision and ours: .5.
    """

    any_size = True

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        scale: tuple[Share, Share] = (0.08, 1.0),
        ratio: tuple[Ratio, Ratio] = (0.75, 1.3333333333333333),
        flip: Annotated[float, Ge(0), Le(1)] = 0.5,
    ) -> None:
        if len(shape) not in (3, 4) or shape[-3] not in (1, 3):
            raise Unsuitable(f"takes pictures [C, H, W] or frames [T, C, H, W] of one or three colours; found {list(shape)}")
        for name, (least, most) in (("scale", scale), ("ratio", ratio)):
            if least > most:
                raise Unsuitable(f"{name} should rise, such as [0.5, 1]; found [{least}, {most}]")
        self.size = list(shape[-2:])
        self.scale, self.ratio, self.flip = scale, ratio, flip

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Turn pictures `[1, ..., C, H, W]` of any size into pictures of the data set's size."""
        top, left, height, width = self._part(x.shape[-2], x.shape[-1], generator)
        part: Tensor = functional.resized_crop(x, top, left, height, width, self.size, antialias=True)
        return part.flip(-1) if _uniform(generator) < self.flip else part

    def _part(self, height: int, width: int, generator: torch.Generator) -> tuple[int, int, int, int]:
        """Draw a part: its top, left, height and width. If no try lies in the picture, take the largest part in the middle that has an
        allowed ratio."""
        least, most = self.ratio
        for _ in range(TRIES):
            area = height * width * _uniform(generator, *self.scale)
            ratio = exp(_uniform(generator, log(least), log(most)))
            wide, high = round(sqrt(area * ratio)), round(sqrt(area / ratio))
            if 0 < wide <= width and 0 < high <= height:
                return _below(height - high + 1, generator), _below(width - wide + 1, generator), high, wide
        wide, high = min(width, round(height * most)), min(height, round(width / least))
        return (height - high) // 2, (width - wide) // 2, high, wide


def _uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _below(bound: int, generator: torch.Generator) -> int:
    return int(torch.randint(bound, (), generator=generator))
