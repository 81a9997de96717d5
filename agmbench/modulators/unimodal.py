"""The best modality alone: what a multimodal method has to beat to be worth its cost."""

from collections.abc import Sequence

import torch
from torch import Tensor

from agmbench.contracts import Context, Model, Promises
from agmbench.modulators.ensemble import Ensemble


class Unimodal(Ensemble):
    """Predicts with one unimodal model ("mono-modal concept"), the reference run of competition strength; trains nothing. A baseline.

        f = log softmax( C^m(x_m) ),   m = argmax_k accuracy of C^k(x_k) on valid

    modality: the modality whose unimodal model is used. `None`, the default, takes the best one on valid, by the quantity that also
        chooses epochs (`training.select_by`, otherwise accuracy; among equals the smallest loss).
    """

    promises = Promises(trains=False, weights=True)
    chosen: Tensor

    def __init__(self, modalities: tuple[str, ...], *, modality: str | None = None) -> None:
        super().__init__(modalities)
        self.modality = modality
        self.register_buffer("chosen", torch.tensor(0))

    def refuses(self, model: Model) -> str | None:
        if self.modality is not None and self.modality not in self.modalities:
            return f"cannot take '{self.modality}' alone, no modality of this data set: {', '.join(self.modalities)}"
        return super().refuses(model)

    def prepare(self, context: Context) -> None:
        super().prepare(context)
        modality = self.modality
        if modality is None:
            ranks = {m: context.rank(concept) for m, concept in context.concepts.items()}
            modality = max(self.modalities, key=lambda m: ranks[m])
        self.chosen.fill_(self.modalities.index(modality))

    def members(self) -> Sequence[str]:
        return (self.modalities[int(self.chosen)],)
