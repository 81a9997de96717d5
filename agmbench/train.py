"""The training loop: one for every method. A modulator says how gradients come to be; the loop does the rest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from agmbench.contracts import Batch, Context, Metric, Modulator, Split, SplitName, Step, Tokens
from agmbench.cost import Meter
from agmbench.errors import RunFailed
from agmbench.evaluate import evaluate, measure
from agmbench.jobs import Training
from agmbench.model import MultimodalModel
from agmbench.optimizers import make_optimizer, make_schedule
from agmbench.records import Point, numbers


@dataclass(frozen=True)
class Epoch:
    """One finished epoch: its `number` from 0, what was measured on `valid`, and all points for the tracker.

    `costs` are the points that are no result and differ from one machine, and one run, to the next.
    """

    number: int
    valid: Mapping[str, float]
    points: list[Point]
    costs: list[Point] = field(default_factory=list, compare=False)


def train(
    model: MultimodalModel,
    modulator: Modulator,
    splits: Mapping[SplitName, Split],
    recipe: Training,
    metrics: Mapping[str, Metric],
    seed: int,
    device: torch.device,
) -> Iterator[Epoch]:
    """Train `model` in place; each epoch is yielded as soon as it is validated, and the next begins when it is asked for."""
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    context = Context(
        epoch=0,
        epochs=recipe.epochs,
        steps_per_epoch=len(_batches_of(len(splits["train"]), recipe.batch_size)),
        splits={name: split for name, split in splits.items() if name != "test"},  # no method sees the test set
        generator=torch.Generator(device).manual_seed(seed),
        model=model,
    )
    modulator.prepare(context)
    optimizer = make_optimizer(recipe, model, modulator)
    schedule = make_schedule(recipe.schedule, optimizer, recipe.epochs)
    log, meter = StepLog(), Meter(model, device)
    for epoch in range(recipe.epochs):
        context = replace(context, epoch=epoch)
        lr = float(schedule.get_last_lr()[0])
        model.train()
        meter.start()
        modulator.begin_epoch(context)
        rates = modulator.rates(context)
        for group in optimizer.param_groups:
            group["lr"] *= rates.get(group["name"], 1.0)
        for batch in shuffled(splits["train"], recipe.batch_size, order, device):
            autocast = torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")
            with autocast, meter.batch(len(batch.targets)):
                for step in modulator.steps(model, batch):
                    if not torch.isfinite(step.loss):
                        raise RunFailed(f"the loss is not finite at epoch {epoch}, step {log.steps}: {_culprit(model, batch)}")
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                    log.add(step, batch)
        schedule.step()
        points = log.flush(epoch)
        costs = numbers(meter.stop(len(splits["train"])), epoch)
        outcome = evaluate(model, splits["valid"], device)
        if not torch.isfinite(outcome.full).all():
            where = f"epoch {epoch}, after step {log.steps - 1}"
            raise RunFailed(f"the loss on valid is not finite at {where}: {_culprit(model, batch)}")
        valid = measure(outcome, metrics)
        context = replace(
            context,
            valid_accuracy={modality: valid[f"response/{modality}"] for modality in model.modalities},
            valid_loss={modality: valid[f"response-loss/{modality}"] for modality in model.modalities},
        )
        modulator.end_epoch(context)
        points += numbers({"lr": lr, **{f"valid/{name}": value for name, value in valid.items()}}, epoch)
        yield Epoch(epoch, valid, points, costs)


def shuffled(split: Split, size: int, order: torch.Generator, device: torch.device) -> Iterator[Batch]:
    """Every sample once, in the generator's order; a last batch of one sample, which BatchNorm cannot take, is left out."""
    permutation = torch.randperm(len(split), generator=order)
    for piece in _batches_of(len(split), size):
        batch = split.batch(permutation[piece])
        yield batch.to(device)


def _batches_of(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size) if count - start >= 2]


class StepLog:
    """Losses, hits and signals of the steps since the last flush, kept on the device so that no step waits for a copy."""

    def __init__(self) -> None:
        self.steps = 0
        self._begun = 0
        self._names: list[str] = []
        self._rows: list[torch.Tensor] = []
        self._sums: list[torch.Tensor] = []

    def add(self, step: Step, batch: Batch) -> None:
        self._names = list(step.signals)
        count = len(batch.targets)
        hits = (step.logits.argmax(dim=1) == batch.targets).sum()
        self._sums.append(torch.stack([step.loss.double() * count, hits.double(), torch.full_like(hits, count).double()]))
        if step.signals:
            self._rows.append(torch.stack([value.detach().double() for value in step.signals.values()]))
        self.steps += 1

    def flush(self, epoch: int) -> list[Point]:
        """Mean loss and accuracy of the epoch's batches, and each signal of each step, as points."""
        loss, hits, count = torch.stack(self._sums).sum(dim=0).tolist()
        points = numbers({"train/loss": loss / count, "train/accuracy": hits / count}, epoch)
        if self._rows:
            for offset, row in enumerate(torch.stack(self._rows).tolist()):
                points += numbers(dict(zip(self._names, row, strict=True)), self._begun + offset)
        self._begun, self._rows, self._sums = self.steps, [], []
        return points


@torch.no_grad()
def _culprit(model: MultimodalModel, batch: Batch) -> str:
    """Where a loss that is not finite comes from, with the weights that made it."""
    inputs = [m for m in model.modalities if not _finite(batch.inputs[m])]
    if inputs:
        return f"the input of {', '.join(inputs)} is not finite; look at the data"
    features = [m for m, feature in model.encode(batch.inputs).items() if not _finite(feature)]
    if features:
        return f"the encoder of {', '.join(features)} gives features that are not finite; try a smaller training.lr"
    return f"inputs and features of {', '.join(model.modalities)} are finite, the fusion is not; try a smaller training.lr"


def _finite(x: Tensor | Tokens) -> bool:
    return bool(torch.isfinite(x.values if isinstance(x, Tokens) else x).all())
