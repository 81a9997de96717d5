"""SpecAugment: hides frequency bands and stretches of time (Park et al., Interspeech 2019)."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from agmbench.contracts import Input, Tokens, Transform, Unsuitable
from agmbench.transforms.along_time import Time, time_axis


class SpecAugment(Transform):
    """Hides frequency bands and stretches of time of a spectrogram, or features and tokens of a sequence: they get the sample's mean.

        f ~ U{0..F}, from f0 ~ U{0..bands - f};  t ~ U{0..min(T, p * length)}, from t0 ~ U{0..length - t}

    as in torchaudio's FrequencyMasking and TimeMasking. There is no time warping, which matters least according to the paper. The defaults
    are the paper's policy SM.

    frequency_masks, frequency_width: number of hidden bands, and F. Paper and default 2 and 15 (LibriSpeech: 27).
    time_masks, time_width: number of hidden stretches, and T. Paper and default 2 and 70 (LibriSpeech: 100).
    share: p, the largest share of the time that one stretch hides. Paper and default .2 (LibriSpeech: 1).
    time: which of the last two axes is time. `auto` takes the first for sequences `[T, F]` and the last for spectrograms `[C, F, T]`. The
        filterbanks of Kinetics-Sounds are `[1, T, F]`: use `first`.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        frequency_masks: Annotated[int, Ge(0)] = 2,
        frequency_width: Annotated[int, Ge(0)] = 15,
        time_masks: Annotated[int, Ge(0)] = 2,
        time_width: Annotated[int, Ge(0)] = 70,
        share: Annotated[float, Gt(0), Le(1)] = 0.2,
        time: Time = "auto",
    ) -> None:
        axis = time_axis(shape, time)
        if shape[-3 - axis] == 1:
            raise Unsuitable(f"takes samples of more than one frequency or feature; found {list(shape)}")
        of_frequency, of_time = (-3 - axis, frequency_width, 1.0), (axis, time_width, share)
        self.masks = [of_frequency] * frequency_masks + [of_time] * time_masks  # axis, largest width, largest share of the axis

    def __call__(self, x: Input, generator: torch.Generator) -> Input:
        """Hide parts of a spectrogram `[1, C, F, T]` or of a sequence, in which only the tokens that are there take part."""
        if not isinstance(x, Tokens):
            return self._masked(x, generator)
        there = slice(None) if x.mask is None else x.mask[0]
        values = x.values.clone()
        values[:, there] = self._masked(x.values[:, there], generator)
        return Tokens(values, x.mask)

    def _masked(self, values: Tensor, generator: torch.Generator) -> Tensor:
        masked, mean = values.clone(), values.double().mean().to(values.dtype)
        for axis, most, share in self.masks:
            size = values.shape[axis]
            width = int(torch.randint(min(most, int(share * size)) + 1, (), generator=generator))
            start = int(torch.randint(size - width + 1, (), generator=generator))
            masked.narrow(axis, start, width).copy_(mean)
        return masked
