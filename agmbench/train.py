"""The training loop: one for every method. A modulator says how gradients come to be; the loop does the rest."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from math import ceil
from typing import Any

import torch
from torch import Tensor

from agmbench.conduct import Conduct, malformed, wrong_samples
from agmbench.contracts import Batch, Context, Encoder, Input, Model, Modulator, SplitName, Step, muted
from agmbench.cost import Meter
from agmbench.distributed.agreement import agree, said_once
from agmbench.distributed.ranks import here
from agmbench.errors import RunFailed, describe
from agmbench.evaluate import evaluate, measure, response_figures
from agmbench.finite import Watch
from agmbench.jobs import Training
from agmbench.loading import Feed
from agmbench.measures import Judge
from agmbench.model import MultimodalModel
from agmbench.optimizers import Average, Progress, clip_gradients, make_optimizer, make_schedule, of_recipe, rate_now, rates_now
from agmbench.outcomes import Outcome
from agmbench.precision import Precision
from agmbench.recipes import Draws, mixed
from agmbench.records import Point, numbers
from agmbench.tasks import Task


class Unfit(Exception):
    """A state that is of another training, or of none."""


@contextmanager
def fitting() -> Iterator[None]:
    """Whatever goes wrong where a state is put back says that it does not fit."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise Unfit(describe(error)) from error


@dataclass(frozen=True)
class Epoch:
    """One finished epoch: its `number` from 0, what was measured on `valid`, its `rank` among epochs (the larger the better) `by`
    one of these numbers, and all points for the tracker.

    `costs` are the points that are no result and differ from one machine, and one run, to the next. `state()`, asked before the
    next epoch is, is all that training needs to go on from here: plain containers and tensors.
    """

    number: int
    valid: Mapping[str, float]
    by: str
    rank: tuple[float, float]
    points: list[Point]
    costs: list[Point] = field(default_factory=list, compare=False)
    state: Callable[[], dict[str, Any]] = field(default=dict, compare=False, repr=False)


def prepare(
    model: MultimodalModel,
    modulator: Modulator,
    feed: Feed,
    recipe: Training,
    seed: int,
    concepts: Mapping[str, MultimodalModel] | None = None,
    judge: Judge | None = None,
) -> Context:
    """Let the modulator make what it needs; returns the context before the first epoch."""
    by = judge if judge is not None and judge.of_any_model else Judge(model.task.figure)

    def rank(concept: Model) -> tuple[float, float]:
        assert isinstance(concept, MultimodalModel)
        alone = Modulator(concept.modalities)

        def said(name: SplitName) -> Outcome:
            return evaluate(concept, alone, feed.in_order(name))

        outcome = said("valid")
        values = measure(outcome, concept.task)
        return by.value(values | by.of(outcome, partial(said, "dev")))

    feed.stand_in = partial(muted, mute=model.muting, known=tuple(model.encoders))
    context = Context(
        epoch=0,
        epochs=recipe.epochs,
        steps_per_epoch=ceil(len(batches_of(len(feed.splits["train"]), recipe)) / recipe.accumulate),
        splits={name: split for name, split in feed.splits.items() if name != "test"},  # no method sees the test set
        reads=feed.batches,
        generator=torch.Generator(feed.device).manual_seed(seed),
        model=model,
        concepts=concepts or {},
        rank=rank,
    )
    modulator.prepare(context)
    modulator.to(feed.device)
    return context


def train(
    model: MultimodalModel,
    modulator: Modulator,
    feed: Feed,
    recipe: Training,
    seed: int,
    concepts: Mapping[str, MultimodalModel] | None = None,
    state: Mapping[str, Any] | None = None,
    judge: Judge | None = None,
    data: str = "the data set",
) -> Iterator[Epoch]:
    """Train `model` in place; each epoch is yielded as soon as it is validated, and the next begins when it is asked for.

    A method that takes no step in an epoch has nothing to learn: the epoch is its last, as is the one at which the recipe stops early.
    `concepts` are the trained mono-modal models, for a modulator that needs them. `state` is that of an epoch, to go on after it with
    the very same numbers; one that does not fit is `Unfit` at once, before an epoch is asked for. `judge` ranks epochs, by the task's
    figure if none is given. `data` is what errors call the data set.
    """
    by = judge or Judge(model.task.figure)
    device, count = feed.device, len(feed.splits["train"])
    feed.on_host = on_host(model)
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    context = prepare(model, modulator, feed, recipe, seed, concepts, by)
    optimizer = make_optimizer(recipe, model, modulator)
    progress, average = Progress(recipe, model, modulator), Average(recipe, model, modulator)
    draws = Draws(recipe, feed.splits["train"], order)
    schedule = make_schedule(recipe.schedule, optimizer, recipe.epochs, progress)
    context = replace(
        context, optimizer=optimizer, fresh=lambda tensors: of_recipe(recipe, tensors, rate_now(recipe, schedule))
    )
    log, meter = StepLog(model.task), Meter(model, device)
    precision = Precision(recipe.precision, device)
    parts: dict[str, Any] = {"model": model, "modulator": modulator, "optimizer": optimizer, "schedule": schedule}
    more: dict[str, Any] = {"precision": precision, "progress": progress, "average": average}
    parts |= {name: part for name, part in more.items() if part.state_dict()}
    generators = {"order": order, "modulator": context.generator}
    first, over = 0, False
    if state is not None:
        with fitting():
            first, over = state["epoch"] + 1, bool(state["idle"])
            if first not in range(1, recipe.epochs + 1):
                raise ValueError(f"it is of epoch {first - 1} of {recipe.epochs}")
            context = replace(context, valid_accuracy=dict(state["valid_accuracy"]), valid_loss=dict(state["valid_loss"]))
            log.resume(state["steps"])
            meter.load_state_dict(state["meter"])
            for name, part in parts.items():
                part.load_state_dict(state[name])
            _set_generators(generators, state["generators"])
    conduct = Conduct(modulator, model)

    def epochs(context: Context, over: bool) -> Iterator[Epoch]:
        for epoch in range(first, 0 if over else recipe.epochs):
            context = replace(context, epoch=epoch)
            average.leave()
            progress.begin_epoch()
            lr = rates_now(schedule, optimizer)
            model.train()
            meter.start()
            waited = feed.waited
            modulator.begin_epoch(context)
            rates = modulator.rates(context)
            for group in optimizer.param_groups:
                group["lr"] *= rates.get(group["name"], 1.0)
            begun = log.steps
            samples = modulator.samples(context)
            if samples is None:
                samples = draws()
            if complaint := wrong_samples(samples, count):
                raise RunFailed(complaint)
            pieces = [samples[piece] for piece in batches_of(len(samples), recipe)]
            watch = Watch(model, feed.splits["train"], f"the loss on train of {data} is not finite at epoch {epoch}", log.steps)
            read = mixed(placed(feed.batches("train", pieces, epoch)), recipe, model, seed, epoch)
            for batches in in_groups(read, recipe.accumulate):
                watching = conduct.watching() if epoch == first else nullcontext()
                with meter.batch(sum(len(batch.targets) for batch in batches)), watching, watch.passes():
                    for step in precision.steps(modulator, model, batches):
                        if epoch == first:
                            if complaint := malformed(step):
                                raise RunFailed(complaint)
                            conduct.see()
                        watch.see(step, batches)
                        if not precision.holds():
                            optimizer.zero_grad(set_to_none=True)  # what has no gradient rests
                        if not modulator.clips:
                            clip_gradients(recipe, optimizer)
                        optimizer.step()
                        optimizer.zero_grad(set_to_none=True)
                        average.update()
                        log.add(step, batches)
            watch.judge()
            agree(model, modulator)
            if epoch == first and (complaint := conduct.complaint(batches[0])):
                raise RunFailed(complaint)
            average.enter()
            points = log.flush(epoch)
            costs = numbers(meter.stop(len(samples), feed.waited - waited), epoch)
            where = f"of {data} at epoch {epoch}, after step {log.steps - 1}"
            outcome = evaluate(model, modulator, feed.in_order("valid"), where=f"valid {where}")

            def dev(where: str = where) -> Outcome:
                return evaluate(model, modulator, feed.in_order("dev"), where=f"dev {where}")

            valid = measure(outcome, model.task)
            valid = said_once(valid | by.of(outcome, dev))
            context = replace(
                context,
                valid_accuracy=response_figures(valid, model.task),
                valid_loss={modality: valid[f"response-loss/{modality}"] for modality in model.modalities},
            )
            modulator.end_epoch(context)
            progress.see(by.value(valid))
            if log.steps > begun:
                schedule.step()
            points += numbers({**lr, **{f"valid/{name}": value for name, value in valid.items()}}, epoch)
            over = log.steps == begun or progress.over

            def state_now(context: Context = context, over: bool = over) -> dict[str, Any]:
                return {
                    **{name: part.state_dict() for name, part in parts.items()},
                    **{"epoch": context.epoch, "idle": over, "steps": log.steps, "meter": meter.state_dict()},
                    "valid_accuracy": dict(context.valid_accuracy),
                    "valid_loss": dict(context.valid_loss),
                    "generators": _get_generators(generators),
                }

            yield Epoch(epoch, valid, by.name, by.value(valid), points, costs, state_now)
            if over:
                return

    return epochs(context, over)


def on_host(model: MultimodalModel) -> dict[str, Callable[[Input], Input]]:
    """What becomes of raw text before it is copied to the device, by modality, where one process trains; kept features are no text."""
    if here() is not None:  # ranks gather a batch of samples of one length
        return {}
    encoders = ((m, encoder) for m, encoder in model.encoders.items() if isinstance(encoder, Encoder))
    return {
        modality: encoder.on_host for modality, encoder in encoders if encoder.reads_text and modality not in model.muting.kept
    }


def _get_generators(generators: Mapping[str, torch.Generator]) -> dict[str, Any]:
    """The states of these and of torch's own, on the CPU and on every CUDA device."""
    states: dict[str, Any] = {name: generator.get_state() for name, generator in generators.items()}
    return {**states, "torch": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}


def _set_generators(generators: Mapping[str, torch.Generator], states: Mapping[str, Any]) -> None:
    for name, generator in generators.items():
        generator.set_state(states[name].cpu())
    torch.set_rng_state(states["torch"].cpu())
    for number, cuda in enumerate(states["cuda"][: torch.cuda.device_count()]):  # the job may go on where there are fewer
        torch.cuda.set_rng_state(cuda.cpu(), number)


def placed(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The batches of an epoch, with the places of their samples in its list."""
    begun = 0
    for batch in batches:
        ended = begun + len(batch.targets)
        yield replace(batch, at=torch.arange(begun, ended, device=batch.targets.device))
        begun = ended


def in_groups(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """The micro-batches of each optimizer step."""
    while group := list(islice(batches, size)):
        yield group


def batches_of(count: int, recipe: Training) -> list[slice]:
    """Batches; a last one of one sample, which BatchNorm cannot take, is left out, and if the recipe says so one that is not full,
    unless it is the only one."""
    size = recipe.batch_size
    least = min(size, count) if recipe.drop_last else 2
    return [slice(start, min(start + size, count)) for start in range(0, count, size) if count - start >= least]


class StepLog:
    """Losses, hits and signals of the steps since the last flush, kept on the device so that no step waits for a copy."""

    def __init__(self, task: Task) -> None:
        self.steps = 0
        self._task = task
        self._begun = 0
        self._kept: list[tuple[Step, Tensor]] = []

    def resume(self, steps: int) -> None:
        """So many steps were logged before."""
        self.steps = self._begun = steps

    def add(self, step: Step, batches: Sequence[Batch]) -> None:
        targets = [batch.targets for batch in batches]
        signals = {name: value.detach() for name, value in step.signals.items()}
        found = Step(step.loss.detach(), step.logits.detach(), signals)  # an author may have left the graph on
        self._kept.append((found, targets[0] if len(targets) == 1 else torch.cat(targets)))
        self.steps += 1

    def flush(self, epoch: int) -> list[Point]:
        """Mean loss and accuracy of the epoch's batches, and each signal of each step, as points."""
        if not self._kept:
            return []
        targets = [target for _, target in self._kept]
        counts = torch.tensor([len(target) for target in targets], dtype=torch.float64)
        losses = torch.stack([step.loss.double() for step, _ in self._kept]).cpu()
        accuracy = self._task.accuracy(torch.cat([step.logits for step, _ in self._kept]).float(), torch.cat(targets))
        means = {"train/loss": float((losses * counts).sum() / counts.sum()), f"train/{self._task.figure}": accuracy}
        points = numbers(means, epoch)
        names = list(self._kept[0][0].signals)
        if names:
            rows = torch.stack([torch.stack([value.double() for value in step.signals.values()]) for step, _ in self._kept])
            for offset, row in enumerate(rows.tolist()):
                points += numbers(dict(zip(names, row, strict=True)), self._begun + offset)
        self._begun, self._kept = self.steps, []
        return points
