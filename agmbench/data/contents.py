"""What is in the inputs of a split, sample by sample: nothing, the same as in all others, or the same as in another split."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, nan

import torch
from torch import Tensor

from agmbench.contracts import Input, Tokens
from agmbench.tasks import Wrong

MANY = 1000  # numbers of a sample


@dataclass(frozen=True)
class Content:
    """Some samples of one modality, `[N]` each: their `numbers`, a hash of 64 bits (`prints`), which are `empty` (they have no token),
    the `level` of a sample that is one number throughout, as the spectrogram of silence is (NaN for all others), and the `largest`
    of many numbers (infinite for a sample of few, which may all be small by chance).

    Hidden tokens are no content.
    """

    numbers: Tensor
    prints: Tensor
    empty: Tensor
    level: Tensor
    largest: Tensor

    @classmethod
    def of(cls, index: Tensor, x: Input) -> "Content":
        """Of the samples of a batch."""
        values, mask = (x.values, x.mask) if isinstance(x, Tokens) else (x, None)
        rows = list(values) if mask is None else [row[there] for row, there in zip(values, mask, strict=True)]
        prints, empty = torch.tensor([_print(row) for row in rows]), torch.tensor([not row.numel() for row in rows])
        largest = torch.tensor([float(row.max()) if row.numel() >= MANY else inf for row in rows])
        return cls(index, prints, empty, torch.tensor([_level(row) for row in rows]), largest)

    @classmethod
    def joined(cls, parts: Sequence["Content"]) -> "Content":
        """Those of several batches."""
        columns = zip(*((part.numbers, part.prints, part.empty, part.level, part.largest) for part in parts), strict=True)
        return cls(*(torch.cat(column) for column in columns))

    @property
    def flat(self) -> Tensor:
        """Which samples are one number throughout."""
        return ~self.level.isnan()

    @property
    def constant(self) -> bool:
        """Whether there are several samples and all are the same."""
        return len(self.prints) > 1 and bool((self.prints == self.prints[0]).all())

    def odd(self, modality: str, mean: float) -> Iterator[Wrong]:
        """Which samples say nothing or little, where the numbers of the split have that mean."""
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
        """Which samples are in another split too, `[N]`, where they say something there and here."""
        if self.constant and other.constant:
            return torch.zeros_like(self.empty)
        return torch.isin(self.prints, other.prints) & ~self.empty & ~self.flat


def filled(content: Content, numbers: Tensor, absent: Tensor) -> Tensor:
    """The hash of each of the samples of these numbers, `[N]`, 0 for those that lack the modality; shorter where some were not read."""
    there = numbers[torch.isin(numbers, content.numbers) | torch.isin(numbers, absent)]
    prints = torch.zeros(len(there), dtype=torch.int64)
    prints[torch.isin(there, content.numbers)] = content.prints
    return prints


def whole(prints: list[Tensor]) -> Tensor:
    """A hash of each sample over all its modalities, `[N]`; of none where a modality could not be read in every sample."""
    if len({len(column) for column in prints}) != 1:
        return torch.zeros(0, dtype=torch.int64)
    return torch.tensor([_print(row) for row in torch.stack(prints, dim=1)])


def _print(row: Tensor) -> int:
    content = row.detach().contiguous().view(-1).numpy().data
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), signed=True)


def _level(row: Tensor) -> float:
    """The number that a sample is throughout, if it has several; a single number says nothing if it is zero."""
    first = float(row.flatten()[0]) if row.numel() else nan
    return first if (row == first).all() and (row.numel() > 1 or first == 0) else nan
