"""MSES: modality-specific early stopping (Fujimori et al., ACPR 2019)."""

import copy
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from agmbench.contracts import Context, Promises
from agmbench.modulators.joint import Joint


class MSES(Joint):
    """Joint training in which an encoder that has stopped improving goes back to its best weights and is frozen.

    A modality's validation loss is smoothed, `.6 old + .4 new`; when the smoothed loss has not fallen below its best for `patience`
    epochs, the encoder takes back the weights of its best epoch and learns no more, BatchNorm statistics included.

    patience: official and default 10.
    """

    promises = Promises()
    smoothed: Tensor
    least: Tensor
    waited: Tensor
    frozen: Tensor

    def __init__(self, modalities: tuple[str, ...], *, patience: Annotated[int, Ge(1)] = 10) -> None:
        super().__init__(modalities)
        self.patience = patience
        for name, start in (("smoothed", float("nan")), ("least", float("inf")), ("waited", 0.0), ("frozen", 0.0)):
            self.register_buffer(name, torch.full((len(modalities),), start, dtype=torch.float64))

    def prepare(self, context: Context) -> None:
        encoders = context.model.encoders
        self.best = nn.ModuleDict({m: copy.deepcopy(encoders[m]) for m in self.modalities}).requires_grad_(False)

    def begin_epoch(self, context: Context) -> None:
        for modality, frozen in zip(self.modalities, self.frozen, strict=True):
            if frozen:
                context.model.encoders[modality].eval().requires_grad_(False)

    def end_epoch(self, context: Context) -> None:
        encoders = context.model.encoders
        for number, modality in enumerate(self.modalities):
            if self.frozen[number]:
                continue
            new, old = context.valid_loss[modality], self.smoothed[number].clone()
            self.smoothed[number] = new if torch.isnan(old) else 0.6 * old + 0.4 * new
            if self.smoothed[number] < self.least[number]:
                self.least[number], self.waited[number] = self.smoothed[number], 0
                self.best[modality].load_state_dict(encoders[modality].state_dict())
                continue
            self.waited[number] += 1
            if self.waited[number] >= self.patience:
                encoders[modality].load_state_dict(self.best[modality].state_dict())
                self.frozen[number] = 1
