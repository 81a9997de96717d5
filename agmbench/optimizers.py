"""Optimizer and schedule of a recipe."""

from collections.abc import Callable
from math import cos, pi

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from agmbench.jobs import Schedule, Training
from agmbench.model import MultimodalModel


def make_optimizer(recipe: Training, model: MultimodalModel, modulator: nn.Module) -> Optimizer:
    """One parameter group an encoder, one for the fusion, one for what the modulator brings; each knows its `name`."""
    modules = {**model.encoders, "fusion": model.fusion, "modulator": modulator}
    trained = {name: [tensor for tensor in module.parameters() if tensor.requires_grad] for name, module in modules.items()}
    groups = [{"name": name, "params": tensors} for name, tensors in trained.items()]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=recipe.lr, weight_decay=recipe.weight_decay)


def make_schedule(schedule: Schedule, optimizer: Optimizer, epochs: int) -> LambdaLR:
    """Stepped once an epoch. Each rate follows from the epoch alone, so a modulator may change the current one for an epoch."""
    factors: dict[str, Callable[[int], float]] = {
        "constant": lambda _: 1.0,
        "step": lambda epoch: float(schedule.gamma ** (epoch // schedule.step_size)),
        "cosine": lambda epoch: (1 + cos(pi * epoch / epochs)) / 2,
    }
    return LambdaLR(optimizer, factors[schedule.name])
