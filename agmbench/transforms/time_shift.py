"""Sound that begins a little earlier or later, as in the code of AST (Gong et al., Interspeech 2021)."""

from typing import Annotated

import torch
from annotated_types import Ge

from agmbench.contracts import Input, Tokens, Transform
from agmbench.transforms.along_time import Time, time_axis


class TimeShift(Transform):
    """Moves a sample along time by up to so many steps in either direction; what leaves at one end comes in at the other.

    Of a sequence with a mask the tokens that are there are moved among their places.

    most: steps. Official code of AST and default 10 (of 10 ms).
    time: which of the last two axes it is; `auto` is the first of sequences `[T, F]`, the last of spectrograms `[C, F, T]`.
        Kinetics-Sounds' filterbanks are `[1, T, F]`: first.
    """

    def __init__(self, shape: tuple[int, ...], *, most: Annotated[int, Ge(0)] = 10, time: Time = "auto") -> None:
        self.axis, self.most = time_axis(shape, time), most

    def __call__(self, x: Input, generator: torch.Generator) -> Input:
        """Spectrograms `[1, C, F, T]`, or sequences."""
        steps = int(torch.randint(-self.most, self.most + 1, (), generator=generator))
        if not isinstance(x, Tokens):
            return x.roll(steps, self.axis)
        places = torch.arange(x.values.shape[1]) if x.mask is None else x.mask[0].nonzero().flatten()
        values = x.values.clone()
        values[:, places] = x.values[:, places.roll(steps)]
        return Tokens(values, x.mask)
