"""Splits whose samples are rows of arrays on disk or in memory. Rows are read when a batch needs them, and converted where it is used."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agmbench.contracts import Batch, Change, ChangeOf, Input, Tokens, joined
from agmbench.datasets.arrays import Array, take
from agmbench.datasets.files import OnDisk
from agmbench.datasets.threads import several

Convert = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Stored:
    """The input of one modality, stored as rows of an array on disk or in memory. Rows are read when a batch needs them, and converted
    where it is used.

    `lengths` `[N]`, if given, makes them sequences: only the first `lengths[i]` tokens of row i exist (the last ones, if `in_front`).
    """

    array: Any  # a numpy array, a memory map, an array of HDF5, or anything that is indexed by row numbers
    convert: Convert = Tensor.float
    lengths: Array | None = None
    in_front: bool = False

    def read(self, rows: Array) -> Input:
        """Some rows, in the given order, as they are stored."""
        values = torch.from_numpy(take(self.array, rows))
        if self.lengths is None:
            return values
        place = torch.arange(values.shape[1])
        length = torch.from_numpy(np.asarray(self.lengths)[rows].astype(np.int64)).unsqueeze(1)
        return Tokens(values, place >= values.shape[1] - length if self.in_front else place < length)

    def changed(self, rows: Array, numbers: Sequence[int], change: ChangeOf) -> Input:
        """Some rows, each read and changed separately. `numbers` are their numbers in the split, which `change` needs."""
        array = getattr(self.array, "originals", self.array) if change.any_size else self.array
        stored = replace(self, array=array)
        return joined(several(lambda place: change(numbers[place], stored.read(rows[place : place + 1])), range(len(rows))))

    def finished(self, x: Input) -> Input:
        """Convert rows that were read."""
        return replace(x, values=self.convert(x.values)) if isinstance(x, Tokens) else self.convert(x)

    @property
    def in_memory(self) -> bool:
        """Whether reading it touches no file."""
        return type(self.array) is np.ndarray


@dataclass(frozen=True)
class StoredSplit(OnDisk):
    """A split of stored arrays. Sample i is row `rows[i]` of each array; `targets` `[N, ...]` are in memory, in the order of `rows`.

    `absent[m]` `[N]` marks the samples that lack modality m; what is stored for them is only a placeholder. `weights` `[N]` are the weights
    of the samples in the training loss, if they differ.
    """

    inputs: Mapping[str, Stored]
    targets: Tensor
    rows: Array
    absent: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def in_memory(self) -> bool:
        return all(stored.in_memory for stored in self.inputs.values())

    def read(self, index: Tensor, change: Change | None = None) -> Batch:
        return self.numbered(index, index, change or {})

    def numbered(self, places: Tensor, numbers: Tensor, change: Change) -> Batch:
        """Read the samples at some places. `numbers` are their numbers in the whole split, of which this one may be a part."""
        rows = self.rows[places.numpy()]
        inputs = {
            m: stored.changed(rows, numbers.tolist(), change[m]) if m in change else stored.read(rows)
            for m, stored in self.inputs.items()
        }
        absent = {m: lacking[places] for m, lacking in self.absent.items()}
        weights = None if self.weights is None else self.weights[places]
        return Batch(inputs, self.targets[places], numbers, absent=absent, weights=weights)

    def finished(self, batch: Batch) -> Batch:
        return replace(batch, inputs={m: self.inputs[m].finished(x) for m, x in batch.inputs.items()})


@dataclass(frozen=True)
class Joined(OnDisk):
    """Several splits of the same layout, one after another, as one split."""

    splits: Sequence[StoredSplit]

    def __len__(self) -> int:
        return sum(map(len, self.splits))

    @property
    def in_memory(self) -> bool:
        return all(split.in_memory for split in self.splits)

    @property
    def targets(self) -> Tensor:
        """The targets of all splits."""
        return torch.cat([split.targets for split in self.splits])

    def read(self, index: Tensor, change: Change | None = None) -> Batch:
        ends = torch.tensor([len(split) for split in self.splits]).cumsum(0)
        owner = torch.bucketize(index, ends, right=True)
        asked = [
            (split, end - len(split), owner == number)
            for number, (split, end) in enumerate(zip(self.splits, ends, strict=True))
        ]
        batches = [split.numbered(index[mine] - start, index[mine], change or {}) for split, start, mine in asked if mine.any()]
        back = torch.cat([mine.nonzero().flatten() for _, _, mine in asked]).argsort()
        inputs = {m: joined([batch.inputs[m] for batch in batches])[back] for m in batches[0].inputs}
        return Batch(inputs, torch.cat([batch.targets for batch in batches])[back], index)

    def finished(self, batch: Batch) -> Batch:
        return self.splits[0].finished(batch)


def chained(splits: Sequence[StoredSplit]) -> StoredSplit | Joined:
    """Make one split of one or more."""
    return splits[0] if len(splits) == 1 else Joined(splits)
