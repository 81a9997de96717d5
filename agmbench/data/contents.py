"""Finds suspicious inputs of a split: empty or constant samples, samples that are all equal, and samples that another split has too."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, nan

import torch
from torch import Tensor

from agmbench.contracts import Input, Tokens
from agmbench.tasks import Wrong

MANY = 1000  # a sample of at least so many numbers is judged by its largest


@dataclass(frozen=True)
class Content:
    """What is known of N samples of one modality. Each field is a tensor `[N]`.

    `numbers` are the samples' numbers in the split, `prints` 64-bit hashes of their content. `empty` marks samples without a token.
    `level` is the value of a sample that is constant, such as the spectrogram of silence, and NaN for all others. `largest` is the
    largest value of a sample of at least `MANY` values; it is infinite for a shorter one, whose values may all be small by chance.
    Hidden tokens are not part of the content.
    """

    numbers: Tensor
    prints: Tensor
    empty: Tensor
    level: Tensor
    largest: Tensor

    @classmethod
    def of(cls, index: Tensor, x: Input) -> "Content":
        """The content of the samples of one batch."""
        values, mask = (x.values, x.mask) if isinstance(x, Tokens) else (x, None)
        rows = list(values) if mask is None else [row[there] for row, there in zip(values, mask, strict=True)]
        prints, empty = torch.tensor([_print(row) for row in rows]), torch.tensor([not row.numel() for row in rows])
        largest = torch.tensor([float(row.max()) if row.numel() >= MANY else inf for row in rows])
        return cls(index, prints, empty, torch.tensor([_level(row) for row in rows]), largest)

    @classmethod
    def joined(cls, parts: Sequence["Content"]) -> "Content":
        """The contents of several batches as one."""
        columns = zip(*((part.numbers, part.prints, part.empty, part.level, part.largest) for part in parts), strict=True)
        return cls(*(torch.cat(column) for column in columns))

    @property
    def flat(self) -> Tensor:
        """Which samples are constant, `[N]`."""
        return ~self.level.isnan()

    @property
    def constant(self) -> bool:
        """Whether there are several samples and all of them are equal."""
        return len(self.prints) > 1 and bool((self.prints == self.prints[0]).all())

    def odd(self, modality: str, mean: float) -> Iterator[Wrong]:
        """Findings about samples that carry little or no information. `mean` is the mean of the modality over the whole split."""
        if self.constant:
            what = ", without a token," if self.empty[0] else f", {self.level[0]:g} throughout," if self.flat[0] else ""
            yield Wrong(f"{modality} is the same{what}", "", torch.ones_like(self.empty))
            return
        if self.empty.any():
            yield Wrong(f"{modality} has no token", "", self.empty)
        if self.flat.any():
            yield Wrong(f"{modality} is one number throughout", "", self.flat, f"{self.level[self.flat][0]:g}")
        quiet = (self.largest < mean) & ~self.flat
        if quiet.any():
            yield Wrong(f"{modality} is below the split's mean of {mean:.4g} throughout, which is almost silence,", "", quiet)

    def shared(self, other: "Content") -> Tensor:
        """Which samples are in the other split too, `[N]`. Empty and constant samples do not count, nor do two constant splits."""
        if self.constant and other.constant:
            return torch.zeros_like(self.empty)
        return torch.isin(self.prints, other.prints) & ~self.empty & ~self.flat


def filled(content: Content, numbers: Tensor, absent: Tensor) -> Tensor:
    """The hash of each sample in `numbers`, `[N]`; 0 for samples that lack the modality. Samples that could not be read are left out, so
    the result can be shorter than `numbers`."""
    there = numbers[torch.isin(numbers, content.numbers) | torch.isin(numbers, absent)]
    prints = torch.zeros(len(there), dtype=torch.int64)
    prints[torch.isin(there, content.numbers)] = content.prints
    return prints


def whole(prints: list[Tensor]) -> Tensor:
    """One hash per sample over all its modalities, `[N]`; empty if some modality could not be read in every sample."""
    if len({len(column) for column in prints}) != 1:
        return torch.zeros(0, dtype=torch.int64)
    return torch.tensor([_print(row) for row in torch.stack(prints, dim=1)])


def _print(row: Tensor) -> int:
    content = row.detach().contiguous().view(-1).numpy().data
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), signed=True)


def _level(row: Tensor) -> float:
    """The value of a constant sample, else NaN. A sample of a single number counts as constant only if that number is zero."""
    first = float(row.flatten()[0]) if row.numel() else nan
    return first if (row == first).all() and (row.numel() > 1 or first == 0) else nan
