"""What a transform of samples is."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch


class Transform(ABC):
    """What becomes of the samples of a modality in training, drawn anew in every epoch. Evaluation never sees it.

    A subclass has `__init__(self, shape, *, ...)`, which raises `Unsuitable` for a shape that it cannot take. It is called with one
    sample in a batch of one and gives another of the same shape, dtype and kind; what it was given stays as it is. Every draw comes
    from the `generator`, which is the sample's own in that epoch, so that it is the same in any process and after a resume.

    It sees a sample before the data set converts it: pictures `[1, ..., C, H, W]`, which may be bytes, sequences as `Tokens`, all else
    `[1, *shape]`. It is sent to the processes that read ahead, so it can be pickled and keeps nothing between calls.

    any_size: it takes pictures of any size and brings them to that of the shape; so those of files come as large as they are there.
    idle: it leaves every sample as it is, so a job with it is the job without.
    """

    any_size: ClassVar[bool] = False
    idle: ClassVar[bool] = False

    @abstractmethod
    def __init__(self, shape: tuple[int, ...]) -> None: ...

    @abstractmethod
    def __call__(self, x: Any, generator: torch.Generator) -> Any:
        """What becomes of one sample, a tensor or `Tokens`."""
