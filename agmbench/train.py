"""The training loop, the same for every method. A modulator computes the gradients; the loop does everything else."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil
from typing import Any

import torch
from torch import Tensor

from agmbench.batching import batches_of, in_groups, placed
from agmbench.conduct import Conduct, wrong_samples
from agmbench.contracts import Batch, Context, Encoder, Input, Model, Modulator, SplitName, muted
from agmbench.cost import Meter
from agmbench.distributed.agreement import agree, of_first_rank
from agmbench.distributed.ranks import here
from agmbench.errors import RunFailed
from agmbench.evaluate import evaluate, measure, response_figures
from agmbench.finite import Watch
from agmbench.jobs import Training
from agmbench.loading import Feed
from agmbench.measures import Judge
from agmbench.model import MultimodalModel
from agmbench.names import all_of_split
from agmbench.optimizers import Average, Gains, clip_gradients, make_optimizer, make_schedule, of_recipe, rate_now, rates_now
from agmbench.outcomes import Outcome
from agmbench.precision import Precision
from agmbench.recipes import Draws, mixed
from agmbench.records import Point, numbers
from agmbench.state import Part, State
from agmbench.steplog import StepLog


@dataclass(frozen=True)
class Epoch:
    """One finished epoch: its `number` from 0, the numbers measured on `valid`, its `rank` among epochs (larger is better), the name of
    the number `by` which it is ranked, and all points for the tracker.

    `costs` are the points about speed and memory, which differ between machines and between runs. `state()` returns everything that
    training needs to go on from here, as plain containers and tensors; call it before the next epoch is asked for.
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
    """Let the modulator prepare what it needs; returns the context before the first epoch."""
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
        splits={name: split for name, split in feed.splits.items() if name != "test"},  # no method may see the test set
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
    """Train `model` in place. Each epoch is yielded as soon as it is validated, and the next begins when it is asked for.

    Training ends after the recipe's epochs, at its early stopping, or after an epoch in which the method takes no step.

    concepts: the trained unimodal models, for a modulator that needs them.
    state: the state after an epoch, from which training goes on with exactly the same numbers. A state that does not fit raises `Unfit`
        at once, before an epoch is asked for.
    judge: ranks epochs; by default by the task's figure.   data: the name of the data set in errors.
    """
    feed.on_host = on_host(model)
    torch.manual_seed(seed)
    loop = _Loop(model, modulator, feed, recipe, seed, concepts or {}, judge or Judge(model.task.figure), data)
    if state is not None:
        loop.state.load_state_dict(state)
    return loop.epochs()


class _Loop:
    def __init__(
        self,
        model: MultimodalModel,
        modulator: Modulator,
        feed: Feed,
        recipe: Training,
        seed: int,
        concepts: Mapping[str, MultimodalModel],
        judge: Judge,
        data: str,
    ) -> None:
        self.model, self.modulator, self.feed, self.recipe = model, modulator, feed, recipe
        self.seed, self.judge, self.data = seed, judge, data
        order = torch.Generator().manual_seed(seed)
        context = prepare(model, modulator, feed, recipe, seed, concepts, judge)
        self.optimizer = optimizer = make_optimizer(recipe, model, modulator)
        self.gains, self.average = Gains(recipe, model, modulator), Average(recipe, model, modulator)
        self.draws = Draws(recipe, feed.splits["train"], order)
        self.schedule = schedule = make_schedule(recipe.schedule, optimizer, recipe.epochs, self.gains)
        self.log, self.meter = StepLog(model.task), Meter(model, feed.device)
        self.precision = Precision(recipe.precision, feed.device)
        self.conduct = Conduct(modulator, model)
        parts: dict[str, Part] = {"model": model, "modulator": modulator, "optimizer": optimizer, "schedule": schedule}
        some: dict[str, Part] = {"precision": self.precision, "progress": self.gains, "average": self.average}
        parts |= {name: part for name, part in some.items() if part.state_dict()}  # parts without a state are not in use
        context = replace(
            context, optimizer=optimizer, fresh=lambda tensors: of_recipe(recipe, tensors, rate_now(recipe, schedule))
        )
        self.state = State(context, parts, self.log, self.meter, order)

    def epochs(self) -> Iterator[Epoch]:
        state = self.state
        while state.next < self.recipe.epochs and not state.over:
            context = replace(state.context, epoch=state.next)
            begun, waited = self.log.steps, self.feed.waited
            lr = self.begin(context)
            costs = numbers(self.learn(context, waited), context.epoch)
            points = self.log.flush(context.epoch)
            valid = self.validate(context)
            state.context = replace(
                context,
                valid_accuracy=response_figures(valid, self.model.task),
                valid_loss={modality: valid[f"response-loss/{modality}"] for modality in self.model.modalities},
            )
            self.modulator.end_epoch(state.context)
            rank = self.judge.value(valid)
            self.gains.see(rank)
            if self.log.steps > begun:
                self.schedule.step()
            points += numbers({**lr, **all_of_split("valid", valid)}, context.epoch)
            state.next, state.over = context.epoch + 1, self.log.steps == begun or self.gains.over
            yield Epoch(context.epoch, valid, self.judge.name, rank, points, costs, state.state_dict)

    def begin(self, context: Context) -> dict[str, float]:
        """Set weights, modulator and learning rates for the beginning of an epoch; returns the schedule's rates to record."""
        self.average.leave()
        self.gains.begin_epoch()
        lr = rates_now(self.schedule, self.optimizer)
        self.model.train()
        self.meter.start()
        self.modulator.begin_epoch(context)
        rates = self.modulator.rates(context)
        for group in self.optimizer.param_groups:
            group["lr"] *= rates.get(group["name"], 1.0)
        return lr

    def learn(self, context: Context, waited: float) -> dict[str, float]:
        """Take the steps of an epoch; returns their cost. `waited`: the seconds spent waiting for data before the epoch began."""
        samples = self.samples(context)
        pieces = [samples[piece] for piece in batches_of(len(samples), self.recipe)]
        lost = f"the loss on train of {self.data} is not finite at epoch {context.epoch}"
        watch = Watch(self.model, self.feed.splits["train"], lost, self.log.steps)
        read = placed(self.feed.batches("train", pieces, context.epoch))
        for batches in in_groups(mixed(read, self.recipe, self.model, self.seed, context.epoch), self.recipe.accumulate):
            with (
                self.meter.count_first_batch(sum(len(batch.targets) for batch in batches)),
                self.conduct.watching(),
                watch.passes(),
            ):
                self.step(batches, watch)
        watch.judge()
        agree(self.model, self.modulator)
        self.conduct.judge(batches[0])
        self.average.enter()
        return self.meter.stop(len(samples), self.feed.waited - waited)

    def step(self, batches: Sequence[Batch], watch: Watch) -> None:
        """Take the optimizer steps that the modulator yields for these micro-batches."""
        for step in self.precision.steps(self.modulator, self.model, batches):
            self.conduct.check(step)
            watch.see(step, batches)
            if not self.precision.update_scale():
                self.optimizer.zero_grad(set_to_none=True)  # the optimizer does not change a tensor without a gradient
            if not self.modulator.clips:
                clip_gradients(self.recipe, self.optimizer, self.model)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.average.update()
            self.log.add(step, batches)

    def samples(self, context: Context) -> Tensor:
        """The numbers of an epoch's training samples, drawn by the modulator or by the recipe."""
        samples = self.modulator.samples(context)
        if samples is None:
            return self.draws()
        if complaint := wrong_samples(samples, len(self.feed.splits["train"])):
            raise RunFailed(complaint)
        return samples

    def validate(self, context: Context) -> Mapping[str, float]:
        """The numbers measured on valid, including the one by which epochs are chosen (which may need dev)."""
        where = f"of {self.data} at epoch {context.epoch}, after step {self.log.steps - 1}"

        def said(name: SplitName) -> Outcome:
            return evaluate(self.model, self.modulator, self.feed.in_order(name), where=f"{name} {where}")

        outcome = said("valid")
        return of_first_rank(measure(outcome, self.model.task) | self.judge.of(outcome, partial(said, "dev")))


def on_host(model: MultimodalModel) -> dict[str, Callable[[Input], Input]]:
    """By modality, the function that prepares raw text before it is copied to the device. Empty if several processes train together.
    Modalities with kept features have no text."""
    if here() is not None:  # ranks gather batches, so all samples must have the same length
        return {}
    encoders = ((m, encoder) for m, encoder in model.encoders.items() if isinstance(encoder, Encoder))
    return {
        modality: encoder.on_host for modality, encoder in encoders if encoder.reads_text and modality not in model.muting.kept
    }
