"""MSES: modality-specific early stopping (Fujimori et al., ACPR 2019)."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from agmbench.contracts import Batch, Context, Model, Promises, Step
from agmbench.modulators.joint import Joint


class MSES(Joint):
    """Joint training in which a modality that has stopped improving goes back to its best epoch and stops learning.

    With `loss_m(e)` the loss on valid of a modality's Shapley response after epoch e, the losses of two epochs are averaged,

        v_m(e) = .6 loss_m(e-1) + .4 loss_m(e),    in the first epoch v_m is the loss itself

    and the best epoch is the one with the smallest `v_m`. After the first epoch with `e - best > patience`, the weights of the best epoch
    are restored when the next epoch begins. From then on encoder m is frozen, including BatchNorm statistics, and its own head (its slice
    `W_m` under `concat`) has no gradient, though momentum and weight decay still move that head. Training ends when no modality learns
    any more.

    patience: official 10 (AV-MNIST), 80 (CREMA-D), 30 (UR-FUNNY); ours the same in the entries of these data sets, 10 elsewhere.
    scope: what is restored. `model`, as in the official code and by default: all encoders, the fusion and the state of the optimizer. The
        other modalities then lose what they have learnt since, and the weights of a modality that stopped earlier may change again.
        `encoder`: only encoder m.

    Official code: that of AGM, which made the baselines of its paper; the same best and last epochs (its values are in
    `tests/reference`). It uses losses on test, which we do not follow. It restores the learning rate of the best epoch with the
    optimizer, while ours depends only on the epoch. And it sets the gradients of what has stopped to zero, so that momentum and weight
    decay still move that encoder.
    """

    promises = Promises(puts_back=True, weights=True)
    before: Tensor
    least: Tensor
    best: Tensor
    frozen: Tensor
    restored: Tensor

    def __init__(
        self,
        modalities: tuple[str, ...],
        *,
        patience: Annotated[int, Ge(0)] = 10,
        scope: Literal["model", "encoder"] = "model",
    ) -> None:
        super().__init__(modalities)
        self.patience = patience
        self.scope = scope
        starts = {"before": float("nan"), "least": float("inf"), "best": 0.0, "frozen": 0.0, "restored": 0.0}
        for name, start in starts.items():
            self.register_buffer(name, torch.full((len(modalities),), start, dtype=torch.float64))
        self._kept: dict[str, dict[str, Any]] = {}  # the states of the best epoch of each modality
        self._resting: list[str] = []

    def begin_epoch(self, context: Context) -> None:
        # restored here and not in `end_epoch`, because the weights at the end of an epoch should be those that were validated
        self._resting = [m for m, frozen in zip(self.modalities, self.frozen, strict=True) if frozen]
        for number, modality in enumerate(self.modalities):
            if self.frozen[number] and not self.restored[number]:
                self._restore(self._kept[modality], context)
                self.restored[number] = 1
        for modality in self._resting:
            context.model.encoders[modality].eval().requires_grad_(False)

    def steps(self, model: Model, batches: Sequence[Batch]) -> Iterable[Step]:
        return super().steps(model, batches) if len(self._resting) < len(self.modalities) else ()

    def adjust(self, model: Model, parts: Sequence[Step]) -> Mapping[str, Tensor]:
        for modality in self._resting:
            for gradient in model.fusion.own_gradients(modality):
                gradient.zero_()
        return {}

    def end_epoch(self, context: Context) -> None:
        whole = self._states(context.model, self.modalities, context) if self.scope == "model" else {}
        for number, modality in enumerate(self.modalities):
            if self.frozen[number]:
                continue
            new, old = context.valid_loss[modality], self.before[number].clone()
            smoothed = new if torch.isnan(old) else 0.6 * old + 0.4 * new
            self.before[number] = new
            if smoothed < self.least[number]:
                self.least[number], self.best[number] = smoothed, context.epoch
                self._kept[modality] = whole or self._states(context.model, [modality])
            self.frozen[number] = context.epoch - self.best[number] > self.patience

    def _states(self, model: Model, which: Sequence[str], context: Context | None = None) -> dict[str, Any]:
        """Copies of the states of these encoders; with a context, also of the fusion and the optimizer."""
        parts: dict[str, nn.Module] = {modality: model.encoders[modality] for modality in which}
        if context is not None:
            parts["fusion"] = model.fusion
        found: dict[str, Any] = {"weights": {name: part.state_dict() for name, part in parts.items()}}
        if context is not None and context.optimizer is not None:
            found["optimizer"] = context.optimizer.state_dict()["state"]
        return copy.deepcopy(found)

    def _restore(self, kept: Mapping[str, Any], context: Context) -> None:
        parts = {**context.model.encoders, "fusion": context.model.fusion}
        for name, state in kept["weights"].items():
            parts[name].load_state_dict(state)
        if context.optimizer is not None and "optimizer" in kept:
            present = context.optimizer.state_dict()
            context.optimizer.load_state_dict({**present, "state": copy.deepcopy(kept["optimizer"])})

    def get_extra_state(self) -> dict[str, Any]:
        """The states of the best epochs, which a checkpoint saves."""
        return self._kept

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take the states of the best epochs from a checkpoint."""
        self._kept = state
