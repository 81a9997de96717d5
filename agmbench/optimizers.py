"""Optimizer, schedule and clipping of a recipe, and what follows of epochs without a gain."""

from collections.abc import Callable, Iterable, Mapping
from math import cos, inf, pi
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from agmbench.jobs import Schedule, Training
from agmbench.model import MultimodalModel


def make_optimizer(recipe: Training, model: MultimodalModel, modulator: nn.Module) -> Optimizer:
    """One parameter group an encoder, one for the fusion, one for what the modulator brings; each knows its `name`."""
    modules = {**model.encoders, "fusion": model.fusion, "modulator": modulator}
    trained = {name: [tensor for tensor in module.parameters() if tensor.requires_grad] for name, module in modules.items()}
    groups = [{"name": name, "params": tensors} for name, tensors in trained.items()]
    return of_recipe(recipe, [group for group in groups if group["params"]], recipe.lr)


def of_recipe(recipe: Training, tensors: Iterable[Any], lr: float) -> Optimizer:
    """An optimizer of the recipe's kind for tensors, or groups of them, at a rate."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(tensors, lr=lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(tensors, lr=lr, weight_decay=recipe.weight_decay)


def clip_gradients(recipe: Training, optimizer: Optimizer) -> None:
    """Cut the gradients of all that learns, the modulator's own parts too, to what the recipe allows; nobody waits for a number."""
    tensors = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    if recipe.clip_value is not None:
        nn.utils.clip_grad_value_(tensors, recipe.clip_value)
    if recipe.clip_norm is not None:
        nn.utils.clip_grad_norm_(tensors, recipe.clip_norm)


class Progress:
    """Epochs without a gain on valid: schedule `plateau` answers them with a decay, and in the end training is `over`.

    A gain is a rank above those of all epochs before. `waited` counts the epochs since the last gain or decay. As in UMONS's code, a
    recipe of few decays has them first, and what comes after them counts towards its early stopping.

    With `reload` the best weights come back when the next epoch begins: all tensors of the model and what of the modulator learns. The
    modulator's running scores, the optimizer's state and what draws random numbers go on.
    """

    def __init__(self, recipe: Training, model: nn.Module, modulator: nn.Module) -> None:
        self._schedule, self._most = recipe.schedule, recipe.early_stopping
        self.watches = self._schedule.name == "plateau" or self._most is not None
        learning = [tensor for tensor in modulator.parameters() if tensor.requires_grad]
        self._tensors = [*model.parameters(), *model.buffers(), *learning]
        self._best, self._weights = (-inf, -inf), list[Tensor]()
        self.waited, self.decays, self._returning = 0, 0, False

    @property
    def over(self) -> bool:
        """Whether training ends here."""
        return self._most is not None and self.waited >= self._most

    def see(self, rank: tuple[float, float]) -> None:
        """An epoch, once it is validated."""
        schedule = self._schedule
        reloads = schedule.name == "plateau" and schedule.reload
        if rank > self._best:
            self._best, self.waited = rank, 0
            self._weights = [tensor.detach().clone() for tensor in self._tensors] if reloads else []
            return
        self.waited += 1
        if schedule.name == "plateau" and self.waited >= schedule.patience and self.decays < (schedule.last or inf):
            self.decays, self.waited = self.decays + 1, 0
            self._returning = bool(self._weights)

    @torch.no_grad()
    def begin_epoch(self) -> None:
        """Put the best weights back if a decay says so: here, for those of the epoch that was validated are to be kept of it."""
        if self._returning:
            for tensor, best in zip(self._tensors, self._weights, strict=True):
                tensor.copy_(best)
        self._returning = False

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        counts = {"waited": self.waited, "decays": self.decays, "returning": self._returning}
        return {**counts, "best": self._best, "weights": self._weights} if self.watches else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a checkpoint was taken."""
        shapes = [tensor.shape for tensor in self._tensors] if state["weights"] else []
        if [tensor.shape for tensor in state["weights"]] != shapes:
            raise ValueError("its best weights are of another model")
        self.waited, self.decays, self._returning = int(state["waited"]), int(state["decays"]), bool(state["returning"])
        self._best, self._weights = tuple(state["best"]), list(state["weights"])


def make_schedule(schedule: Schedule, optimizer: Optimizer, epochs: int, progress: Progress) -> LambdaLR:
    """Stepped once an epoch. Each rate follows from the epoch or from `progress`, so a modulator may change the current one."""
    most = schedule.last or inf
    factors: dict[str, Callable[[int], float]] = {
        "constant": lambda _: 1.0,
        "step": lambda epoch: float(schedule.gamma ** min(epoch // schedule.step_size, most)),
        "cosine": lambda epoch: (1 + cos(pi * epoch / epochs)) / 2,
        "plateau": lambda _: float(schedule.gamma**progress.decays),
    }
    return LambdaLR(optimizer, factors[schedule.name])
