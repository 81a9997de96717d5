"""Splits of a data set, and how a batch of them is read, changed by transforms and finished."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from agmbench.contracts.batches import Batch
from agmbench.contracts.inputs import Input, joined

SplitName = Literal["train", "dev", "valid", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


class Split(Protocol):
    """One split of a data set. It gives any batch of samples by their numbers.

    Inputs are float32, including word numbers. A split that holds the targets of all its samples may give them as `targets` `[N, ...]`.
    """

    def __len__(self) -> int: ...
    def batch(self, index: Tensor) -> Batch: ...


class ChangeOf(Protocol):
    """Changes a sample of one modality, given its number and its input as it was read, in a batch of one; returns the changed input.

    With `any_size`, pictures from files come in their original size.
    """

    @property
    def any_size(self) -> bool: ...
    def __call__(self, number: int, x: Input) -> Input: ...


Change = Mapping[str, ChangeOf]  # by modality; a modality that is not in it is not changed


class Staged(ABC):
    """A split whose batches are made in two steps: they are `read` in a process that reads ahead, and `finished` where the model is.

    So data are copied to a GPU in the small form in which they are stored: frames, for example, are bytes until they are on the GPU.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: Tensor, change: Change | None = None) -> Batch:
        """The samples with these numbers as they are stored, each changed by `change`."""

    @abstractmethod
    def finished(self, batch: Batch) -> Batch:
        """Turn a batch that was read, and may be on any device by now, into the form that encoders take."""

    def batch(self, index: Tensor) -> Batch:
        """The samples with these numbers."""
        return self.finished(self.read(index))


def read(split: Split, index: Tensor, change: Change | None = None) -> Batch:
    """Read a batch of any split: the first of its two steps. A split that is not `Staged` does all the work here."""
    if isinstance(split, Staged):
        return split.read(index, change)
    batch = split.batch(index)
    if change is None:
        return batch
    numbers = batch.index.tolist()
    inputs = {m: changed_each(x, numbers, change[m]) if m in change else x for m, x in batch.inputs.items()}
    return replace(batch, inputs=inputs)


def finished(split: Split, batch: Batch) -> Batch:
    """Finish a batch that was `read`: the second of its two steps."""
    return split.finished(batch) if isinstance(split, Staged) else batch


def in_memory(split: Split) -> bool:
    """Whether the samples of a split are already in memory, so that no process has to read ahead."""
    return isinstance(split, TensorSplit) or bool(getattr(split, "in_memory", False))


def changed_each(x: Input, numbers: Sequence[int], change: ChangeOf) -> Input:
    """A batch of one modality in which each sample is changed separately; `numbers` are those of the samples."""
    return joined([change(number, x[place : place + 1]) for place, number in enumerate(numbers)])


def in_order(split: Split, size: int = 256) -> Iterator[Batch]:
    """Every sample of a split once, in order."""
    for index in torch.arange(len(split)).split(size):
        yield split.batch(index)


@dataclass(frozen=True)
class TensorSplit:
    """A split held in memory: `inputs[m]` `[N, *shape_m]`, `targets` `[N, ...]`, and optionally `weights` `[N]` as in a batch."""

    inputs: Mapping[str, Input]
    targets: Tensor
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, index: Tensor) -> Batch:
        """The samples with these numbers, by one indexing operation per modality."""
        inputs = {modality: values[index] for modality, values in self.inputs.items()}
        return Batch(inputs, self.targets[index], index, weights=None if self.weights is None else self.weights[index])
