"""What is in the inputs of a split, sample by sample: nothing, the same as in all others, or the same as in another split."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agmbench.contracts import Input, Tokens
from agmbench.tasks import Wrong


@dataclass(frozen=True)
class Content:
    """Some samples of one modality, `[N]` each: their `numbers`, a hash of 64 bits (`prints`), which are `empty` (they have no token)
    and which all `zero`. Hidden tokens are no content."""

    numbers: Tensor
    prints: Tensor
    empty: Tensor
    zero: Tensor

    @classmethod
    def of(cls, index: Tensor, x: Input) -> "Content":
        """Of the samples of a batch."""
        values, mask = (x.values, x.mask) if isinstance(x, Tokens) else (x, None)
        rows = list(values) if mask is None else [row[there] for row, there in zip(values, mask, strict=True)]
        empty = torch.tensor([not row.numel() for row in rows])
        zero = torch.tensor([not row.any() for row in rows]) & ~empty
        return cls(index, torch.tensor([_print(row) for row in rows]), empty, zero)

    @classmethod
    def joined(cls, parts: Sequence["Content"]) -> "Content":
        """Those of several batches."""
        columns = zip(*((part.numbers, part.prints, part.empty, part.zero) for part in parts), strict=True)
        return cls(*(torch.cat(column) for column in columns))

    @property
    def constant(self) -> bool:
        """Whether there are several samples and all are the same."""
        return len(self.prints) > 1 and bool((self.prints == self.prints[0]).all())

    def odd(self, modality: str) -> Iterator[Wrong]:
        """Which samples say nothing."""
        if self.constant:
            what = ", without a token," if self.empty.all() else ", all zero," if self.zero.all() else ""
            yield Wrong(f"{modality} is the same{what}", "", torch.ones_like(self.empty))
            return
        for what, samples in (("has no token", self.empty), ("is all zero", self.zero)):
            if samples.any():
                yield Wrong(f"{modality} {what}", "", samples)

    def shared(self, other: "Content") -> Tensor:
        """Which samples are in another split too, `[N]`, where they say something there and here."""
        if self.constant and other.constant:
            return torch.zeros_like(self.empty)
        return torch.isin(self.prints, other.prints) & ~self.empty & ~self.zero


def whole(contents: Sequence[Content]) -> Tensor:
    """A hash of each sample over all its modalities, `[N]`; of none where a modality could not be read in every sample."""
    prints = [content.prints for content in contents]
    if len({len(column) for column in prints}) != 1:
        return torch.zeros(0, dtype=torch.int64)
    return torch.tensor([_print(row) for row in torch.stack(prints, dim=1)])


def _print(row: Tensor) -> int:
    content = row.detach().contiguous().view(-1).numpy().data
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), signed=True)
