"""The losses of training, where a recipe has others than the task's: smoothed labels, and a weight for each class."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agmbench.tasks import Segments, Task


class Criterion(nn.Module):
    """The losses of samples `[B]`, of logits `[B, C]` and class numbers `[B]` or shares of classes `[B, C]`; of segments, `[B, T, ...]`.

    smoothing: epsilon of label smoothing (Szegedy et al., CVPR 2016): the target is 1 - epsilon of its class, and epsilon / C of each.
    weights: of the classes, `[C]`; a loss is multiplied by its class's. They are no part of a checkpoint.

    With neither, the task's own.
    """

    def __init__(self, smoothing: float = 0.0, weights: Tensor | None = None) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.register_buffer("weights", weights, persistent=False)

    def losses(self, task: Task, logits: Tensor, targets: Tensor) -> Tensor:
        """Not `forward`: torch watches the calls of modules, and AGM takes gradients by the very logits that come in here."""
        if not self.smoothing and self.weights is None:
            return task.losses(logits, targets)
        segments = isinstance(task, Segments)
        rows, of_rows = (logits.flatten(0, 1), targets.flatten(0, 1)) if segments else (logits, targets)
        losses = F.cross_entropy(rows, of_rows, reduction="none", label_smoothing=self.smoothing)
        if self.weights is not None:
            weights = cast(Tensor, self.weights)
            losses = losses * (of_rows @ weights if of_rows.is_floating_point() else weights[of_rows])
        return losses.unflatten(0, targets.shape[:2]).mean(dim=1) if segments else losses


def balanced(targets: Tensor, classes: int) -> Tensor:
    """`[C]`, n / (C n_c) of each class: the mean over the samples is 1. A class without samples has 1."""
    counts = torch.bincount(targets.flatten(), minlength=classes)
    return torch.where(counts > 0, targets.numel() / (classes * counts.clamp(min=1)), 1.0).float()
