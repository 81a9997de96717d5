"""Inputs of one modality: tensors, sequences of different lengths, and raw text as bytes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from agmbench.contracts.unsuitable import Unsuitable


class Alike(NamedTuple):
    """Groups of samples with the same mask: the number `[G]` of one sample of each group, and the group `[B]` of each sample."""

    first: Tensor
    group: Tensor

    @classmethod
    def of(cls, mask: Tensor) -> "Alike":
        """The groups of a mask. The host has to know how many groups there are, so it waits if the mask is on a device."""
        distinct, group = torch.unique(mask, dim=0, return_inverse=True)
        first = torch.full((len(distinct),), len(group), device=mask.device)
        return cls(first.scatter_reduce(0, group, torch.arange(len(group), device=mask.device), "amin"), group)


@dataclass(frozen=True)
class Tokens:
    """Sequences of different lengths: `values` `[B, T, D]`, and `mask` `[B, T]`, true where there is a token; `None` means everywhere.

    `alike` is for the model, which encodes a muted sequence only once per mask. `to` computes it while the mask is still on the CPU, so
    that the host does not have to wait for a device.
    """

    values: Tensor
    mask: Tensor | None = None
    alike: Alike | None = field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Tensor | slice) -> "Tokens":
        return Tokens(self.values[index], None if self.mask is None else self.mask[index])

    def to(self, device: torch.device, non_blocking: bool = False) -> "Tokens":
        """The same sequences on a device."""
        values = self.values.to(device, non_blocking=non_blocking)
        if self.mask is None:
            return Tokens(values)
        alike = Alike.of(self.mask) if self.mask.device.type == "cpu" else self.alike
        moved = alike and Alike(*(x.to(device, non_blocking=non_blocking) for x in alike))
        return Tokens(values, self.mask.to(device, non_blocking=non_blocking), moved)

    def pin_memory(self) -> "Tokens":
        """The same sequences in pinned memory, from which copies to a GPU do not block the host."""
        return Tokens(self.values.pin_memory(), None if self.mask is None else self.mask.pin_memory())

    def tensors(self) -> Iterator[Tensor]:
        """The values and, if there is one, the mask."""
        yield self.values
        if self.mask is not None:
            yield self.mask

    def pooled(self) -> Tensor:
        """The mean over the tokens that the mask does not hide, `[B, D]`; zero for a sequence without tokens."""
        if self.mask is None:
            return self.values.mean(dim=1)
        there = self.mask.unsqueeze(2).to(self.values.dtype)  # [B, T, 1]
        return (self.values * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)


Input = Tensor | Tokens


def joined(inputs: Sequence[Input]) -> Input:
    """Join batches of one modality into one. Sequences must be equally long; either all of them have masks, or none has."""
    tokens = [x for x in inputs if isinstance(x, Tokens)]
    if not tokens:
        return torch.cat([x for x in inputs if isinstance(x, Tensor)])
    masks = [x.mask for x in tokens if x.mask is not None]
    return Tokens(torch.cat([x.values for x in tokens]), torch.cat(masks) if masks else None)


def utf8(texts: Sequence[str], length: int) -> Tokens:
    """Raw text in the form that encoders `hf-text` and `clip` take: the numbers `[B, length, 1]` of its bytes in UTF-8, with a mask.

    A longer text is cut after the last whole letter that fits.
    """
    values, mask = torch.zeros(len(texts), length, 1), torch.zeros(len(texts), length, dtype=torch.bool)
    for row, text in enumerate(texts):
        content = text.encode()[:length].decode(errors="ignore").encode()
        values[row, : len(content), 0] = torch.tensor(list(content), dtype=torch.float32)
        mask[row, : len(content)] = True
    return Tokens(values, mask)


def texts_of(x: Tokens) -> list[str]:
    """The texts that `utf8` was given. Zeros, as in a muted text, give an empty text. If `x` is on a device, the host waits for it."""
    values = x.values.squeeze(2) if x.mask is None else x.values.squeeze(2) * x.mask
    rows = values.round().long().tolist()
    if any(number > 255 or number < 0 for row in rows for number in row):
        raise Unsuitable("takes raw text, as the numbers 0 to 255 of its bytes (agmbench.contracts.utf8); found other numbers")
    return [bytes(number for number in row if number).decode(errors="replace") for row in rows]
