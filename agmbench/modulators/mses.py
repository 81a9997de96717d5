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

    The validation loss of a modality's response is smoothed from epoch to epoch,

        l_m <- .6 l_m + .4 loss_m,

    and when `l_m` has not fallen below its best for `patience` epochs, the encoder takes back the weights of its best epoch
    when the next begins, and learns no more, BatchNorm statistics included.

    patience: official and default 10.

    Official code: no values of it were recorded to compare with; the rule is tested on cases worked out by hand.
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
        # here and not where the epoch ends, whose weights should be those that were validated; a second time changes nothing
        for modality, frozen in zip(self.modalities, self.frozen, strict=True):
            if frozen:
                encoder = context.model.encoders[modality]
                encoder.load_state_dict(self.best[modality].state_dict())
                encoder.eval().requires_grad_(False)

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
            self.frozen[number] = self.waited[number] >= self.patience
