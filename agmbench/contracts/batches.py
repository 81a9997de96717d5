"""A batch: the samples that an encoder, a fusion and a modulator are given."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from agmbench.contracts.inputs import Input, Tokens


@dataclass(frozen=True)
class Batch:
    """The samples of a batch: `inputs[m]` `[B, *shape_m]` or sequences; `targets` `[B, ...]` according to the task (class numbers `[B]`);
    `index` `[B]`, the numbers of the samples in their split.

    `at` `[B]`, in training: the places of the samples in the list of the epoch's samples, which may contain a sample several times.

    `absent[m]` `[B]` is true for the samples that have no modality m. It is there only for modalities that some samples of the split lack.
    For these samples, encoders get the muted input (the job's `mute`), as they do in a coalition without the modality.

    `weights` `[B]`, if the data set weighs its training samples: the weight of each sample's loss, at least 0 and 1 on average over train.
    """

    inputs: Mapping[str, Input]
    targets: Tensor
    index: Tensor
    at: Tensor | None = None
    absent: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device. Copies from pinned memory do not block the host."""
        return Batch(
            {modality: values.to(device, non_blocking=True) for modality, values in self.inputs.items()},
            self.targets.to(device, non_blocking=True),
            self.index.to(device, non_blocking=True),
            None if self.at is None else self.at.to(device, non_blocking=True),
            {modality: lacking.to(device, non_blocking=True) for modality, lacking in self.absent.items()},
            None if self.weights is None else self.weights.to(device, non_blocking=True),
        )

    def pin_memory(self) -> "Batch":
        """The same batch in pinned memory, from which copies to a GPU do not block the host; torch's `DataLoader` calls this."""
        return Batch(
            {modality: values.pin_memory() for modality, values in self.inputs.items()},
            self.targets.pin_memory(),
            self.index.pin_memory(),
            None if self.at is None else self.at.pin_memory(),
            {modality: lacking.pin_memory() for modality, lacking in self.absent.items()},
            None if self.weights is None else self.weights.pin_memory(),
        )

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor of the batch."""
        for values in self.inputs.values():
            yield from values.tensors() if isinstance(values, Tokens) else (values,)
        yield self.targets
        yield self.index
        if self.at is not None:
            yield self.at
        yield from self.absent.values()
        if self.weights is not None:
            yield self.weights


def muted(batch: Batch, mute: Callable[[str, Input], Input], known: Collection[str]) -> Batch:
    """The batch with muted inputs, made by `mute`, for the modalities that samples lack, as far as these modalities are in `known`. The
    sequence of such a sample keeps its mask, which hides all of it."""
    inputs = dict(batch.inputs)
    for modality, lacking in [(m, lacking) for m, lacking in batch.absent.items() if m in known]:
        x, blank = inputs[modality], mute(modality, inputs[modality])
        if isinstance(x, Tokens) and isinstance(blank, Tokens):
            inputs[modality] = replace(x, values=torch.where(lacking[:, None, None], blank.values, x.values))
        elif isinstance(x, Tensor) and isinstance(blank, Tensor):
            inputs[modality] = torch.where(lacking.reshape(-1, *[1] * (x.ndim - 1)), blank, x)
    return replace(batch, inputs=inputs)
