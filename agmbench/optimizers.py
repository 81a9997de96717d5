"""The optimizer, schedule, clipping and running mean of a recipe, and what happens after epochs without a gain."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from math import cos, inf, pi
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from agmbench.clipping import clip_norm_by_heads
from agmbench.encoders.layers import in_layers
from agmbench.errors import allowed, describe
from agmbench.jobs import Schedule, Training
from agmbench.model import MultimodalModel

Factor = Callable[[int], float]  # the factor of a learning rate in an epoch


def make_optimizer(recipe: Training, model: MultimodalModel, modulator: nn.Module) -> Optimizer:
    """Make the optimizer, with one parameter group per encoder (with `layer_decay`, one per layer), one for the fusion, and one for the
    modulator's own parameters.

    The `name` of a group is that of its part; all groups of an encoder have the same name. Raises `ValueError` for an impossible recipe.
    """
    modules: dict[str, nn.Module] = {**model.encoders, "fusion": model.fusion, "modulator": modulator}
    layers = {name: in_layers(module) for name, module in model.encoders.items()} if recipe.layer_decay is not None else {}
    groups: list[dict[str, Any]] = []
    for name, module in modules.items():
        own = {"name": name, "weight_decay": recipe.weight_decay_of.get(name, recipe.weight_decay)}
        for depth, tensors in enumerate(reversed(layers.get(name) or [[*module.parameters()]])):
            rate = recipe.lr_of.get(name, recipe.lr) * (recipe.layer_decay or 1.0) ** depth
            groups.append({**own, "lr": rate, "params": [tensor for tensor in tensors if tensor.requires_grad]})
    groups = [group for group in groups if group["params"]]
    return of_recipe(recipe, groups, recipe.lr)


def of_recipe(recipe: Training, tensors: Iterable[Any], lr: float) -> Optimizer:
    """An optimizer of the recipe's kind with learning rate `lr`, for tensors or for groups of tensors that may have their own rates."""
    groups = [*tensors]
    if twice := {"lr", "weight_decay", "momentum"} & recipe.optimizer_args.keys():
        raise ValueError(
            f"training.optimizer_args has {', '.join(sorted(twice))}; give them as training.{min(twice)} and so on"
        )
    common: dict[str, Any] = {"lr": lr, "weight_decay": recipe.weight_decay, **recipe.optimizer_args}
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=recipe.momentum, **common)
    if recipe.optimizer in ("adam", "adamw"):
        return (torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW)(groups, **common)
    return _of_timm(recipe, groups, common)


def _of_timm(recipe: Training, groups: list[Any], common: Mapping[str, Any]) -> Optimizer:
    import timm.optim

    optim: Any = timm.optim  # a type checker does not see all of its exports

    name = recipe.optimizer.removeprefix("lookahead_")
    known: list[str] = optim.list_optimizers()
    if name not in known:
        raise ValueError(
            f"training.optimizer: no optimizer '{recipe.optimizer}': {allowed(name, known, 'timm.optim.list_optimizers()')}"
        )
    if name.startswith("kron"):
        raise ValueError(
            f"training.optimizer: '{name}' compiles its steps, and the cost of compiled steps cannot be measured; choose another optimizer"
        )
    if optim.get_optimizer_info(name).second_order:
        raise ValueError(
            f"training.optimizer: '{name}' needs second derivatives, which no method here computes; choose another optimizer"
        )
    made: Optimizer = optim.create_optimizer_v2(groups, opt=recipe.optimizer, momentum=recipe.momentum, **common)
    return made


def clip_gradients(recipe: Training, optimizer: Optimizer, model: MultimodalModel) -> None:
    """Clip the gradients of all trained tensors, including the modulator's own, as the recipe says; the host does not wait for a number."""
    tensors = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    if recipe.clip_value is not None:
        nn.utils.clip_grad_value_(tensors, recipe.clip_value)
    if recipe.clip_norm is not None and recipe.clip_when == "head":
        clip_norm_by_heads(tensors, model.fusion.heads(), recipe.clip_norm)
    elif recipe.clip_norm is not None:
        nn.utils.clip_grad_norm_(tensors, recipe.clip_norm)


class Gains:
    """Counts epochs without a gain on valid. After some of them, schedule `plateau` decays the rate, and early stopping ends training.

    A gain is a rank above those of all earlier epochs. `waited` counts the epochs since the last gain or decay. Each decay starts the count
    again, as in UMONS's code: if early stopping waits at least as long as `patience`, training ends only after the last possible decay.

    With `reload`, the best weights are restored when the next epoch begins: all tensors of the model, and the trained tensors of the
    modulator. The modulator's running scores, the optimizer's state and the random generators are not restored.
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
        """Whether early stopping ends training now."""
        return self._most is not None and self.waited >= self._most

    def see(self, rank: tuple[float, float]) -> None:
        """Count an epoch after its validation, given its rank."""
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
        """Restore the best weights if a decay asked for it. This waits until the next epoch begins, so that the weights that were validated
        can still be saved."""
        if self._returning:
            for tensor, best in zip(self._tensors, self._weights, strict=True):
                tensor.copy_(best)
        self._returning = False

    def state_dict(self) -> dict[str, Any]:
        """The counts and the best weights, for a checkpoint."""
        counts = {"waited": self.waited, "decays": self.decays, "returning": self._returning}
        return {**counts, "best": self._best, "weights": self._weights} if self.watches else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of a checkpoint."""
        shapes = [tensor.shape for tensor in self._tensors] if state["weights"] else []
        if [tensor.shape for tensor in state["weights"]] != shapes:
            raise ValueError("its best weights are of another model")
        self.waited, self.decays, self._returning = int(state["waited"]), int(state["decays"]), bool(state["returning"])
        self._best, self._weights = tuple(state["best"]), list(state["weights"])


class Average:
    """The running mean (the recipe's `ema`) of all trained tensors and of the model's buffers; without `ema` it does nothing.

    `enter` replaces the weights by the mean and keeps them here, and `leave` puts them back. A state that is saved in between contains
    both: the mean as the model's weights, and the weights here.
    """

    def __init__(self, recipe: Training, model: nn.Module, modulator: nn.Module) -> None:
        self._decay = recipe.ema
        learning = [tensor for part in (model, modulator) for tensor in part.parameters() if tensor.requires_grad]
        self._tensors: list[Tensor] = [*learning, *model.buffers()] if self._decay is not None else []
        self._others = [tensor.detach().clone() for tensor in self._tensors]
        self._steps, self._entered = 0, False

    @torch.no_grad()
    def update(self) -> None:
        """Update the mean after an optimizer step."""
        if self._decay is None:
            return
        self._steps += 1
        moved = 1 - min(self._decay, (1 + self._steps) / (10 + self._steps))
        for mean, tensor in zip(self._others, self._tensors, strict=True):
            if mean.is_floating_point():
                mean.lerp_(tensor, moved)
            else:
                mean.copy_(tensor)

    def enter(self) -> None:
        """Replace the weights by the mean; called after the last step of an epoch."""
        self._swap(True)

    def leave(self) -> None:
        """Put the weights back; called when the next epoch begins."""
        self._swap(False)

    @torch.no_grad()
    def _swap(self, entered: bool) -> None:
        if self._entered != entered:
            for other, tensor in zip(self._others, self._tensors, strict=True):
                kept = tensor.clone()
                tensor.copy_(other)
                other.copy_(kept)
            self._entered = entered

    def state_dict(self) -> dict[str, Any]:
        """The number of steps and the tensors that are kept here, for a checkpoint."""
        return {} if self._decay is None else {"steps": self._steps, "entered": self._entered, "others": self._others}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of a checkpoint."""
        if [tensor.shape for tensor in state["others"]] != [tensor.shape for tensor in self._others]:
            raise ValueError("its running mean of the weights is of another model")
        for other, saved in zip(self._others, state["others"], strict=True):
            other.copy_(saved)
        self._steps, self._entered = int(state["steps"]), bool(state["entered"])


def make_schedule(schedule: Schedule, optimizer: Optimizer, epochs: int, gains: Gains) -> LambdaLR:
    """The schedule, stepped once per epoch. Each rate is computed from the epoch or from `gains`, never from the current rate, so a
    modulator may change that."""
    if schedule.name.startswith("timm-"):
        factors = _factors_of_timm(schedule, [group["lr"] for group in optimizer.param_groups], epochs)
    else:
        factors = [_factor(schedule, epochs, gains)] * len(optimizer.param_groups)

    def warmed(factor: Factor) -> Factor:
        return lambda epoch: factor(epoch) * min(1.0, (epoch + 1) / (schedule.warmup + 1))

    return LambdaLR(optimizer, [warmed(factor) for factor in factors])


def _factor(schedule: Schedule, epochs: int, gains: Gains) -> Factor:
    most = schedule.last or inf
    factors: dict[str, Factor] = {
        "constant": lambda _: 1.0,
        "step": lambda epoch: float(schedule.gamma ** min(epoch // schedule.step_size, most)),
        "cosine": lambda epoch: (1 + cos(pi * epoch / epochs)) / 2,
        "plateau": lambda _: float(schedule.gamma**gains.decays),
    }
    return factors[schedule.name]


def _factors_of_timm(schedule: Schedule, rates: Sequence[float], epochs: int) -> list[Factor]:
    """The factors of each parameter group, read from one of timm's schedules on an optimizer that exists only for this."""
    import timm.scheduler

    of_timm: Any = timm.scheduler

    blank = torch.optim.SGD([{"params": [torch.zeros(1)], "lr": rate} for rate in rates], lr=1.0)
    name = schedule.name.removeprefix("timm-")
    try:
        made, _ = of_timm.create_scheduler_v2(blank, sched=name, num_epochs=epochs, **schedule.args)
        made.step(0)
    except Exception as error:  # timm may raise anything
        known = ", ".join([*signature(of_timm.create_scheduler_v2).parameters][3:])
        line = f"training.schedule: timm cannot make '{name}' with {schedule.args} ({describe(error)}); args may be {known}"
        raise ValueError(line) from error

    def factor(group: int) -> Factor:
        def found(epoch: int) -> float:
            made.step(epoch)
            return float(blank.param_groups[group]["lr"]) / rates[group]

        return found

    return [factor(group) for group in range(len(rates))]


def rate_now(recipe: Training, schedule: LambdaLR) -> float:
    """The recipe's own learning rate in this epoch, also if parts have rates of their own."""
    return recipe.lr * float(schedule.get_last_lr()[0] / schedule.base_lrs[0])


def rates_now(schedule: LambdaLR, optimizer: Optimizer) -> dict[str, float]:
    """The learning rates to record: the largest as `lr` and, if rates differ, the largest of each part as `lr/PART`."""
    found: dict[str, float] = {}
    for group, rate in zip(optimizer.param_groups, schedule.get_last_lr(), strict=True):
        found[f"lr/{group['name']}"] = max(float(rate), found.get(f"lr/{group['name']}", 0.0))
    return {"lr": max(found.values()), **(found if len({*found.values()}) > 1 else {})}
