"""Muting: the input that replaces an absent modality. Zeros or random numbers (AGM paper, supplement, table 6), or the training mean."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import torch
from torch import Tensor, nn

from agmbench.contracts import Input, Split, Tokens, in_order

EVALUATION_SEED = 0
NO_STATE = torch.empty(0, dtype=torch.uint8)


class Muting(nn.Module):
    """What replaces absent inputs. A sequence keeps its mask under every kind of muting."""

    # the modalities whose inputs are kept features, followed by the features of the muted input; and whether these have masks
    kept: Mapping[str, bool] = MappingProxyType({})
    same_for_all = True  # whether every sample of a batch (with the same mask) gets the same input

    def values(self, modality: str, x: Tensor) -> Tensor:
        """The muted input in the shape of `x`."""
        raise NotImplementedError

    def forward(self, modality: str, x: Input) -> Input:
        """The muted input that replaces `x`."""
        if modality in self.kept:
            return Tokens(_turned(x.values), x.mask) if isinstance(x, Tokens) else _turned(x)
        return Tokens(self.values(modality, x.values), x.mask) if isinstance(x, Tokens) else self.values(modality, x)

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Make muted inputs the same at every evaluation, inside the block."""
        yield


def _turned(x: Tensor) -> Tensor:
    """Each row with its two halves exchanged."""
    return x.roll(x.shape[-1] // 2, dims=-1)


class Zeros(Muting):
    """Absent inputs are zero."""

    def values(self, modality: str, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Mean(Muting):
    """Absent inputs are the mean input of the training set; for sequences, the mean token."""

    def __init__(self, train: Split, modalities: Mapping[str, object]) -> None:
        super().__init__()
        sums: dict[str, Tensor] = {}
        counts = dict.fromkeys(modalities, 0)
        for batch in in_order(train):
            for modality in modalities:
                x = batch.inputs[modality]
                rows = _rows(x[~batch.absent[modality]] if modality in batch.absent else x)
                sums[modality] = sums.get(modality, torch.zeros(())) + rows.double().sum(dim=0)
                counts[modality] += len(rows)
        for modality, total in sums.items():
            self.register_buffer(f"mean_{modality}", (total / max(1, counts[modality])).float())

    def values(self, modality: str, x: Tensor) -> Tensor:
        mean: Tensor = self.get_buffer(f"mean_{modality}")
        return mean.to(x.dtype).expand_as(x)


def _rows(x: Input) -> Tensor:
    """Samples `[N, *shape]`, or the tokens that are not masked `[N, D]`."""
    if isinstance(x, Tokens):
        return x.values.flatten(0, 1) if x.mask is None else x.values[x.mask]
    return x


class Random(Muting):
    """Absent inputs are drawn from N(0, 1) for each sample, by a separate generator; in evaluation its seed is fixed."""

    same_for_all = False

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed
        self._state = NO_STATE
        self._generator: torch.Generator | None = None  # made on the device of the first inputs

    def values(self, modality: str, x: Tensor) -> Tensor:
        if self._generator is None:
            self._generator = torch.Generator(x.device).manual_seed(self._seed)
            if len(self._state) == len(self._generator.get_state()):  # saved on the same kind of device
                self._generator.set_state(self._state)
        return torch.empty_like(x).normal_(generator=self._generator)

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        training = self._generator, self._seed, self._state
        self._generator, self._seed, self._state = None, EVALUATION_SEED, NO_STATE
        try:
            yield
        finally:
            self._generator, self._seed, self._state = training

    def get_extra_state(self) -> Tensor:
        """The generator's state, for a checkpoint."""
        return self._state if self._generator is None else self._generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the generator's state from a checkpoint."""
        self._generator, self._state = None, state.cpu()
