"""Makes sound begin a little earlier or later, as in the code of AST (Gong et al., Interspeech 2021)."""

from typing import Annotated

import torch
from annotated_types import Ge

from agmbench.contracts import Input, Tokens, Transform
from agmbench.transforms.along_time import Time, time_axis


class TimeShift(Transform):
    """Moves a sample along time by at most `most` steps in either direction. What leaves at one end comes in at the other.

    In a sequence with a mask, only the tokens that are there are moved, among their own places.

    most: the largest number of steps. Official code of AST and default 10 (of 10 ms each).
    time: which of the last two axes is time. `auto` takes the first for sequences `[T, F]` and the last for spectrograms `[C, F, T]`. The
        filterbanks of Kinetics-Sounds are `[1, T, F]`: use `first`.
    """

    def __init__(self, shape: tuple[int, ...], *, most: Annotated[int, Ge(0)] = 10, time: Time = "auto") -> None:
        self.axis, self.most = time_axis(shape, time), most

    def __call__(self, x: Input, generator: torch.Generator) -> Input:
        """Shift a spectrogram `[1, C, F, T]`, or a sequence."""
        steps = int(torch.randint(-self.most, self.most + 1, (), generator=generator))
        if not isinstance(x, Tokens):
            return x.roll(steps, self.axis)
        places = torch.arange(x.values.shape[1]) if x.mask is None else x.mask[0].nonzero().flatten()
        values = x.values.clone()
        values[:, places] = x.values[:, places.roll(steps)]
        return Tokens(values, x.mask)
