"""What a transform of samples is."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch


class Transform(ABC):
    """Changes the samples of a modality in training, with new random numbers in every epoch. In evaluation it is not used, unless the job
    names it there (`evaluation`).

    A subclass has `__init__(self, shape, *, ...)`, which raises `Unsuitable` for a shape that it cannot take. It is called with one
    sample, in a batch of one, and returns another of the same shape, dtype and kind; the given sample is not changed. All random numbers
    come from the `generator`, which belongs to the sample in that epoch, so that they are the same in any process and after a resume.

    It sees a sample before the data set converts it: pictures `[1, ..., C, H, W]`, which may be bytes, sequences as `Tokens`, and
    everything else `[1, *shape]`. It is sent to the processes that read ahead, so it must be picklable and keep nothing between calls.

    any_size: it takes pictures of any size and brings them to the size of the shape, so pictures from files come in their own size.
    idle: it leaves every sample as it is, so a job with it is the same as the job without it.
    """

    any_size: ClassVar[bool] = False
    idle: ClassVar[bool] = False

    @abstractmethod
    def __init__(self, shape: tuple[int, ...]) -> None: ...

    @abstractmethod
    def __call__(self, x: Any, generator: torch.Generator) -> Any:
        """The changed sample, a tensor or `Tokens`."""
