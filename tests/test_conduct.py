"""What a run checks of a modulator during training: it gives gradients to everything that should learn, and keeps no part of the model."""

import re
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from test_train import CPU, JOINT, make, splits_of
from torch import Tensor, nn

from agmbench import build
from agmbench.contracts import Batch, Context, Encoder, Model, Modulator, Promises, Step
from agmbench.errors import RunFailed, describe
from agmbench.loading import Feed
from agmbench.model import MultimodalModel
from agmbench.modulators.joint import Joint
from agmbench.train import train

NAMES = ("m0", "m1")


def first_epoch(modulator: Modulator, model: MultimodalModel | None = None) -> None:
    job = make()
    next(train(model or build.model(job), modulator, Feed(splits_of(job), CPU), job.spec.training, job.spec.seed))


def forgetting(*forgotten: str, **promises: bool) -> Modulator:
    """Joint training without gradients for tensors whose names begin with one of `forgotten`."""

    class Forgetting(Joint):
        def backward(self, model: Model, batch: Batch) -> Step:
            step = super().backward(model, batch)
            for name, tensor in model.named_parameters():  # type: ignore[attr-defined]
                if name.startswith(forgotten):
                    tensor.grad = None
            return step

    Forgetting.promises = Promises(**promises)  # type: ignore[arg-type]
    return Forgetting(NAMES)


@pytest.mark.parametrize(
    ("part", "found", "promise"),
    [
        ("encoders.m1", "2 of 2 tensors of encoders.m1 had no gradient, the first is encoders.m1.net.1.weight", "rests"),
        (
            "encoders.m1.net.1.bias",
            "1 of 2 tensors of encoders.m1 had no gradient, the first is encoders.m1.net.1.bias",
            "rests",
        ),
        ("fusion", "2 of 2 tensors of fusion had no gradient, the first is fusion.head.weight", "own_heads"),
    ],
)
def test_gradients_that_are_left_out_end_the_run(part: str, found: str, promise: str) -> None:
    with pytest.raises(RunFailed, match="leaves gradients out") as failed:
        first_epoch(forgetting(part))
    assert found in str(failed.value)
    assert f"{promise}=True" in str(failed.value)


def test_what_a_method_says_it_leaves_out_it_may_but_only_whole() -> None:
    first_epoch(forgetting("encoders.m1", "fusion", rests=True, own_heads=True))
    with pytest.raises(RunFailed, match="leaves gradients out"):
        first_epoch(forgetting("encoders.m1.net.1.bias", rests=True))


def test_tensors_that_no_loss_depends_on_are_nobodys_debt() -> None:
    class Idle(Encoder):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__((1,))
            self.inner, self.out_features = inner, int(inner.out_features)  # type: ignore[arg-type]
            self.unused = nn.Parameter(torch.zeros(3))

        def forward(self, x: Tensor) -> Tensor:
            features: Tensor = self.inner(x)
            return features

    made = build.model(make())
    encoders = {m: Idle(encoder) for m, encoder in made.encoders.items()}
    model = MultimodalModel(encoders, made.fusion)
    first_epoch(JOINT, model)
    with pytest.raises(RunFailed, match=r"1 of 2 tensors of encoders\.m0 had no gradient"):
        first_epoch(forgetting("encoders.m0.inner.net.1.bias"), MultimodalModel(encoders, made.fusion))


def test_a_layer_that_a_network_drops_is_nobodys_debt() -> None:
    class Drops(Encoder):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__((1,))
            self.inner, self.out_features = inner, int(inner.out_features)  # type: ignore[arg-type]
            self.layer = nn.Linear(self.out_features, self.out_features)

        def forward(self, x: Tensor) -> Tensor:
            features: Tensor = self.inner(x)
            return features if self.training else features + self.layer(features)

    made = build.model(make())
    dropping = {m: Drops(encoder) for m, encoder in made.encoders.items()}
    first_epoch(JOINT, MultimodalModel(dropping, made.fusion))
    with pytest.raises(RunFailed, match=r"1 of 2 tensors of encoders\.m0 had no gradient"):
        first_epoch(forgetting("encoders.m0.inner.net.1.bias"), MultimodalModel(dropping, made.fusion))


def test_an_encoder_that_is_never_asked_is_a_debt() -> None:
    class Skips(Joint):
        def backward(self, model: Model, batch: Batch) -> Step:
            features = model.encode(batch.inputs, ["m0"])
            logits = model.fusion({**features, "m1": torch.zeros_like(features["m0"])}).logits
            loss = model.loss(logits, batch.targets)
            loss.backward()
            return Step(loss.detach(), logits.detach())

    with pytest.raises(RunFailed, match=r"2 of 2 tensors of encoders\.m1 had no gradient"):
        first_epoch(Skips(NAMES))


def test_a_modulator_that_keeps_the_model_ends_the_run() -> None:
    class Keeps(Joint):
        def backward(self, model: Model, batch: Batch) -> Step:
            self.first = [{"encoder": model.encoders["m0"]}]
            return super().backward(model, batch)

    with pytest.raises(RunFailed, match=r"keeps the model: its attribute `first` holds encoders.m0 after a step"):
        first_epoch(Keeps(NAMES))


@pytest.mark.parametrize(
    ("samples", "found"),
    [
        (torch.tensor([], dtype=torch.int64), "0 of them"),
        (torch.tensor([3]), "1 of them"),
        (torch.tensor([0, 128]), "2 from 0 to 128"),
        (torch.tensor([-1, 5]), "2 from -1 to 5"),
        (torch.zeros(4), r"\[4\] of torch.float32 on cpu"),
        (torch.ones(4, dtype=torch.bool), r"\[4\] of torch.bool on cpu"),
        (torch.zeros(2, 2, dtype=torch.int64), r"\[2, 2\] of torch.int64 on cpu"),
        ([0, 1], "a list"),
    ],
)
def test_an_epoch_of_samples_that_cannot_be_is_one_line(samples: Tensor, found: str) -> None:
    class Chooses(Joint):
        def samples(self, context: Context) -> Tensor:
            return samples

    with pytest.raises(RunFailed, match=rf"numbers from 0 to 127, .*; found {found}$"):
        first_epoch(Chooses(NAMES))


def test_a_model_kept_as_a_submodule_is_named_as_its_author_named_it() -> None:
    class Keeps(Joint):
        def backward(self, model: Model, batch: Batch) -> Step:
            self.teacher = model
            return super().backward(model, batch)

    with pytest.raises(RunFailed, match=r"its attribute `teacher` holds the model after a step"):
        first_epoch(Keeps(NAMES))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, r"TypeError: Odd\.backward should return a Step\(loss, logits, signals\); found a NoneType"),
        (torch.tensor(1.0), r"TypeError: Odd\.backward should return a Step\(loss, logits, signals\); found a Tensor"),
        (Step(torch.zeros(2), torch.zeros(2, 2)), r"the loss of the modulator's step should be one number; found shape \[2\]"),
        (Step(0.5, torch.zeros(2, 2)), r"the loss of the modulator's step should be a tensor of one number; found a float"),
        (Step(torch.tensor(1.0), torch.zeros(2, 2), {"rho/m0": "1"}), r"the signal 'rho/m0' of .* found a str"),
    ],
)
def test_what_is_no_step_is_told_by_its_type(given: Any, said: str) -> None:
    class Odd(Joint):
        def backward(self, model: Model, batch: Batch) -> Step:
            super().backward(model, batch)
            return given  # type: ignore[no-any-return]

    with pytest.raises((RunFailed, TypeError)) as caught:
        first_epoch(Odd(NAMES))
    assert re.search(said, describe(caught.value))


def test_steps_that_yield_something_else_are_told_too() -> None:
    class Odd(Joint):
        def steps(self, model: Model, batches: Sequence[Batch]) -> Iterator[Step]:
            yield from super().steps(model, batches)
            yield None  # type: ignore[misc]

    with pytest.raises(
        RunFailed, match=r"should give a Step\(loss, logits, signals\) for each optimizer step; found a NoneType"
    ):
        first_epoch(Odd(NAMES))


def test_no_graph_is_kept_of_a_step_whose_author_left_it_on() -> None:
    seen: list[weakref.ref[Tensor]] = []

    class Attached(Joint):
        def backward(self, model: Model, batch: Batch) -> Step:
            assert all(loss() is None for loss in seen[:-1])  # the loop still keeps the last step
            full = model(batch.inputs).logits  # type: ignore[operator]
            loss = model.loss(full, batch.targets)
            loss.backward()
            seen.append(weakref.ref(loss))
            return Step(loss, full, {"twice": 2 * loss})

    first_epoch(Attached(NAMES))
    assert len(seen) == 2
