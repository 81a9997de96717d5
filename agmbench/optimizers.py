"""Optimizer and schedule of a recipe."""

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, StepLR

from agmbench.jobs import Schedule, Training
from agmbench.model import MultimodalModel


def make_optimizer(recipe: Training, model: MultimodalModel, modulator: nn.Module) -> Optimizer:
    """One parameter group an encoder, one for the fusion, one for what the modulator brings; each knows its `name`."""
    modules = {**model.encoders, "fusion": model.fusion, "modulator": modulator}
    groups = [{"name": name, "params": list(module.parameters())} for name, module in modules.items()]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=recipe.lr, weight_decay=recipe.weight_decay)


def make_schedule(schedule: Schedule, optimizer: Optimizer, epochs: int) -> LRScheduler:
    """Stepped once an epoch."""
    if schedule.name == "cosine":
        return CosineAnnealingLR(optimizer, T_max=epochs)
    gamma = schedule.gamma if schedule.name == "step" else 1.0
    return StepLR(optimizer, step_size=schedule.step_size, gamma=gamma)
