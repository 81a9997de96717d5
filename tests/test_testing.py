"""Every modulator of the registry passes the conformance checks, and each kind of broken modulator is caught by the check meant for it."""

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agmbench import registry, testing
from agmbench.contracts import (
    Batch,
    Coalition,
    Context,
    Fused,
    Input,
    Model,
    Modulator,
    Promises,
    Step,
    Tokens,
    Unsuitable,
)
from agmbench.errors import shown
from agmbench.fusions.concat import Concat
from agmbench.model import MultimodalModel
from agmbench.modulators.agm import AGM
from agmbench.modulators.joint import Joint
from agmbench.modulators.mmpareto import MMPareto
from agmbench.modulators.ogm import OGM

MODULATORS = registry.builtin().entries("modulator")


def failed(checks: Iterable[testing.Check]) -> list[str]:
    return [check.name for check in checks if check.outcome == "failed"]


def outcome(checks: Iterable[testing.Check], name: str) -> testing.Check:
    (found,) = [check for check in checks if check.name == name]
    return found


@pytest.mark.parametrize("entry", MODULATORS, ids=lambda entry: entry.name)
def test_a_modulator_of_the_registry_fails_no_check(entry: registry.Entry) -> None:
    state = torch.get_rng_state()
    checks = testing.check(entry)
    assert failed(checks) == [], testing.report(checks)
    assert {check.name for check in checks} >= set(testing.CHECKS)
    waits = "noted" if entry.name == "mtl" else "passed"  # its solvers are TorchJD's, which compute on the host
    assert outcome(checks, "waits").outcome == (waits if entry.load().promises.trains else "skipped")
    assert torch.equal(torch.get_rng_state(), state)


# modulators that each break one promise


class Inverted(AGM):
    """Amplifies modalities that are ahead."""

    def coefficients(self, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        kappa, ratio, reference = super().coefficients(score)
        return 1 / kappa, ratio, reference


class Uneven(AGM):
    """Favours modalities by their place."""

    def coefficients(self, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        kappa, ratio, reference = super().coefficients(score)
        return kappa ** torch.arange(1, len(kappa) + 1), ratio, reference


class Lopsided(AGM):
    """Gives equal modalities different coefficients."""

    promises = Promises(balances=True)

    def coefficients(self, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        kappa, ratio, reference = super().coefficients(score)
        return kappa * torch.linspace(1, 1.01, len(kappa)), ratio, reference


class NamesNothing(OGM):
    """Looks for tensors by a name that no modality has."""

    def backward(self, model: Model, batch: Batch) -> Step:
        self._names = {id(tensor): name for name, tensor in model.encoders.named_parameters()}  # type: ignore[attr-defined]
        return super().backward(model, batch)

    def rescale(self, tensor: nn.Parameter, coefficient: Tensor) -> None:
        if "visual" in self._names[id(tensor)]:
            super().rescale(tensor, coefficient)


class NotANumber(AGM):
    """Returns a loss that is not a number."""

    def backward(self, model: Model, batch: Batch) -> Step:
        step = super().backward(model, batch)
        return step._replace(loss=step.loss * math.nan)


class InfiniteGradient(Joint):
    """Makes one gradient infinite; it promises nothing."""

    promises = Promises()

    def backward(self, model: Model, batch: Batch) -> Step:
        step = super().backward(model, batch)
        next(model.fusion.parameters()).grad.fill_(math.inf)
        return step


class Keeps(AGM):
    """Keeps an encoder in a list, so that it is not in the `state_dict`."""

    def backward(self, model: Model, batch: Batch) -> Step:
        self.kept = {"encoders": [model.encoders[self.modalities[0]]]}
        return super().backward(model, batch)


class Partial(Joint):
    """Gives no gradient to the last tensor of the first encoder; it promises nothing."""

    promises = Promises()

    def backward(self, model: Model, batch: Batch) -> Step:
        step = super().backward(model, batch)
        *_, last = model.encoders[self.modalities[0]].parameters()
        last.grad = None
        return step


class Forgets(AGM):
    """Becomes stronger from step to step, by a number that no checkpoint has."""

    pace = 0.0

    def remember(self, score: Tensor) -> None:
        super().remember(score)
        self.pace += 0.1

    def coefficients(self, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        kappa, ratio, reference = super().coefficients(score)
        return kappa ** (1 + self.pace), ratio, reference


class Twice(Joint):
    """Runs the encoders a second time."""

    def backward(self, model: Model, batch: Batch) -> Step:
        step = super().backward(model, batch)
        with torch.no_grad():
            model.encode(batch.inputs)
        return step


class NoWindow(AGM):
    """Takes `starts` and `ends`, but modulates in every epoch."""

    def begin_epoch(self, context: Context) -> None:
        pass


class Vectors(Joint):
    """Records a vector."""

    def backward(self, model: Model, batch: Batch) -> Step:
        return super().backward(model, batch)._replace(signals={"score": torch.ones(2)})


class Changing(Joint):
    """Records another name at each step."""

    steps_seen = 0

    def backward(self, model: Model, batch: Batch) -> Step:
        self.steps_seen = (self.steps_seen + 1) % 5  # it is 0 again at the checkpoint, so that only the names are wrong
        return super().backward(model, batch)._replace(signals={f"step/{self.steps_seen}": torch.ones(())})


class Idle(Joint):
    """Takes no step, but does not declare it."""

    def steps(self, model: Model, batches: Sequence[Batch]) -> Sequence[Step]:
        return ()


class Secret(Joint):
    """Takes steps, but declares that it does not."""

    promises = Promises(trains=False)


class Outside(Joint):
    """Asks for a sample that does not exist."""

    def samples(self, context: Context) -> Tensor:
        return torch.tensor([14, 15, 16])


class Mute(Joint):
    """Has no finite answer for a single modality."""

    def coalitions(self, model: Model, inputs: Mapping[str, Input], which: Sequence[Coalition]) -> dict[Coalition, Fused]:
        said = super().coalitions(model, inputs, which)
        return {c: fused if len(c) > 1 else Fused(fused.logits / 0, fused.representation) for c, fused in said.items()}


class Quits(Joint):
    """Ends the process."""

    def backward(self, model: Model, batch: Batch) -> Step:
        sys.exit(3)


class Shares(AGM):
    """Uses the mode `shared`, but promises `exact`."""

    def backward(self, model: Model, batch: Batch) -> Step:
        self.mode = "shared"
        return super().backward(model, batch)


class Alone(MMPareto):
    """Promises that it takes samples that lack a modality, but lets each modality learn by itself."""

    promises = Promises()


class AlsoAlike(Joint):
    """Promises to use the weights of samples, but has a second loss without them."""

    promises = Promises(weights=True)

    def backward(self, model: Model, batch: Batch) -> Step:
        logits = model.fusion(model.encode(batch.inputs)).logits
        loss = model.loss(logits, batch.targets, batch.weights) + model.loss(logits, batch.targets)
        loss.backward()
        return Step(loss.detach(), logits.detach())


BROKEN: list[tuple[type[Modulator], str, str]] = [
    (Inverted, "balances", "the stronger modality radar should have the smallest kappa; found radar "),
    (Lopsided, "balances", "equal modalities should have equal kappa; found radar "),
    (Uneven, "permutes", "permuted to sonar, radar, at step 0, kappa should be permuted too; found radar "),
    (NamesNothing, "modulated", "yet 0 of 4 tensors of its encoder have a gradient that differs"),
    (Secret, "steps", "promises to take no step; found 1 in a batch"),
    (NotANumber, "finite", "the loss should be finite; found nan"),
    (InfiniteGradient, "finite", "1 of 10 gradients are not finite, the first of fusion.head.weight"),
    (Keeps, "not-kept", "its attribute `kept` holds encoders.radar after a step"),
    (Partial, "gradients", "in a whole epoch 1 of 4 tensors of encoders.radar had no gradient, the first is encoders.radar."),
    (Forgets, "resumes", "after its state_dict was loaded, "),
    (Twice, "batch-statistics", "num_batches_tracked moved 2 times in a batch; expected once per backward pass, 1"),
    (NoWindow, "window", "outside the window, the gradient of encoders.radar."),
    (Vectors, "signals", "the signal score should be a finite scalar tensor; found [1.0, 1.0]"),
    (Changing, "signals", "signals should be the same at every step of an epoch; found step/1, then step/2"),
    (
        Outside,
        "samples",
        "an epoch's samples should be two or more numbers from 0 to 15, a tensor [n] of torch.int64 on the CPU; found 3 from 14 to 16",
    ),
    (Mute, "answers", "where radar is present, logits should be finite and of shape [8, 3], the representation finite; found"),
    (Alone, "absent", "where no sample has 'radar', its encoder's gradient should be joint training's up to a factor"),
    (AlsoAlike, "weights", "samples of weight 0 should have no gradient; that of encoders.radar."),
    (Shares, "exact", "full passes are the mode 'exact'; found 'shared'"),
]


@pytest.mark.parametrize(("broken", "name", "detail"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_modulator_is_caught_by_the_check_meant_for_it(broken: type[Modulator], name: str, detail: str) -> None:
    checks = testing.check(broken)
    assert failed(checks) == [name], testing.report(checks)
    assert detail in outcome(checks, name).detail
    assert "\n" not in outcome(checks, name).detail


def test_every_check_catches_something() -> None:
    assert {name for _, name, _ in BROKEN} | {"neutral", "waits"} == set(testing.CHECKS)


def test_a_method_without_steps_should_say_so() -> None:
    assert "a batch should give one step or more; found none" in outcome(testing.check(Idle), "steps").detail


def test_a_parameter_that_is_not_neutral_is_caught() -> None:
    checks = testing.check(OGM, Promises(neutral={"alpha": 0.1}))
    assert failed(checks) == ["neutral"]
    assert "with alpha=0.1, the gradient of encoders." in outcome(checks, "neutral").detail


def test_what_is_not_promised_is_undeclared() -> None:
    checks = testing.check(AGM, Promises())
    undeclared = [check.name for check in checks if check.outcome == "undeclared"]
    assert undeclared == ["neutral", "balances", "permutes", "window", "exact", "weights"]


def test_a_promise_about_coefficients_needs_them() -> None:
    checks = testing.check(Joint, Promises(balances=True, permutes=True))
    assert failed(checks) == ["balances", "permutes"]
    assert "records no kappa/radar, kappa/sonar; found no signals" in outcome(checks, "balances").detail


def test_a_promised_window_needs_its_parameters() -> None:
    assert "unexpected keyword argument 'starts'" in outcome(testing.check(Joint, Promises(window=True)), "window").detail


def test_gradients_that_are_not_those_of_full_passes_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = MultimodalModel.responses

    def without_muted_gradient(model: MultimodalModel, inputs: dict[str, Tensor], *modes: Any) -> dict[str, Tensor]:
        return engine(model, inputs, "exact", isinstance(model, testing.NaiveModel))

    monkeypatch.setattr(MultimodalModel, "responses", without_muted_gradient)
    checks = testing.check(AGM)
    assert failed(checks) == ["exact"]
    assert "with coalitions=exact, the gradient of encoders." in outcome(checks, "exact").detail


# checks that are skipped


class OnlyTwo(Joint):
    """Takes exactly two modalities."""

    def __init__(self, modalities: tuple[str, ...]) -> None:
        super().__init__(modalities)
        if len(modalities) != 2:
            raise Unsuitable(f"takes two modalities; found {len(modalities)}")


class TakesNothing(Joint):
    """Refuses every model."""

    def refuses(self, model: Model) -> str | None:
        return "takes nothing"


class Rests(Joint):
    """Never trains the first encoder."""

    promises = Promises(rests=True)

    def backward(self, model: Model, batch: Batch) -> Step:
        step = super().backward(model, batch)
        for tensor in model.encoders[self.modalities[0]].parameters():
            tensor.grad = None
        return step


class Crashes(Joint):
    """Raises an error of two lines."""

    def prepare(self, context: Context) -> None:
        raise RuntimeError("two\nlines")


def test_refused_models_are_skipped_with_the_reason() -> None:
    checks = testing.check(OGM)
    skipped = {check.name: check.detail for check in checks if check.outcome == "skipped"}
    assert skipped.keys() == {"fusion early", "fusion film", "fusion gated", "fusion hybrid", "absent"}
    assert skipped["fusion film"].startswith("needs a term of each modality's own, which the fusion FiLM does not have")
    assert skipped["fusion film"].endswith("(9 of 9 models)")


def test_a_refusal_by_the_constructor_is_a_refusal() -> None:
    checks = testing.check(OnlyTwo)
    assert failed(checks) == []
    assert testing.Check("fusion sum", "skipped", "takes two modalities; found 3 (3 of 9 models)") in checks
    assert "in 6 models" in outcome(checks, "neutral").detail


def test_who_promises_exact_asks_for_coalitions() -> None:
    exact = outcome(testing.check(Joint, Promises(exact={})), "exact")
    assert exact.outcome == "failed"
    assert "promises `exact`, and asks the model for no responses or coalitions" in exact.detail


def test_what_refuses_everything_passes_nothing() -> None:
    checks = testing.check(TakesNothing)
    assert {check.outcome for check in checks} == {"skipped", "undeclared"}
    assert outcome(checks, "finite").detail == "refuses every model that this check has"


class OwnHead(Joint):
    """Predicts with a head of its own."""

    promises = Promises(own_heads=True)

    def prepare(self, context: Context) -> None:
        self.head = nn.LazyLinear(3)

    def backward(self, model: Model, batch: Batch) -> Step:
        features = model.encode(batch.inputs).values()
        logits = self.head(torch.cat([e.pooled() if isinstance(e, Tokens) else e for e in features], dim=1))
        loss = model.loss(logits, batch.targets)
        loss.backward()
        return Step(loss.detach(), logits.detach())


class InTurns(Joint):
    """Trains one encoder after another, each on one batch; it promises nothing."""

    promises = Promises()
    turn = 0

    def begin_epoch(self, context: Context) -> None:
        self.turn = 0

    def backward(self, model: Model, batch: Batch) -> Step:
        step = super().backward(model, batch)
        for number, modality in enumerate(self.modalities):
            if number != self.turn % len(self.modalities):
                for tensor in model.encoders[modality].parameters():
                    tensor.grad = None
        self.turn += 1
        return step


@pytest.mark.parametrize(
    ("method", "part", "rested"), [(Rests, "encoders.radar", "radar 18 times"), (OwnHead, "fusion", "fusion 18 times")]
)
def test_a_whole_part_rests_if_that_is_promised(method: type[Modulator], part: str, rested: str) -> None:
    assert f"at rest, as promised: {rested}" in outcome(testing.check(method), "gradients").detail
    complaint = outcome(testing.check(method, Promises()), "gradients")
    assert complaint.outcome == "failed"
    assert f"of {part} had no gradient" in complaint.detail


def test_encoders_that_take_turns_within_an_epoch_need_no_promise() -> None:
    assert outcome(testing.check(InTurns), "gradients").outcome == "passed"


def last_line(function: Callable[..., Any]) -> str:
    """The file and line of the body of a function of two lines, as an error names them."""
    return f"{shown(__file__)}:{function.__code__.co_firstlineno + 1}"


def test_a_crash_is_one_line() -> None:
    found = outcome(testing.check(Crashes), "finite")
    assert found == testing.Check("finite", "failed", f"RuntimeError: two at {last_line(Crashes.prepare)}")


def test_a_method_that_ends_the_process_does_not_end_the_check() -> None:
    assert outcome(testing.check(Quits), "finite") == testing.Check(
        "finite", "failed", f"SystemExit: 3 at {last_line(Quits.backward)}"
    )


def test_the_report_has_a_line_a_check_and_counts() -> None:
    checks = [testing.Check("neutral", "passed", "in 3 models"), testing.Check("exact", "skipped", "has no parameter")]
    assert testing.report(checks) == (
        "passed      neutral  in 3 models\nskipped     exact    has no parameter\n1 passed, 0 failed, 0 noted, 1 skipped, 0 undeclared"
    )


# the models that the checks use


@pytest.mark.parametrize("flags", [(True, True), (False, True), (True, False)])
def test_the_naive_model_has_the_numbers_and_gradients_of_the_engine(flags: tuple[bool, bool]) -> None:
    case = testing.Case("conv", "early", 3)
    found = []
    for kind in (MultimodalModel, testing.NaiveModel):
        model = case.model(kind)
        phi = model.responses(case.batch().inputs, "exact", *flags)
        sum((place + 1) * values.square().sum() for place, values in enumerate(phi.values())).backward()
        found.append([*phi.values(), *(tensor.grad for tensor in model.parameters())])
        assert all(module.training for module in model.modules())
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_the_naive_model_knows_no_shared_passes() -> None:
    case = testing.Case("mlp", "concat", 2)
    with pytest.raises(ValueError, match="full passes are the mode 'exact'; found 'shared'"):
        case.model(testing.NaiveModel).responses(case.batch().inputs, "shared")


def test_some_cases_have_each_fusion_with_each_count_and_each_encoder() -> None:
    assert {(case.fusion, case.count) for case in testing.SOME} == {(case.fusion, case.count) for case in testing.EVERY}
    assert {(case.fusion, case.encoder) for case in testing.SOME} == {(case.fusion, case.encoder) for case in testing.EVERY}


@pytest.mark.parametrize("strong", testing.NAMES[:3])
@pytest.mark.parametrize("encoder", testing.ENCODERS)
def test_in_an_unbalanced_model_the_strong_modality_has_the_smallest_loss(encoder: str, strong: str) -> None:
    case = testing.Case(encoder, "concat", 3)
    model = testing.unbalanced(case, strong).eval()
    with torch.no_grad():
        phi = model.responses(case.batch().inputs)
        loss = {modality: float(model.loss(phi[modality], case.batch().targets)) for modality in case.modalities}
    assert all(loss[strong] < loss[modality] - 0.2 for modality in case.modalities if modality != strong), loss


def test_equal_models_are_equal() -> None:
    model, batch = testing.equal(testing.Case("layernorm", "concat", 3))
    assert isinstance(model.fusion, Concat)
    terms = model.fusion.terms(model.encode(batch.inputs))
    for modality in terms:
        torch.testing.assert_close(terms[modality], terms["radar"])
