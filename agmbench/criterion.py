"""The training losses of a recipe that differ from the task's losses: smoothed labels, and a weight for each class."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agmbench.tasks import Segments, Task


class Criterion(nn.Module):
    """The losses of samples `[B]`, from logits `[B, C]` and class numbers `[B]` or shares of classes `[B, C]`; for segments `[B, T, ...]`.

    smoothing: epsilon of label smoothing (Szegedy et al., CVPR 2016): the target is 1 - epsilon for the right class, plus epsilon / C for
        every class.
    weights: `[C]`, one per class; a loss is multiplied by the weight of its class. They are not part of a checkpoint.

    With neither, these are the losses of the task.
    """

    def __init__(self, smoothing: float = 0.0, weights: Tensor | None = None) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.register_buffer("weights", weights, persistent=False)

    def losses(self, task: Task, logits: Tensor, targets: Tensor) -> Tensor:
        """The losses. This is not called `forward`, because torch watches calls of `forward`, and AGM takes gradients with respect to
        exactly the logits that are given here."""
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
    """Weights `[C]`: n / (C n_c) for each class, so that the mean over the samples is 1. A class without samples has 1."""
    counts = torch.bincount(targets.flatten(), minlength=classes)
    return torch.where(counts > 0, targets.numel() / (classes * counts.clamp(min=1)), 1.0).float()
