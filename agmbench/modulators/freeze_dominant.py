"""Freezing the dominant modality: the plainest way to give the others time."""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from agmbench.contracts import Context, Model, Promises
from agmbench.modulators.joint import Joint


class FreezeDominant(Joint):
    """Joint training in which the encoder of the strongest modality is frozen in the first epochs.

    After one joint epoch, the modality whose Shapley response has the highest accuracy on valid is taken as the dominant one. Its
    encoder, including BatchNorm statistics, is frozen for the next `epochs` epochs, and then goes on learning:

        d = argmax_m acc_m after epoch 0,   dL/dtheta_d <- none   for 1 <= epoch <= epochs.

    A baseline of this benchmark, not a published method.

    epochs: how long it is frozen. Ours 2.
    dominant: the name of the modality, which is then frozen from the first epoch on; `None` finds it as above.
    """

    promises = Promises(weights=True)
    found: Tensor

    def __init__(self, modalities: tuple[str, ...], *, epochs: Annotated[int, Ge(0)] = 2, dominant: str | None = None) -> None:
        super().__init__(modalities)
        self.epochs = epochs
        self.dominant = dominant
        self.register_buffer("found", torch.tensor(-1))

    def refuses(self, model: Model) -> str | None:
        if self.dominant is not None and self.dominant not in self.modalities:
            return f"cannot freeze '{self.dominant}', no modality of this data set: {', '.join(self.modalities)}"
        return None

    def prepare(self, context: Context) -> None:
        encoders = context.model.encoders
        self._learn = {m: [n for n, tensor in encoders[m].named_parameters() if tensor.requires_grad] for m in self.modalities}

    def begin_epoch(self, context: Context) -> None:
        if self.dominant is not None:
            modality, first = self.dominant, 0
        elif context.epoch > 0:
            if self.found < 0:
                strongest = max(self.modalities, key=lambda m: context.valid_accuracy[m])
                self.found.fill_(self.modalities.index(strongest))
            modality, first = self.modalities[int(self.found)], 1
        else:
            return
        resting = first <= context.epoch < first + self.epochs
        encoder = context.model.encoders[modality].train(not resting)
        for name in self._learn[modality]:
            encoder.get_parameter(name).requires_grad_(not resting)
