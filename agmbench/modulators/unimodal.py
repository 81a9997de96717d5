"""The best modality alone: what a multimodal method has to beat to be worth its cost."""

from collections.abc import Sequence

import torch
from torch import Tensor

from agmbench.contracts import Context, Model, Split, in_order
from agmbench.modulators.ensemble import Ensemble, alone


class Unimodal(Ensemble):
    """Answers with one mono-modal concept, the reference run of competition strength; trains nothing itself. A baseline.

        f = log softmax( C^m(x_m) ),   m = argmin_k CE( C^k(x_k), y ) on valid

    modality: whose concept; `None`, the default, is the one with the least loss on valid.
    """

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
            device = context.generator.device
            losses = {m: _loss(concept, m, context.splits["valid"], device) for m, concept in context.concepts.items()}
            modality = min(self.modalities, key=lambda m: losses[m])
        self.chosen.fill_(self.modalities.index(modality))

    def members(self) -> Sequence[str]:
        return (self.modalities[int(self.chosen)],)


@torch.no_grad()
def _loss(concept: Model, modality: str, split: Split, device: torch.device) -> float:
    """The concept's loss, summed over a split."""
    total = 0.0
    for batch in (batch.to(device) for batch in in_order(split)):
        total += float(concept.loss(alone(concept, modality, batch.inputs).logits, batch.targets)) * len(batch.targets)
    return total
