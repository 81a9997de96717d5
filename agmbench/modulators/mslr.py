"""MSLR: modality-specific learning rates (Yao & Mihalcea, Findings of ACL 2022)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from agmbench.contracts import Context, Model, Promises, Step
from agmbench.modulators.joint import Joint

WINDOW = 5


class MSLR(Joint):
    """Joint training in which the gradients of encoder m and of its own head are multiplied, in epoch e, by

        rate_m(e) = c_m acc_m(e-1) / mean( acc_m(e-6), ..., acc_m(e-2) )

    with `acc_m` the accuracy on **valid** of modality m's Shapley response after an epoch. In the first six epochs the factor is only
    `c_m`. The own head of m is the part of an additive fusion that belongs to m: under `concat` its slice `W_m` of the head, under `sum`
    its head. Under other fusions there is none.

    factors: `c_m` by modality, 1 for those that are not named. Official: audio 1.3, visual .7 (AV-MNIST); .9, 1.1 (CREMA-D); audio .9,
        visual 1.4, text .7 (UR-FUNNY); else, and by default, 1.

    The gradient is multiplied, not the learning rate. So momentum keeps the factors of earlier steps, and weight decay has no factor.
    Under Adam and AdamW, which divide by the size of the gradient, a scaled gradient is nearly scaled back: use SGD.

    Official code: that of AGM, which made the baselines of its paper; the same factors, epoch by epoch (its values are in
    `tests/reference`). It uses accuracy on test, which we do not follow, and has one head per modality; `concat`, without the bias of its
    head, is ours.
    """

    promises = Promises(weights=True)
    history: Tensor
    factor: Tensor
    rate: Tensor

    def __init__(self, modalities: tuple[str, ...], *, factors: dict[str, float] | None = None) -> None:
        super().__init__(modalities)
        given = factors or {}
        self._unknown = sorted(given.keys() - set(modalities))
        missing = torch.full((WINDOW + 1, len(modalities)), float("nan"), dtype=torch.float64)
        self.register_buffer("history", missing)  # acc of the last epochs, newest last
        self.register_buffer("factor", torch.tensor([given.get(m, 1.0) for m in modalities], dtype=torch.float64))  # c
        self.register_buffer("rate", self.factor.clone())  # the factor of the gradients in this epoch

    def refuses(self, model: Model) -> str | None:
        if self._unknown:
            return f"has factors for {', '.join(self._unknown)}, no modality of this data set: {', '.join(self.modalities)}"
        return None

    def begin_epoch(self, context: Context) -> None:
        pace = self.history[-1] / self.history[:-1].mean(dim=0).clamp(min=1e-8)
        self.rate.copy_(self.factor * torch.where(torch.isfinite(pace), pace, 1.0))

    def adjust(self, model: Model, parts: Sequence[Step]) -> Mapping[str, Tensor]:
        for modality, rate in zip(self.modalities, self.rate, strict=True):
            own = [tensor.grad for tensor in model.encoders[modality].parameters() if tensor.grad is not None]
            for gradient in (*own, *model.fusion.own_gradients(modality)):
                gradient.mul_(rate)
        return self.named(rate=self.rate.clone())

    def end_epoch(self, context: Context) -> None:
        newest = torch.tensor([context.valid_accuracy[m] for m in self.modalities], dtype=torch.float64)
        self.history.copy_(torch.cat([self.history[1:], newest.to(self.history.device).unsqueeze(0)]))
