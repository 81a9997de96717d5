"""Inputs of a table: sequences whose lengths are only known after reading, and numbers that are standardised by train."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agmbench.contracts import Input, Tokens, Unsuitable, joined
from agmbench.datasets.arrays import Array
from agmbench.datasets.stored import Stored
from agmbench.datasets.tables.kinds import Numbers
from agmbench.datasets.threads import several

SEEN = 4096  # mean and deviation are computed on so many samples of train, evenly spread


def is_sequence(kind: Any) -> bool:
    """Whether the samples of a kind are sequences that may differ in length."""
    return not isinstance(kind, Numbers) and (kind.sequence or bool(getattr(kind, "varies", False)))


@dataclass(frozen=True)
class Masked(Stored):
    """Sequences whose hidden tokens are set to zero after conversion."""

    def finished(self, x: Input) -> Input:
        done = Stored.finished(self, x)
        if not isinstance(done, Tokens) or done.mask is None:
            return done
        return Tokens(done.values * done.mask.unsqueeze(2), done.mask)


@dataclass(frozen=True)
class Ragged(Masked):
    """Sequences whose lengths are only known after reading. `array` has `things`, and `decode`, which reads one as `[n, D]`."""

    shape: tuple[int, ...] = ()

    def read(self, rows: Array) -> Input:
        found = several(self.array.decode, [self.array.things[row] for row in rows])
        values = np.zeros((len(rows), *self.shape), np.float32)
        for place, tokens in enumerate(found):
            values[place, : len(tokens)] = tokens
        lengths = torch.tensor([len(tokens) for tokens in found])
        return Tokens(torch.from_numpy(values), torch.arange(self.shape[0]) < lengths.unsqueeze(1))


class Standard:
    """Standardises numbers by mean and deviation on train: per feature, or per channel if a sample has three or more axes.

    Mean and deviation are computed on up to 4,096 samples of train, evenly spread, when the first batch is converted. A feature that does
    not vary becomes zero.
    """

    def __init__(self, stored: Stored, rows: Array, shape: tuple[int, ...]) -> None:
        self.stored, self.shape = stored, shape
        self.rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(SEEN, len(rows))).astype(np.int64))] if len(rows) else rows

    def __call__(self, x: Tensor) -> Tensor:
        mean, deviation = (number.to(x.device) for number in self.numbers)
        return (x.float() - mean) / deviation

    @cached_property
    def numbers(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation, in a shape that fits a batch."""
        count, total, squares = torch.zeros(()), torch.zeros(()), torch.zeros(())
        for some in np.split(self.rows, range(256, len(self.rows), 256)) if len(self.rows) else []:
            if (read := self._read(some)) is None:
                continue
            x = self._features(read).double()  # [n, features]
            sound = x.isfinite()
            x = torch.where(sound, x, 0)
            count, total, squares = count + sound.sum(0), total + x.sum(0), squares + (x**2).sum(0)
        count = count.clamp(min=1)
        mean = total / count
        deviation = (squares / count - mean**2).clamp(min=0).sqrt()
        deviation = torch.where(deviation > 1e-6 * mean.abs().clamp(min=1e-6), deviation, 1.0)
        axes = (-1, *([1] * (len(self.shape) - 1))) if len(self.shape) > 2 else (-1,)
        return mean.float().reshape(axes), deviation.float().reshape(axes)

    def _read(self, rows: Array) -> Input | None:
        """Read the rows that can be read; `None` if there are none. The others are reported when they are read as samples."""
        try:
            return self.stored.read(rows)
        except Unsuitable:
            each = [self._read(rows[place : place + 1]) for place in range(len(rows))] if len(rows) > 1 else []
        there = [x for x in each if x is not None]
        return joined(there) if there else None

    def _features(self, x: Input) -> Tensor:
        if isinstance(x, Tokens):
            return x.values if x.mask is None else x.values[x.mask]
        return x.movedim(1, -1).flatten(0, -2) if len(self.shape) > 2 else x.flatten(0, -2)
