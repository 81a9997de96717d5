"""MSLR: modality-specific learning rates (Yao & Mihalcea, Findings of ACL 2022)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from agmbench.contracts import Context, Model, Promises
from agmbench.modulators.joint import Joint

WINDOW = 5


class MSLR(Joint):
    """Joint training in which the learning rate of encoder m is multiplied, an epoch, by

        c_m acc_m(now) / mean of acc_m over the last five epochs

    with acc_m the **validation** accuracy of modality m's response; `c_m` alone in the first five epochs.

    factors: `c_m` by modality, 1 where none is named. Official: audio 1.3, visual .7 (AV-MNIST); .9, 1.1 (CREMA-D); audio .9,
        visual 1.4, text .7 (UR-FUNNY); else, and by default, 1.

    Official code: that of AGM reads test accuracy here, which we do not follow.
    """

    promises = Promises()
    history: Tensor

    def __init__(self, modalities: tuple[str, ...], *, factors: dict[str, float] | None = None) -> None:
        super().__init__(modalities)
        self.factors = {modality: (factors or {}).get(modality, 1.0) for modality in modalities}
        self._unknown = sorted((factors or {}).keys() - set(modalities))
        self.register_buffer("history", torch.full((WINDOW, len(modalities)), float("nan"), dtype=torch.float64))  # newest last

    def refuses(self, model: Model) -> str | None:
        if self._unknown:
            return f"has factors for {', '.join(self._unknown)}, no modality of this data set: {', '.join(self.modalities)}"
        return None

    def rates(self, context: Context) -> Mapping[str, float]:
        steady = bool(torch.isfinite(self.history).all())
        pace = self.history[-1] / self.history.mean(dim=0).clamp(min=1e-8) if steady else torch.ones(len(self.modalities))
        return {m: self.factors[m] * float(value) for m, value in zip(self.modalities, pace, strict=True)}

    def end_epoch(self, context: Context) -> None:
        newest = torch.tensor([context.valid_accuracy[m] for m in self.modalities], dtype=torch.float64)
        self.history.copy_(torch.cat([self.history[1:], newest.to(self.history.device).unsqueeze(0)]))
