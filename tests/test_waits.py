"""A training step never waits for the device: the reads of the host are counted while the real loop runs."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_train import CPU, make, run, splits_of
from torch import Tensor
from torch.nn import functional as F

from agmbench import build, registry, testing
from agmbench.contracts import Batch, Encoder, Model, Modulator, Step, Tokens, in_order
from agmbench.errors import RunFailed
from agmbench.evaluate import evaluate
from agmbench.finite import STEPS
from agmbench.loading import Feed
from agmbench.model import MultimodalModel
from agmbench.modulators.agm import AGM
from agmbench.modulators.joint import Joint
from agmbench.testing.models import MASKED, SOME, Case
from agmbench.testing.waits import Reads, counted
from agmbench.train import train

BUILT_IN = registry.builtin()
X = torch.arange(6.0).view(2, 3)
MASK = X > 2
NUMBERS = torch.tensor([0, 1])


# what is counted

WAITS: dict[str, tuple[str, Callable[[], Any]]] = {
    "item": ("item", lambda: X.sum().item()),
    "float": ("item", lambda: float(X.sum())),
    "truth": ("item", lambda: bool(MASK.any())),
    "comparison": ("item", lambda: 1 if X.sum() > 0 else 0),
    "text": ("item", lambda: f"{X.sum():.2f}"),
    "slice": ("item", lambda: X[: NUMBERS[1]]),
    "nonzero": ("nonzero", lambda: MASK.nonzero()),
    "where": ("nonzero", lambda: torch.where(MASK)),
    "unique": ("unique", lambda: torch.unique(X)),
    "unique rows": ("unique", lambda: torch.unique(MASK, dim=0, return_inverse=True)),
    "consecutive": ("unique_consecutive", lambda: torch.unique_consecutive(X)),
    "boolean index": ("index by a mask", lambda: X[MASK]),
    "boolean assignment": ("index by a mask", lambda: X.clone().__setitem__(MASK, torch.ones(3))),
    "masked_select": ("masked_select", lambda: X.masked_select(MASK)),
    "repeat_interleave": ("repeat_interleave", lambda: X.repeat_interleave(NUMBERS + 1, dim=0)),
    "bincount": ("bincount", lambda: torch.bincount(NUMBERS)),
    "equal": ("equal", lambda: torch.equal(X, X)),
    "allclose": ("allclose", lambda: torch.allclose(X, X)),
    "cpu": ("cpu", lambda: X.cpu()),
    "to": ("to", lambda: X.to("cpu")),
    "numpy": ("numpy", lambda: X.numpy()),
    "array": ("numpy", lambda: np.asarray(X)),
    "tolist": ("tolist", lambda: X.tolist()),
    "print": ("print", lambda: str(X)),
    "new_tensor": ("new_tensor", lambda: X.new_tensor([1.0])),
    "tensor": ("tensor", lambda: torch.tensor([1.0], device=X.device)),
}
WAITS_NOT: dict[str, Callable[[], Any]] = {
    "where": lambda: torch.where(MASK, X, 0.0),
    "fill": lambda: X.clone().__setitem__(MASK, 0.0),
    "integer index": lambda: X[NUMBERS],
    "size": lambda: X.repeat_interleave(NUMBERS + 1, dim=0, output_size=3),
    "equally often": lambda: X.repeat_interleave(2),
    "to the model's": lambda: X.to(X.device),
    "one_hot": lambda: F.one_hot(NUMBERS, 3),
    "clipping": lambda: torch.nn.utils.clip_grad_norm_([torch.nn.Parameter(X)], 1.0),
    "before the device": lambda: Batch({"a": Tokens(X.unsqueeze(2), MASK)}, NUMBERS, NUMBERS).to(CPU),
    "backward": lambda: X.clone().requires_grad_().square().sum().backward(),
}


@pytest.mark.parametrize("name", WAITS)
def test_a_read_is_counted_once_with_its_place(name: str) -> None:
    what, reading = WAITS[name]
    with Reads() as reads:
        reading()
    (found,) = reads.found
    assert found.what == what
    assert re.fullmatch(rf".*{Path(__file__).name}:{reading.__code__.co_firstlineno}", found.where)


@pytest.mark.parametrize("name", WAITS_NOT)
def test_what_asks_for_no_number_is_not_counted(name: str) -> None:
    with Reads() as reads:
        WAITS_NOT[name]()
    assert reads.found == []


class Asks(Joint):
    """Reads numbers of the device in each part of a step, five times in all."""

    def steps(self, model: Model, batches: Sequence[Batch]) -> Iterable[Step]:
        for step in super().steps(model, batches):
            yield step
            assert step.loss >= 0  # after the optimizer's step

    def backward(self, model: Model, batch: Batch) -> Step:
        assert batch.targets.max() < 99
        hook = next(model.parameters()).register_hook(lambda grad: grad * float(grad.norm() > 0))  # in the backward pass
        step = super().backward(model, batch)
        hook.remove()
        return step

    def adjust(self, model: Model, parts: Sequence[Step]) -> Mapping[str, Tensor]:
        assert all(torch.isfinite(tensor.grad).all() for tensor in model.fusion.parameters() if tensor.grad is not None)
        return {}


def test_all_of_a_step_is_counted_as_the_loop_takes_it() -> None:
    case = Case("mlp", "concat", 2)
    found = counted(case, Asks(case.modalities))
    assert (found.steps, len(found.reads)) == (6, 5 * 6)


def test_check_notes_it_and_fails_nothing() -> None:
    checks = testing.check(Asks)
    (waits,) = [check for check in checks if check.name == "waits"]
    assert waits.outcome == "noted"
    assert re.match(
        r"a step waits for the device \d+ times \(.*\): item at .*test_waits\.py:\d+, and 3 more places", waits.detail
    )
    assert "failed" not in {check.outcome for check in checks}


# what is built in

VARIANTS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "agm": [{}, {"coalitions": "shared"}, {"scores": "dev"}, {"clip": 1e-3}],
    "agm-1": [{}, {"scores": "dev"}],
    "agm-ge": [{}, {"scores": "dev"}],
    "freeze-dominant": [{"epochs": 1}],
    "g-blend": [{"super_epoch": 1}],
    "cml": [{}, {"excuse": True, "views": "all", "coalitions": "shared"}],
    "lfm": [{}, {"schedule": "learnt"}],
    "mla": [{}, {"variant": "published"}],
    "mses": [{"patience": 0}, {"patience": 0, "scope": "encoder"}],
    "ogm": [{}, {"responses": "shapley"}, {"scores": "dev"}],
    "ogm-ge": [{}, {"responses": "shapley", "scores": "dev"}],
    "ogm-ge-ra": [{}, {"average": "scores"}, {"responses": "shapley", "scores": "dev"}],
    "opm": [{"starts": 0, **params} for params in ({}, {"executes": 1.0}, {"responses": "shapley"})]
    + [{}, {"starts": 0, "responses": "shapley", "scores": "dev"}],
    "pmr": [{}, {"beta": 0.6}],
    "reconboost": [{"stage": 1, "rectify": 1}, {"stage": 1, "rectify": 0, "heads": "shared"}],
    "relearning": [{"every": 1}],
    "sample-level": [{"warmup": 0}, {"warmup": 0, "level": "modality", "part": 1.0}],
}
CASES = [(Case("mlp", "concat", 2), 2), (Case("layernorm", "early", 2), 1), (Case("conv", "concat", 3), 1)]
CASES += [(case, 1) for case in MASKED if (case.encoder, case.fusion) != ("masked transformer", "concat")]
ON_HOST = ("mtl",)  # its solvers are TorchJD's, which compute on the host
TRAINED = [entry for entry in BUILT_IN.entries("modulator") if entry.load().promises.trains and entry.name not in ON_HOST]


def made(entry: registry.Entry, case: Case, params: Mapping[str, Any]) -> Modulator | None:
    """A modulator for a case; `None` if it refuses the model."""
    method: Modulator = entry.load()(case.modalities, **{**entry.params, **params})
    return None if method.refuses(case.model()) else method


@pytest.mark.parametrize("entry", TRAINED, ids=lambda entry: entry.name)
def test_a_step_of_a_built_in_modulator_waits_for_nothing(entry: registry.Entry) -> None:
    steps = 0
    for params, (case, accumulate) in product(VARIANTS.get(entry.name, [{}]), CASES):
        if method := made(entry, case, params):
            found = counted(case, method, accumulate, epochs=3)
            assert found.reads == [], f"{case}, {params}"
            steps += found.steps
    assert steps > 0


@pytest.mark.parametrize("case", [*(case for case in SOME if case.count == 2), *MASKED], ids=str)
@pytest.mark.parametrize("method", [Joint, AGM])
def test_no_built_in_encoder_and_fusion_waits(method: type[Modulator], case: Case) -> None:
    made = method(case.modalities)
    assert made.refuses(case.model()) or counted(case, made).reads == []


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_no_optimizer_waits(optimizer: str) -> None:
    case = Case("mlp", "concat", 2)
    assert counted(case, Joint(case.modalities), optimizer=optimizer).reads == []
    options = {"clip_norm": 0.1, "clip_value": 0.1, "reduction": "sum", "early_stopping": 2}
    for when in ("always", "head"):
        assert counted(case, Joint(case.modalities), optimizer=optimizer, clip_when=when, **options).reads == []


# losses that are not finite are found, although the loop does not wait for each


class Lost(Joint):
    """Has a loss that is not a number at step `at`, and raises at step `fails`."""

    def __init__(self, modalities: tuple[str, ...], at: int, fails: int = 10**9) -> None:
        super().__init__(modalities)
        self.at, self.fails, self.taken = at, fails, 0

    def backward(self, model: Model, batch: Batch) -> Step:
        step, self.taken = super().backward(model, batch), self.taken + 1
        if self.taken - 1 >= self.fails:
            raise ValueError("a probability is not a number")
        return step._replace(loss=step.loss * float("nan")) if self.taken - 1 == self.at else step


def small(steps: int) -> build.Job:
    """A job of one epoch with this number of steps."""
    return make(**{"training.batch_size": 2, "training.epochs": 1, "dataset.samples": 2 * steps})


@pytest.mark.parametrize("at", [0, 1, STEPS - 1, STEPS, STEPS + 1, 2 * STEPS - 1, 2 * STEPS])
def test_a_loss_that_is_not_finite_is_told_by_its_step_within_so_many_more(at: int) -> None:
    method = Lost(("m0", "m1"), at)
    with pytest.raises(
        RunFailed, match=rf"is not finite at epoch 0, step {at}: inputs, features and logits of the model are finite"
    ):
        run(small(2 * STEPS + 4), method)
    assert at < method.taken <= min(at // STEPS * STEPS + STEPS, 2 * STEPS + 4)


def test_what_goes_wrong_for_that_reason_is_told_by_the_reason() -> None:
    with pytest.raises(RunFailed, match="not finite at epoch 0, step 3: inputs, features"):
        run(small(32), Lost(("m0", "m1"), at=3, fails=5))
    with pytest.raises(ValueError, match="a probability is not a number"):
        run(small(32), Lost(("m0", "m1"), at=10**9, fails=5))


class Vanishes(Encoder):
    """An encoder whose features are not finite in one pass only."""

    out_features = 4

    def __init__(self, shape: tuple[int, ...], at: int) -> None:
        super().__init__(shape)
        self.linear = torch.nn.Linear(shape[0], 4)
        self.at, self.passes = at, 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += self.training
        features: Tensor = self.linear(x)
        return features * float("inf") if self.passes - 1 == self.at else features


def test_the_encoder_of_that_step_is_named_whatever_came_later() -> None:
    job = small(32)
    encoders = {"m0": build.model(job).encoders["m0"], "m1": Vanishes((16,), at=7)}
    sizes = {m: int(encoder.out_features) for m, encoder in encoders.items()}  # type: ignore[arg-type]
    model = MultimodalModel(encoders, testing.models.built_in("fusion", "concat")(sizes, 4))  # type: ignore[arg-type]
    with pytest.raises(RunFailed, match="step 7: the encoder of m1 gives features that are not finite"):
        list(train(model, Joint(("m0", "m1")), Feed(splits_of(job), CPU), job.spec.training, 1))


def test_evaluation_reads_once_a_batch() -> None:
    case = MASKED[0]
    batches = [batch.to(CPU) for batch in in_order(case.split)]
    with Reads() as reads:
        evaluate(case.model(), Joint(case.modalities), batches, whole=True)
    assert [read.what for read in reads.found if "agmbench/model.py" in read.where or "agmbench/contracts/" in read.where] == []
    assert [read.what for read in reads.found].count("cpu") == 1


def test_a_mask_is_asked_where_it_is_on_a_device_already() -> None:
    case = MASKED[0]
    model, batch = case.model(), case.batch()
    which = [frozenset(case.modalities[:1])]
    with Reads() as asked:
        expected = model.coalitions(batch.inputs, which)
    told = batch.to(CPU)
    with Reads() as reads:
        found = model.coalitions(told.inputs, which)
    assert [read.what for read in asked.found] == ["unique"]
    assert reads.found == []
    assert torch.equal(found[which[0]].logits, expected[which[0]].logits)
