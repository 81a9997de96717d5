"""The kinds of targets that a data set can have, with their losses and predictions. B samples, C classes, T segments."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from agmbench.outcomes import Kind

FLOATS = (torch.float32, torch.float64)


class Wrong(NamedTuple):
    """What is wrong with the targets of some samples of a batch: what was `found`, what is `expected`, and an example (`such`). `samples`
    `[B]` is true for these samples."""

    found: str
    expected: str
    samples: Tensor
    such: str = ""


def shape_of(lengths: Sequence[int]) -> str:
    """The shape of N samples in the form that messages use: `[N, 6]`."""
    return f"[{', '.join(['N', *map(str, lengths)])}]"


class Task(ABC):
    """One kind of target. Training minimizes `losses`, AGM compares `scores`, and OGM compares `likelihood`.

    kind: the kind of targets that metrics distinguish.
    figure: the name of the number that `accuracy` gives; the best epoch is chosen by it, unless the recipe names another number.
    """

    kind: ClassVar[Kind] = "classification"
    figure: ClassVar[str] = "accuracy"

    def outputs(self, classes: int) -> int:
        """The number of logits that a head has."""
        return classes

    @abstractmethod
    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of each sample, `[B]`."""

    def scores(self, logits: Tensor, targets: Tensor) -> Tensor:
        """How far each sample is from its target, `[B]`: small is strong (AGM paper, section 3.1)."""
        return self.losses(logits, targets)

    @abstractmethod
    def likelihood(self, logits: Tensor, targets: Tensor) -> Tensor:
        """How likely the right answer is, `[B]`, from 0 to 1 (OGM-GE paper, equation 7)."""

    @abstractmethod
    def predicted(self, logits: Tensor) -> Tensor:
        """The predictions that the logits imply, in the form of targets."""

    def accuracy(self, logits: Tensor, targets: Tensor) -> float:
        """The main number of the task, called `figure`: here, the share of correct predictions."""
        return float((self.predicted(logits) == self.hard(targets)).double().mean())

    def expected(self, classes: int) -> str:
        """The targets that are expected, in words for an error."""
        return "targets that give each sample one finite loss"

    def well_formed(self, targets: Tensor, classes: int) -> bool:
        """Whether targets have a type and a shape for which losses can be computed."""
        try:
            losses = self.losses(torch.zeros(len(targets), self.outputs(classes)), targets)
        except (IndexError, RuntimeError, TypeError, ValueError):
            return False
        return losses.shape == (len(targets),)

    def inside(self, targets: Tensor, classes: int) -> Tensor:
        """Which of the well-formed targets have a value that is allowed, `[B, ...]`."""
        return torch.isfinite(self.losses(torch.zeros(len(targets), self.outputs(classes)), targets))

    def wrong(self, targets: Tensor, classes: int) -> Wrong | None:
        """What is wrong with the targets of a data set with this many classes; `None` if nothing is."""
        expected = self.expected(classes)
        if not self.well_formed(targets, classes):
            found = f"targets of {targets.dtype} {shape_of(targets.shape[1:])}"
            return Wrong(found, expected, torch.ones(len(targets), dtype=torch.bool))
        outside = ~self.inside(targets, classes)
        if not outside.any():
            return None
        return Wrong(
            "targets out of range", expected, outside.reshape(len(targets), -1).any(dim=1), f"{targets[outside].flatten()[0]:g}"
        )

    def hard(self, targets: Tensor) -> Tensor:
        """Targets in the form of `predicted`; only the targets of mixed samples have another form."""
        return targets

    def labels(self, targets: Tensor) -> Tensor | None:
        """One row `[sample, class]` for each class that a sample (or a segment of it) has, `[n, 2]`; `None` if the task has no classes."""
        return None

    def rows(self, x: Tensor) -> Tensor:
        """Logits, targets or representations with one row for each unit that is judged: a sample or, with `Segments`, a segment."""
        return x

    def of_rows(self) -> "Task":
        """The task of the single rows that `rows` gives."""
        return self


class SingleLabel(Task):
    """One class per sample: logits `[B, C]`, targets `[B]`; cross entropy."""

    shape: ClassVar[str] = "[N]"

    def expected(self, classes: int) -> str:
        return f"torch.int64 {self.shape}, class numbers 0 to {classes - 1}"

    def well_formed(self, targets: Tensor, classes: int) -> bool:
        return targets.dtype == torch.int64 and targets.ndim == 1

    def inside(self, targets: Tensor, classes: int) -> Tensor:
        return (targets >= 0) & (targets < classes)

    def labels(self, targets: Tensor) -> Tensor:
        samples = torch.arange(len(targets)).repeat_interleave(targets[:1].numel())
        return torch.stack([samples, targets.flatten()], dim=1)

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, reduction="none")

    def likelihood(self, logits: Tensor, targets: Tensor) -> Tensor:
        return logits.softmax(dim=-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)

    def predicted(self, logits: Tensor) -> Tensor:
        return logits.argmax(dim=-1)


class MixedLabel(Task):
    """One class per sample, but training batches may have shares of classes `[B, C]` as targets (mixup); cross entropy.

    It is not a `SingleLabel`, so that a method that needs the class of each sample refuses it.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def shares(self, targets: Tensor) -> Tensor:
        """Class numbers `[B]` turned into shares `[B, C]`; shares are returned as they are."""
        return targets if targets.is_floating_point() else F.one_hot(targets, self.classes).float()

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, reduction="none")

    def likelihood(self, logits: Tensor, targets: Tensor) -> Tensor:
        return (logits.softmax(dim=-1) * self.shares(targets)).sum(dim=-1)

    def predicted(self, logits: Tensor) -> Tensor:
        return logits.argmax(dim=-1)

    def hard(self, targets: Tensor) -> Tensor:
        """The class with the largest share; class numbers are returned as they are."""
        return targets.argmax(dim=-1) if targets.is_floating_point() else targets


class Segments(SingleLabel):
    """One class per segment: logits `[B, T, C]`, targets `[B, T]`; a sample's loss is the mean over its segments."""

    shape = "[N, T]"

    def well_formed(self, targets: Tensor, classes: int) -> bool:
        return targets.dtype == torch.int64 and targets.ndim == 2 and targets.shape[1] > 0

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape).mean(dim=1)

    def likelihood(self, logits: Tensor, targets: Tensor) -> Tensor:
        return super().likelihood(logits, targets).mean(dim=1)

    def rows(self, x: Tensor) -> Tensor:
        return x.flatten(0, 1)

    def of_rows(self) -> Task:
        return SingleLabel()


class MultiLabel(Task):
    """Any number of C labels per sample: logits `[B, C]`, targets `[B, C]` of 0 and 1; binary cross entropy, averaged over the labels."""

    kind = "multi-label"

    def expected(self, classes: int) -> str:
        return f"torch.float32 [N, {classes}] of 0 and 1"

    def well_formed(self, targets: Tensor, classes: int) -> bool:
        return targets.dtype in FLOATS and targets.shape[1:] == (classes,)

    def inside(self, targets: Tensor, classes: int) -> Tensor:
        return (targets == 0) | (targets == 1)

    def labels(self, targets: Tensor) -> Tensor:
        return targets.nonzero()

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)

    def likelihood(self, logits: Tensor, targets: Tensor) -> Tensor:
        return torch.where(targets > 0.5, logits, -logits).sigmoid().mean(dim=1)

    def predicted(self, logits: Tensor) -> Tensor:
        return (logits > 0).to(logits.dtype)


class Regression(Task):
    """One number per sample: one output `[B, 1]`, targets `[B]`; squared error.

    AGM's score is the squared error divided by the targets' `variance` on train (our choice; the paper has only classification), and OGM's
    likelihood is `exp(-score / 2)`. The figure is R2, the share of the variance that is explained.
    """

    kind = "regression"
    figure = "r2"

    def __init__(self, variance: float) -> None:
        self.variance = variance

    def outputs(self, classes: int) -> int:
        return 1

    def expected(self, classes: int) -> str:
        return "torch.float32 [N], finite numbers"

    def well_formed(self, targets: Tensor, classes: int) -> bool:
        return targets.dtype in FLOATS and targets.ndim == 1

    def inside(self, targets: Tensor, classes: int) -> Tensor:
        return torch.isfinite(targets)

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        return (logits.squeeze(-1) - targets) ** 2

    def scores(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.losses(logits, targets) / self.variance

    def likelihood(self, logits: Tensor, targets: Tensor) -> Tensor:
        return (-self.scores(logits, targets) / 2).exp()

    def predicted(self, logits: Tensor) -> Tensor:
        return logits.squeeze(-1)

    def accuracy(self, logits: Tensor, targets: Tensor) -> float:
        spread = ((targets - targets.mean()) ** 2).double().mean()
        return float(1 - self.losses(logits, targets).double().mean() / spread)
