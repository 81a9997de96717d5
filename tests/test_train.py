"""The loop is deterministic, makes one optimizer step per yielded step, and stops at a loss that is not finite."""

from collections.abc import Iterable, Sequence

import pytest
import torch
from torch import Tensor, nn

from agmbench import build, jobs, registry
from agmbench.batching import batches_of
from agmbench.contracts import (
    SPLITS,
    Batch,
    Context,
    Encoder,
    Model,
    Modulator,
    Promises,
    Split,
    SplitName,
    Step,
    TensorSplit,
    in_order,
)
from agmbench.errors import RunFailed
from agmbench.evaluate import evaluate, measure
from agmbench.execute.selection import Selection
from agmbench.fusions.concat import Concat
from agmbench.jobs import Training
from agmbench.loading import Feed
from agmbench.measures import Judge
from agmbench.model import MultimodalModel
from agmbench.modulators.joint import Joint
from agmbench.modulators.mses import MSES
from agmbench.optimizers import Gains, make_optimizer, make_schedule
from agmbench.precision import DTYPES, FIRST
from agmbench.train import Epoch, train

CPU = torch.device("cpu")
JOINT = Joint(("m0", "m1"))
REGISTRY = registry.load()


def make(modulator: str = "joint", **settings: object) -> build.Job:
    small = {"dataset.samples": 128, "training.epochs": 2}
    spec = jobs.compose(REGISTRY, "synthetic", modulator, settings=[*small.items(), *settings.items()])
    return build.resolve(spec, REGISTRY)


def splits_of(job: build.Job) -> dict[SplitName, Split]:
    return {name: job.dataset.split(name) for name in SPLITS}


def run(
    job: build.Job, modulator: Modulator | None = None, splits: dict[SplitName, Split] | None = None
) -> tuple[MultimodalModel, list[Epoch]]:
    model = build.model(job)
    modulator = modulator or build.modulator(job, model)
    recipe = job.spec.training
    concepts = untrained_concepts(job) if modulator.needs_concepts else {}
    epochs = list(train(model, modulator, Feed(splits or splits_of(job), CPU), recipe, job.spec.seed, concepts))
    return model, epochs


def untrained_concepts(job: build.Job) -> dict[str, MultimodalModel]:
    return build.concept_models(job, build.model(job), CPU)


TRAINED = [e.name for e in REGISTRY.entries() if e.kind == "modulator" and e.load().promises.trains]


EARLY: dict[str, dict[str, int]] = {  # settings with which methods that begin late already begin within the epochs here
    "g-blend": {"modulator.super_epoch": 1},
    "mses": {"modulator.patience": 0},
    "relearning": {"modulator.every": 1},
    "sample-level": {"modulator.warmup": 1},
}


@pytest.mark.parametrize("name", REGISTRY.names("modulator"))
def test_the_same_job_twice_is_equal_bit_by_bit(name: str) -> None:
    job = make(name)
    (first, metrics), (second, again) = run(job), run(job)
    assert metrics == again
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", REGISTRY.names("modulator"))
def test_the_weights_after_an_epoch_are_those_that_were_validated(name: str) -> None:
    job = make(name, **{"training.epochs": 4, "training.lr": 2.0}, **EARLY.get(name, {}))
    model = build.model(job)
    modulator = build.modulator(job, model)
    concepts = untrained_concepts(job) if modulator.needs_concepts else {}
    for epoch in train(model, modulator, Feed(splits_of(job), CPU), job.spec.training, job.spec.seed, concepts):
        found = measure(evaluate(model, modulator, in_order(job.dataset.split("valid"))), model.task)
        assert found == epoch.valid
    if isinstance(modulator, MSES):
        assert modulator.frozen.any()


def test_another_seed_is_another_result() -> None:
    assert run(make())[1] != run(make(seed=1))[1]


def test_every_sample_is_seen_once_an_epoch() -> None:
    assert batches_of(10, Training(batch_size=4)) == [slice(0, 4), slice(4, 8), slice(8, 10)]


def test_a_last_batch_of_one_sample_is_left_out() -> None:
    assert batches_of(9, Training(batch_size=4)) == [slice(0, 4), slice(4, 8)]


def test_a_last_batch_that_is_not_full_is_left_out_where_the_recipe_says_so() -> None:
    recipe = Training(batch_size=4, drop_last=True)
    assert batches_of(11, recipe) == [slice(0, 4), slice(4, 8)]
    assert batches_of(8, recipe) == [slice(0, 4), slice(4, 8)]
    assert batches_of(3, recipe) == [slice(0, 3)], "with fewer samples than a batch has there is one batch"


def by_hand(job: build.Job, steps: int = 1) -> MultimodalModel:
    """Joint training in a separate loop with the same order and the same optimizer, with `steps` optimizer steps per batch."""
    model, split, recipe = build.model(job), job.dataset.split("train"), job.spec.training
    torch.manual_seed(job.spec.seed)
    order = torch.Generator().manual_seed(job.spec.seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    for _ in range(recipe.epochs):
        for index in torch.randperm(len(split), generator=order).split(recipe.batch_size):
            batch = split.batch(index)
            for _ in range(steps):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(batch.inputs).logits, batch.targets).backward()
                optimizer.step()
    return model


def test_the_loop_is_a_plain_training_loop_for_joint() -> None:
    job = make()
    trained, _ = run(job)
    torch.testing.assert_close(trained.state_dict(), by_hand(job).state_dict())


class TwoSteps(Joint):
    """Joint training with two optimizer steps per batch."""

    def steps(self, model: Model, batches: Sequence[Batch]) -> Iterable[Step]:
        for _ in range(2):
            yield self.step(model, batches)


def test_a_modulator_may_take_several_steps_a_batch() -> None:
    job = make("agm")
    trained, epochs = run(job, TwoSteps(("m0", "m1")))
    torch.testing.assert_close(trained.state_dict(), by_hand(job, steps=2).state_dict())
    batches = len(batches_of(len(job.dataset.split("train")), job.spec.training))
    assert epochs[-1].state()["steps"] == 2 * batches * job.spec.training.epochs


class Chosen(Joint):
    """Chooses its samples, and notes which it gets."""

    def __init__(self, modalities: tuple[str, ...]) -> None:
        super().__init__(modalities)
        self.given: list[list[int]] = []

    def samples(self, context: Context) -> torch.Tensor:
        return torch.arange(70) if context.epoch == 0 else torch.tensor([5, 5, 3])

    def backward(self, model: Model, batch: Batch) -> Step:
        self.given.append(batch.index.tolist())
        return super().backward(model, batch)


def test_a_modulator_may_steer_the_sampler() -> None:
    chosen = Chosen(("m0", "m1"))
    run(make(), chosen)
    assert chosen.given == [list(range(64)), list(range(64, 70)), [5, 5, 3]]


def test_signals_have_one_point_an_optimizer_step() -> None:
    _, epochs = run(make("agm"))
    steps = [point.step for epoch in epochs for point in epoch.points if point.name == "kappa/m0"]
    assert steps == [0, 1, 2, 3]


class Recorder(Joint):
    """Notes what the context has."""

    def __init__(self, modalities: tuple[str, ...]) -> None:
        super().__init__(modalities)
        self.seen: list[tuple[str, int, dict[str, float]]] = []

    def prepare(self, context: Context) -> None:
        assert context.steps_per_epoch == 2
        assert set(context.splits) == set(SPLITS) - {"test"}
        self.seen.append(("prepare", context.epoch, dict(context.valid_accuracy)))

    def begin_epoch(self, context: Context) -> None:
        self.seen.append(("begin", context.epoch, dict(context.valid_accuracy)))

    def end_epoch(self, context: Context) -> None:
        self.seen.append(("end", context.epoch, dict(context.valid_accuracy)))


def test_the_context_tells_the_last_validation() -> None:
    recorder = Recorder(("m0", "m1"))
    _, epochs = run(make(), recorder)
    after = [{m: epoch.valid[f"response/{m}"] for m in ("m0", "m1")} for epoch in epochs]
    assert recorder.seen == [
        ("prepare", 0, {}),
        ("begin", 0, {}),
        ("end", 0, after[0]),
        ("begin", 1, after[0]),
        ("end", 1, after[1]),
    ]


def test_a_parameter_that_rests_has_no_momentum_and_no_decay() -> None:
    class Rest(Joint):
        promises = Promises(rests=True)

        def backward(self, model: Model, batch: Batch) -> Step:
            step = super().backward(model, batch)
            for tensor in model.encoders["m0"].parameters():
                tensor.grad = None
            return step

    job = make()
    before = build.model(job).encoders["m0"].state_dict()
    model, _ = run(job, Rest(("m0", "m1")))
    assert all(torch.equal(before[name], value) for name, value in model.encoders["m0"].state_dict().items())


def broken(split: Split, modality: str, at: int) -> TensorSplit:
    batch = split.batch(torch.arange(len(split)))
    inputs = {m: values.clone() for m, values in batch.inputs.items()}
    inputs[modality][at] = float("nan")
    return TensorSplit(inputs, batch.targets)


@pytest.mark.parametrize("name", TRAINED)
def test_a_nan_in_the_data_names_epoch_step_and_modality(name: str) -> None:
    job = make(name)
    splits = splits_of(job)
    splits["train"] = broken(splits["train"], "m1", at=5)
    with pytest.raises(
        RunFailed, match=r"the loss on train of the data set is not finite at epoch 0, step [0-3]: the input of m1 is"
    ):
        run(job, splits=splits)


def test_weights_that_explode_in_the_last_step_of_an_epoch_are_found_on_valid() -> None:
    job = make(**{"training.batch_size": 128, "training.lr": 1e30})
    with pytest.raises(RunFailed, match=r"the logits on valid of the data set at epoch 0, after step 0 are not finite: "):
        run(job)


class Overflow(Encoder):
    """An encoder whose features stop being finite at the third training pass."""

    out_features = 4

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.linear = nn.Linear(16, 4)
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += self.training
        features: Tensor = self.linear(x)
        return features / 0 if self.passes >= 3 else features


def test_an_encoder_that_overflows_is_named() -> None:
    job = make()
    healthy = build.model(job)
    features = {"m0": healthy.encoders["m0"].out_features, "m1": Overflow.out_features}
    model = MultimodalModel({"m0": healthy.encoders["m0"], "m1": Overflow((16,))}, Concat(features, 4))
    with pytest.raises(RunFailed, match=r"epoch 1, step 2: the encoder of m1 gives features that are not finite"):
        list(train(model, Joint(("m0", "m1")), Feed(splits_of(job), CPU), job.spec.training, 1))


def test_the_optimizer_has_a_group_an_encoder_and_one_for_the_fusion() -> None:
    job = make()
    groups = make_optimizer(job.spec.training, build.model(job), nn.Linear(2, 2)).param_groups
    assert [group["name"] for group in groups] == ["m0", "m1", "fusion", "modulator"]
    assert [group["name"] for group in make_optimizer(job.spec.training, build.model(job), Joint(())).param_groups][
        -1
    ] == "fusion"


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_optimizers_by_name(kind: str) -> None:
    job = make()
    recipe = job.spec.training.model_copy(update={"optimizer": kind})
    assert type(make_optimizer(recipe, build.model(job), Joint(()))).__name__.lower() == kind


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (jobs.Schedule(), [1, 1, 1, 1]),
        (jobs.Schedule(name="step", step_size=2, gamma=0.5), [1, 1, 0.5, 0.5]),
        (jobs.Schedule(name="cosine"), [1, 0.853553, 0.5, 0.146447]),
        (jobs.Schedule(name="step", step_size=1, gamma=0.5, last=2), [1, 0.5, 0.25, 0.25]),
    ],
)
def test_schedules(schedule: jobs.Schedule, expected: list[float]) -> None:
    optimizer, nothing = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), nn.Module()
    progress = Gains(jobs.Training(schedule=schedule), nothing, nothing)
    stepped = make_schedule(schedule, optimizer, epochs=4, gains=progress)
    rates = []
    for _ in expected:
        rates.append(stepped.get_last_lr()[0])
        optimizer.step()
        stepped.step()
    assert rates == pytest.approx(expected, abs=1e-6)


def epoch(number: int, accuracy: float, loss: float) -> Epoch:
    valid = {"accuracy": accuracy, "loss": loss}
    return Epoch(number, valid, "accuracy", Judge("accuracy").value(valid), [])


def test_selection_takes_the_best_accuracy_then_the_least_loss() -> None:
    model = build.model(make())
    best = Selection("valid")
    for number, (accuracy, loss) in enumerate([(0.5, 1.0), (0.7, 0.9), (0.7, 0.8), (0.7, 0.8), (0.6, 0.1)]):
        best.see(epoch(number, accuracy, loss), model, JOINT)
    assert best.epoch == 2


def test_selection_of_the_last_epoch() -> None:
    model = build.model(make())
    last = Selection("last")
    for number in range(3):
        last.see(epoch(number, 1 - number / 10, 0), model, JOINT)
    assert last.epoch == 2


def test_selected_weights_are_a_copy() -> None:
    model = build.model(make())
    best = Selection("valid")
    best.see(epoch(0, 1.0, 0.0), model, JOINT)
    kept = {name: value.clone() for name, value in best.weights["model"].items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert all(torch.equal(kept[name], best.weights["model"][name]) for name in kept)


@pytest.mark.parametrize("name", ["ensemble", "unimodal"])
def test_a_method_that_takes_no_step_has_one_epoch(name: str) -> None:
    job = make(name)
    model, epochs = run(job)
    assert len(epochs) == 1
    assert "train/loss" not in {point.name for point in epochs[0].points}
    assert all(
        torch.equal(a, b) for a, b in zip(build.model(job).state_dict().values(), model.state_dict().values(), strict=True)
    )


def test_accumulated_batches_make_one_step() -> None:
    job = make("agm", **{"training.batch_size": 32, "training.accumulate": 3})  # 128 samples: groups of 3 and 1
    _, epochs = run(job)
    steps = [point.step for epoch in epochs for point in epoch.points if point.name == "kappa/m0"]
    assert steps == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [32, 24])  # 24: the last micro-batch is smaller
def test_joint_training_by_micro_batches_is_that_of_the_whole_batch(size: int) -> None:
    small = make(**{"training.batch_size": size, "training.accumulate": 6, "training.momentum": 0.0})
    whole = make(**{"training.batch_size": 128, "training.momentum": 0.0})
    (one, _), (other, _) = run(small), run(whole)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], atol=1e-6, rtol=1e-5)


def test_epochs_of_one_batch() -> None:
    job = make(**{"training.batch_size": 128})
    _, epochs = run(job)
    assert len(epochs) == 2
    assert [point.step for point in epochs[1].points if point.name == "train/loss"] == [1]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", TRAINED)
def test_half_precision_trains_every_modulator_with_scores_in_float32(name: str, precision: str) -> None:
    job = make(name, **{"training.precision": precision})
    _, half = run(job)
    _, whole = run(make(name))
    assert half != whole
    for one, other in zip(half, whole, strict=True):
        assert one.valid["loss"] == pytest.approx(other.valid["loss"], rel=0.1)
    scores = {point.step: point.value for epoch in half for point in epoch.points if point.name == "score/m0"}
    exact = {point.step: point.value for epoch in whole for point in epoch.points if point.name == "score/m0"}
    assert scores == pytest.approx(exact, rel=0.02)
    if scores:  # a score that was rounded to 8 or 11 bits would be equal to its value in that type
        kind = DTYPES[precision]
        assert any(float(torch.tensor(value).to(kind)) != value for value in scores.values())


class Huge(Joint):
    """Has a loss whose gradient fits into float16 only under smaller scales than the first."""

    def backward(self, model: Model, batch: Batch) -> Step:
        logits = model.fusion(model.encode(batch.inputs)).logits
        loss = 1000 * model.loss(logits, batch.targets)
        loss.backward()
        return Step(loss.detach(), logits.detach())


def test_a_step_whose_gradients_overflow_in_fp16_is_skipped() -> None:
    job = make(**{"training.precision": "fp16", "training.lr": 1e-6, "training.epochs": 4})
    model, epochs = run(job, Huge(("m0", "m1")))
    state = epochs[-1].state()["precision"]
    skipped = int(torch.tensor(FIRST / state["scale"]).log2())
    assert 0 < skipped < 8 == skipped + state["streak"]
    assert all(torch.isfinite(tensor).all() for tensor in model.parameters())


def test_features_that_overflow_in_fp16_alone_are_named() -> None:
    job = make(**{"training.precision": "fp16"})
    splits = splits_of(job)
    batch = splits["train"].batch(torch.arange(len(splits["train"])))
    splits["train"] = TensorSplit({**batch.inputs, "m1": batch.inputs["m1"] * 1e7}, batch.targets)
    with pytest.raises(RunFailed, match=r"epoch 0, step 0: the encoder of m1 gives features that are not finite"):
        run(job, splits=splits)


def test_a_modulator_whose_loss_alone_is_not_finite_is_named() -> None:
    class Lost(Joint):
        def backward(self, model: Model, batch: Batch) -> Step:
            step = super().backward(model, batch)
            return step._replace(loss=step.loss * float("nan"))

    with pytest.raises(
        RunFailed, match=r"epoch 0, step 0: inputs, features and logits of the model are finite, but the loss of the modulator"
    ):
        run(make(), Lost(("m0", "m1")))


def test_a_nan_in_the_validation_data_is_looked_for_there() -> None:
    job = make()
    splits = splits_of(job)
    splits["valid"] = broken(splits["valid"], "m0", at=5)
    with pytest.raises(
        RunFailed,
        match=r"the data on valid of .* are not finite: the input of m0 is not finite \(m0: 1 of 64 .* number 5\); 'agmbench data",
    ):
        run(job, splits=splits)
