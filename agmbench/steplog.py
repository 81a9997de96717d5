"""The results of an epoch's steps (losses, accuracy and signals) as points for the tracker."""

from collections.abc import Sequence

import torch
from torch import Tensor

from agmbench.contracts import Batch, Step
from agmbench.names import of_split
from agmbench.records import Point, numbers
from agmbench.tasks import Task


class StepLog:
    """Keeps losses, logits and signals of the steps since the last flush, on the device, so that no step waits for a copy."""

    def __init__(self, task: Task) -> None:
        self.steps = 0
        self._task = task
        self._begun = 0
        self._kept: list[tuple[Step, Tensor]] = []

    def resume(self, steps: int) -> None:
        """Set the number of steps that were logged before."""
        self.steps = self._begun = steps

    def add(self, step: Step, batches: Sequence[Batch]) -> None:
        targets = [batch.targets for batch in batches]
        signals = {name: value.detach() for name, value in step.signals.items()}
        found = Step(step.loss.detach(), step.logits.detach(), signals)  # the method may not have detached them from the graph
        self._kept.append((found, targets[0] if len(targets) == 1 else torch.cat(targets)))
        self.steps += 1

    def flush(self, epoch: int) -> list[Point]:
        """The mean loss and the accuracy (or R2) of the epoch's batches, and each signal of each step, as points; forgets them."""
        if not self._kept:
            return []
        targets = [target for _, target in self._kept]
        counts = torch.tensor([len(target) for target in targets], dtype=torch.float64)
        losses = torch.stack([step.loss.double() for step, _ in self._kept]).cpu()
        accuracy = self._task.accuracy(torch.cat([step.logits for step, _ in self._kept]).float(), torch.cat(targets))
        means = {
            of_split("train", "loss"): float((losses * counts).sum() / counts.sum()),
            of_split("train", self._task.figure): accuracy,
        }
        points = [*numbers(means, epoch), *self._signals()]
        self._begun, self._kept = self.steps, []
        return points

    def _signals(self) -> list[Point]:
        """The signals of each step; all of them are read from the device together."""
        names = list(self._kept[0][0].signals)
        if not names:
            return []
        rows = torch.stack([torch.stack([value.double() for value in step.signals.values()]) for step, _ in self._kept])
        steps = enumerate(rows.tolist(), self._begun)
        return [point for step, row in steps for point in numbers(dict(zip(names, row, strict=True)), step)]
