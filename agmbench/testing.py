"""Conformance checks of modulators, for whoever writes one: `print(report(check(MyMethod)))`.

Each check drives the modulator as the training loop does, over small models on the CPU: two to four modalities, every way of fusing
and three kinds of encoder. What it promises (`contracts.Promises`) is held against plain joint training; what it does not promise
is reported as undeclared. Models that it refuses are skipped with its reason.
"""

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from agmbench import registry
from agmbench.contracts import (
    SPLITS,
    Batch,
    Coalition,
    Context,
    Encoder,
    Fused,
    Fusion,
    Input,
    Mode,
    Modulator,
    Promises,
    Step,
    TensorSplit,
    Tokens,
)
from agmbench.errors import describe
from agmbench.model import MultimodalModel
from agmbench.registry import Entry

Outcome = Literal["passed", "failed", "skipped", "undeclared"]
Make = Callable[..., Modulator]

JOINT = 1e-6  # gradients that should be joint training's: largest difference, in units of the largest gradient
NAIVE = 1e-5  # the same for gradients by full passes
KAPPA = 1e-6  # coefficients that should be equal: difference, in units of the larger of 1 and the coefficient
DAMPED = 1e-2  # a coefficient further from 1 than this modulates
MOVED = 1e-4  # a tensor's gradient that differs by more than this, in units of its own largest element, is modulated

CLASSES, BATCH, SEED = 3, 8, 17
NAMES = ("radar", "sonar", "touch", "scent")  # no name that a test for `audio` or `visual` would find


class Check(NamedTuple):
    """One check: its outcome, and in one line what was found, or which promise is broken, or why it was not tried."""

    name: str
    outcome: Outcome
    detail: str


def check(make: Entry | Make, promises: Promises | None = None) -> list[Check]:
    """Every check of a modulator, given its entry or its class; `promises` in place of those that it declares."""
    with torch.random.fork_rng(devices=[]), _one_thread():
        subject, refused = _subject(make, promises)
        return [*refused, *(_check(name, subject) for name in CHECKS)]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Models so small only wait for one another's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def report(checks: Sequence[Check]) -> str:
    """One line a check, and a last line with how many had each outcome."""
    width = max((len(check.name) for check in checks), default=0)
    lines = [f"{check.outcome:<10}  {check.name:<{width}}  {check.detail}" for check in checks]
    outcomes = [check.outcome for check in checks]
    counts = [f"{outcomes.count(outcome)} {outcome}" for outcome in ("passed", "failed", "skipped", "undeclared")]
    return "\n".join([*lines, ", ".join(counts)])


# models and data


class NormedLinear(Encoder):
    """Linear, LayerNorm, ReLU; the bias keeps a muted input's variance from being zero."""

    def __init__(self, shape: tuple[int, ...], *, hidden: int = 6) -> None:
        super().__init__(shape)
        self.net = nn.Sequential(nn.Linear(shape[0], hidden), nn.LayerNorm(hidden), nn.ReLU())
        self.out_features = hidden

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.net(x)  # [B, hidden]
        return features


class NaiveModel(MultimodalModel):
    """A model whose coalitions are one full forward pass each: slow, and evidently what `exact` should give.

    For muted inputs that are the same at every pass (zeros, mean), and for `exact` alone. `passes` counts them.
    """

    passes = 0

    def coalitions(
        self,
        inputs: Mapping[str, Input],
        which: Sequence[Coalition],
        mode: Mode = "exact",
        muted_gradient: bool = True,
        partial_gradient: bool = True,
    ) -> dict[Coalition, Fused]:
        """The full coalition in the present mode and first, all others in eval mode."""
        if mode != "exact" and self.training:
            raise ValueError(f"full passes are the mode 'exact'; found '{mode}'")
        full, training = frozenset(self.modalities), [module for module in self.modules() if module.training]
        fused: dict[Coalition, Fused] = {}
        self.passes += len(which)
        try:
            if full in which:
                fused[full] = self.forward(inputs)
            self.eval()
            with torch.set_grad_enabled(torch.is_grad_enabled() and partial_gradient):
                return fused | {c: self._full_pass(inputs, c, muted_gradient) for c in which if c != full}
        finally:
            for module in training:
                module.training = True

    def _full_pass(self, inputs: Mapping[str, Input], coalition: Coalition, muted_gradient: bool) -> Fused:
        shown = {m: x if m in coalition else self.muting(m, x) for m, x in inputs.items()}
        features = self.encode(shown)
        if not muted_gradient:
            features = {m: feature if m in coalition else _detached(feature) for m, feature in features.items()}
        fused: Fused = self.fusion(features)
        return fused


def _detached(feature: Tensor | Tokens) -> Tensor | Tokens:
    return Tokens(feature.values.detach(), feature.mask) if isinstance(feature, Tokens) else feature.detach()


@dataclass(frozen=True)
class Case:
    """A small model: `count` encoders of one kind and a fusion."""

    encoder: str
    fusion: str
    count: int

    def __str__(self) -> str:
        return f"{self.fusion} of {self.count} {self.encoder}"

    @property
    def modalities(self) -> tuple[str, ...]:
        """The first `count` of NAMES."""
        return NAMES[: self.count]

    def model(self, kind: type[MultimodalModel] = MultimodalModel) -> MultimodalModel:
        """The same weights at every call, in train mode."""
        _seed()
        shape, make = ENCODERS[self.encoder]
        encoders = {modality: make(shape) for modality in self.modalities}
        features = {modality: encoder.out_features for modality, encoder in encoders.items()}
        fusion: Fusion = _built_in("fusion", self.fusion)(features, CLASSES, **FUSIONS[self.fusion])
        return kind(encoders, fusion).train()

    def concepts(self) -> dict[str, MultimodalModel]:
        """A mono-modal model for each modality, as a trained one looks: frozen, in eval mode."""
        return {modality: self._alone(modality).requires_grad_(False).eval() for modality in self.modalities}

    def _alone(self, modality: str) -> MultimodalModel:
        """One encoder and a head; under a fusion that is not additive the same network, the others muted."""
        model = self.model()
        encoders = {m: _encoder(model, m) for m in self.modalities}
        if not model.fusion.additive:
            return MultimodalModel(encoders, model.fusion, (modality,))
        head = _built_in("fusion", self.fusion)({modality: encoders[modality].out_features}, CLASSES)
        return MultimodalModel({modality: encoders[modality]}, head)

    @cached_property
    def split(self) -> TensorSplit:
        """Two batches of samples, each the middle of its class and noise."""
        drawn = torch.Generator().manual_seed(SEED)
        shape, _ = ENCODERS[self.encoder]
        targets = torch.arange(2 * BATCH) % CLASSES
        middles = {modality: torch.randn(CLASSES, *shape, generator=drawn) for modality in self.modalities}
        noise = {modality: torch.randn(2 * BATCH, *shape, generator=drawn) for modality in self.modalities}
        return TensorSplit({modality: middles[modality][targets] + noise[modality] for modality in self.modalities}, targets)

    def batch(self, number: int = 0) -> Batch:
        """One of the two batches."""
        return self.split.batch(torch.arange(BATCH) + BATCH * (number % 2))


def _seed() -> None:
    torch.default_generator.manual_seed(SEED)  # torch.manual_seed is slow for what is called so often: it asks for every device


@cache
def _built_in(kind: str, name: str) -> Callable[..., Any]:
    no_plugins = Path(__file__)  # a file has no folders below it
    make: Callable[..., Any] = registry.load(no_plugins).get(kind, name).load()
    return make


FUSIONS: Mapping[str, Mapping[str, Any]] = {
    "concat": {},
    "sum": {},
    "early": {"hidden": 8, "out": 6},
    "film": {},
    "gated": {"width": 6},
    "hybrid": {"width": 8, "heads": 2, "layers": 1, "feed_forward": 8, "dropout": 0.0},
}
ENCODERS: Mapping[str, tuple[tuple[int, ...], Callable[[tuple[int, ...]], Encoder]]] = {
    "mlp": ((5,), lambda shape: _built_in("encoder", "mlp")(shape, hidden=6, layers=2, dropout=0.3)),
    "conv": ((2, 5, 5), lambda shape: _built_in("encoder", "conv")(shape, width=3, layers=2)),
    "layernorm": ((5,), NormedLinear),
}
COUNTS = (2, 3, 4)
EVERY = [Case(encoder, fusion, count) for count, fusion, encoder in product(COUNTS, FUSIONS, ENCODERS)]
# each fusion with each number of modalities, and with each encoder once
SOME = [
    Case(list(ENCODERS)[(row + column) % len(ENCODERS)], fusion, count)
    for row, count in enumerate(COUNTS)
    for column, fusion in enumerate(FUSIONS)
]


@cache
def _trained(case: Case, strong: str) -> dict[str, Any]:
    model, split = case.model(), case.split
    _seed()
    learns = [*model.encoders[strong].parameters(), *model.fusion.parameters()]
    for _ in range(25):
        shown = {m: x if m == strong else x[torch.randperm(len(x))] for m, x in split.inputs.items()}
        gradients = torch.autograd.grad(model.loss(model(shown).logits, split.targets), learns)
        with torch.no_grad():
            for parameter, gradient in zip(learns, gradients, strict=True):
                parameter.sub_(0.3 * gradient)
    return model.state_dict()


def unbalanced(case: Case, strong: str) -> MultimodalModel:
    """A model in which one modality has been trained while the samples of the others were shuffled."""
    model = case.model()
    model.load_state_dict(_trained(case, strong))
    return model


def equal(case: Case) -> tuple[MultimodalModel, Batch]:
    """A concat model whose modalities have the same weights, and a batch in which they have the same inputs."""
    model, batch = _without_dropout(case.model()), case.batch()
    first, *others = case.modalities
    for modality in others:
        model.encoders[modality].load_state_dict(model.encoders[first].state_dict())
    (head,) = model.fusion.heads()
    with torch.no_grad():
        head.weight.copy_(head.weight[:, : head.in_features // case.count].repeat(1, case.count))
    return model, Batch(dict.fromkeys(case.modalities, batch.inputs[first]), batch.targets, batch.index)


def _without_dropout(model: MultimodalModel) -> MultimodalModel:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


# the modulator at work


def context(case: Case, model: MultimodalModel, generator: torch.Generator, epoch: int = 0, ended: bool = False) -> Context:
    """The training around a case; with validation numbers once an epoch has ended."""
    numbers = {modality: 0.5 + 0.1 * place for place, modality in enumerate(case.modalities)}
    return Context(
        epoch=epoch,
        epochs=10,
        steps_per_epoch=2,
        splits=dict.fromkeys(SPLITS, case.split),
        generator=generator,
        valid_accuracy=numbers if epoch or ended else {},
        valid_loss=numbers if epoch or ended else {},
        model=model,
        concepts={} if len(model.modalities) == 1 else case.concepts(),
    )


class Taken(NamedTuple):
    """What one batch gave: its steps, and the gradients by name, those of several steps added up."""

    steps: list[Step]
    gradients: dict[str, Tensor]

    @property
    def signals(self) -> dict[str, Tensor]:
        """The last value of each signal."""
        return {name: value for step in self.steps for name, value in step.signals.items()}

    def kappa(self, modalities: Iterable[str]) -> dict[str, float]:
        """The recorded `kappa/m`, in the order of the modalities."""
        names = [f"kappa/{modality}" for modality in modalities]
        if missing := [name for name in names if name not in self.signals]:
            raise _Broken(f"records no {', '.join(missing)}; found {', '.join(self.signals) or 'no signals'}")
        return {name.removeprefix("kappa/"): float(self.signals[name]) for name in names}


def take(modulator: Modulator, model: MultimodalModel, batch: Batch, lr: float = 0.0) -> Taken:
    """One batch as the loop takes it, with plain gradient descent for an optimizer; dropout draws the same at every call."""
    _seed()
    both = nn.ModuleDict({"model": model, "modulator": modulator})
    both.zero_grad(set_to_none=True)
    steps: list[Step] = []
    gradients: dict[str, Tensor] = {}
    for step in modulator.steps(model, [batch]):
        steps.append(step)
        for name, parameter in both.named_parameters():
            if parameter.grad is not None:
                gradients[name] = gradients[name] + parameter.grad if name in gradients else parameter.grad.clone()
                if lr:
                    parameter.data.sub_(lr * parameter.grad)
        both.zero_grad(set_to_none=True)
    return Taken(steps, {name.removeprefix("model."): gradient for name, gradient in gradients.items()})


class Run(NamedTuple):
    """A case after two batches of one epoch and one of the next: what each gave, and how often each BatchNorm moved in it."""

    case: Case
    generator: torch.Generator
    modulator: Modulator
    model: MultimodalModel
    taken: list[Taken]
    moved: list[dict[str, int]]


def _batches_tracked(model: MultimodalModel) -> dict[str, int]:
    return {name: int(value) for name, value in model.named_buffers() if name.endswith("num_batches_tracked")}


def joint(model: MultimodalModel, batch: Batch) -> dict[str, Tensor]:
    """The gradients of plain joint training."""
    _seed()
    parameters = dict(model.named_parameters())
    loss = model.loss(model(batch.inputs).logits, batch.targets)
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


@cache
def _joint(case: Case) -> dict[str, Tensor]:
    return joint(case.model(), case.batch())


class _Broken(Exception):
    """A check failed, because."""


class _Skipped(Exception):
    """A check does not apply, because."""


@dataclass(frozen=True)
class Subject:
    """The modulator under check: how it is made, what it promises, and the cases it takes."""

    make: Make
    params: Mapping[str, Any]
    promises: Promises
    refused: frozenset[Case] = frozenset()

    def taken(self, cases: Iterable[Case] = SOME) -> list[Case]:
        """Those of the cases that it does not refuse; without any, the check is skipped."""
        found = [case for case in cases if case not in self.refused]
        if not found:
            raise _Skipped("refuses every model that this check has")
        return found

    def made(self, case: Case, params: Mapping[str, object] | None = None) -> Modulator:
        """A fresh instance."""
        return self.make(case.modalities, **{**self.params, **(params or {})})

    def first(self, case: Case, model: MultimodalModel, batch: Batch, **params: object) -> Taken:
        """What a fresh instance does with a batch of the first epoch."""
        return take(_begun(self.made(case, params), case, model), model, batch)

    @cached_property
    def runs(self) -> list[Run]:
        """Two batches of the first epoch and one of the second, for every case."""
        return [_run(self, case) for case in self.taken()]


def _begun(modulator: Modulator, case: Case, model: MultimodalModel, epoch: int = 0) -> Modulator:
    generator = torch.Generator().manual_seed(SEED)
    modulator.prepare(context(case, model, generator))
    modulator.begin_epoch(context(case, model, generator, epoch))
    return modulator


def _run(subject: Subject, case: Case, lr: float = 0.0) -> Run:
    generator, model, modulator = torch.Generator().manual_seed(SEED), case.model(), subject.made(case)
    modulator.prepare(context(case, model, generator))
    taken, moved = [], []
    for epoch, numbers in enumerate([(0, 1), (2,)]):
        modulator.begin_epoch(context(case, model, generator, epoch))
        for number in numbers:
            before = _batches_tracked(model)
            taken.append(take(modulator, model, case.batch(number), lr))
            moved.append({name: count - before[name] for name, count in _batches_tracked(model).items()})
        modulator.end_epoch(context(case, model, generator, epoch, ended=True))
    return Run(case, generator, modulator, model, taken, moved)


def _subject(make: Entry | Make, promises: Promises | None) -> tuple[Subject, list[Check]]:
    """The subject with the cases it refuses, and one skipped check for each fusion and reason."""
    target: Make = make.load() if isinstance(make, Entry) else make
    params = make.params if isinstance(make, Entry) else {}
    subject = Subject(target, params, getattr(target, "promises", Promises()) if promises is None else promises)
    reasons = {case: reason for case in EVERY if (reason := _refusal(subject, case))}
    groups = dict.fromkeys((case.fusion, reason) for case, reason in reasons.items())
    skipped = []
    for fusion, reason in groups:
        count = sum((case.fusion, why) == (fusion, reason) for case, why in reasons.items())
        of = sum(case.fusion == fusion for case in EVERY)
        skipped.append(Check(f"fusion {fusion}", "skipped", f"{reason} ({count} of {of} models)"))
    return Subject(subject.make, params, subject.promises, frozenset(reasons)), skipped


def _refusal(subject: Subject, case: Case) -> str | None:
    try:
        return subject.make(case.modalities, **subject.params).refuses(case.model())
    except ValueError as error:  # of which Unsuitable is one
        return str(error)
    except Exception:  # no refusal: every check will say so
        return None


def _check(name: str, subject: Subject) -> Check:
    declared = {
        "neutral": subject.promises.neutral is not None,
        **{promise: getattr(subject.promises, promise) for promise in ("balances", "permutes", "window")},
    }
    if not declared.get(name, True):
        return Check(name, "undeclared", f"its promises do not name `{name}`")
    if name != "steps" and not subject.promises.trains:
        return Check(name, "skipped", "promises to take no step")
    try:
        return Check(name, "passed", CHECKS[name](subject))
    except _Skipped as reason:
        return Check(name, "skipped", str(reason))
    except _Broken as reason:
        return Check(name, "failed", str(reason))
    except Exception as error:  # a stranger's code may raise anything
        return Check(name, "failed", describe(error))


# what a modulator may promise


def _neutral(subject: Subject) -> str:
    params = dict(subject.promises.neutral or {})
    shown = ", ".join(f"{name}={value}" for name, value in params.items()) or "any parameters"
    largest = _Largest(f"with {shown}", JOINT)
    for case in subject.taken():
        found = subject.first(case, case.model(), case.batch(), **params)
        largest.add(case, found.gradients, _joint(case))
    return largest.detail("from joint training")


def _window(subject: Subject) -> str:
    largest = _Largest("outside the window", JOINT)
    for case, epoch in product(subject.taken(case for case in SOME if case.count < 4), (1, 4)):
        model = case.model()
        modulator = _begun(subject.made(case, {"starts": 2, "ends": 4}), case, model, epoch)
        found = take(modulator, model, case.batch())
        largest.add(f"{case}, starts=2, ends=4, epoch {epoch}", found.gradients, _joint(case))
    return largest.detail("from joint training")


def _balances(subject: Subject) -> str:
    cases = subject.taken(case for case in EVERY if case.fusion == "concat")
    for case in cases:
        kappa = subject.first(case, *equal(case)).kappa(case.modalities)
        _close(f"{case}: equal modalities should have equal kappa", kappa, dict.fromkeys(kappa, max(kappa.values())))
    tried = [(case, strong) for case in cases if case in SOME for strong in case.modalities]
    for case, strong in tried:
        kappa = subject.first(case, unbalanced(case, strong), case.batch()).kappa(case.modalities)
        if not kappa[strong] < min(value for modality, value in kappa.items() if modality != strong):
            raise _Broken(f"{case}: the stronger modality {strong} should have the smallest kappa; found {_numbers(kappa)}")
    return f"equal kappa in {len(cases)} models of equal modalities, the smallest for the stronger in {len(tried)} others"


def _permutes(subject: Subject) -> str:
    cases = subject.taken(case for case in SOME if case.count < 4)
    for case in cases:
        names = case.modalities[1:] + case.modalities[:1]
        model = _without_dropout(case.model())
        other = copy.deepcopy(model)
        turned = MultimodalModel({m: _encoder(other, m) for m in names}, other.fusion).train()
        one = _begun(subject.made(case), case, model)
        two = _begun(subject.make(names, **subject.params), case, turned)
        for number in range(2):
            expected = take(one, model, case.batch(number)).kappa(case.modalities)
            found = take(two, turned, case.batch(number)).kappa(case.modalities)
            _close(f"{case}: permuted to {', '.join(names)}, at step {number}, kappa should be permuted too", found, expected)
    return f"kappa in {len(cases)} models, allowed {KAPPA:.0e}"


def _encoder(model: MultimodalModel, modality: str) -> Encoder:
    encoder = model.encoders[modality]
    assert isinstance(encoder, Encoder)
    return encoder


# what every modulator should do


def _steps(subject: Subject) -> str:
    total, batches = 0, 0
    for case, taken in ((run.case, taken) for run in subject.runs for taken in run.taken):
        if subject.promises.trains and not taken.steps:
            raise _Broken(f"{case}: a batch should give one step or more; found none")
        if not subject.promises.trains and taken.steps:
            raise _Broken(f"{case}: promises to take no step; found {len(taken.steps)} in a batch")
        total, batches = total + len(taken.steps), batches + 1
    return f"{total} in {batches} batches"


def _finite(subject: Subject) -> str:
    for case, taken in ((run.case, taken) for run in subject.runs for taken in run.taken):
        for step in taken.steps:
            if not torch.isfinite(step.loss).all():
                raise _Broken(f"{case}: the loss should be finite; found {step.loss.tolist()}")
            if step.logits.shape != (BATCH, CLASSES) or not torch.isfinite(step.logits).all():
                found = f"shape {list(step.logits.shape)}, {int(torch.isfinite(step.logits).sum())} finite"
                raise _Broken(f"{case}: logits should be finite and of shape [{BATCH}, {CLASSES}]; found {found}")
        wrong = [name for name, gradient in taken.gradients.items() if not torch.isfinite(gradient).all()]
        if wrong:
            raise _Broken(f"{case}: {len(wrong)} of {len(taken.gradients)} gradients are not finite, the first of {wrong[0]}")
    return f"loss, logits and gradients in {len(subject.runs)} models"


def _gradients(subject: Subject) -> str:
    found, of = 0, 0
    resting: list[str] = []
    for case, model, taken in ((run.case, run.model, taken) for run in subject.runs for taken in run.taken):
        for part, module in {**model.encoders, "fusion": model.fusion}.items():
            prefix = part if part == "fusion" else f"encoders.{part}"
            names = [f"{prefix}.{name}" for name, _ in module.named_parameters()]
            missing = [name for name in names if name not in taken.gradients]
            if len(missing) == len(names) and part != "fusion":
                resting.append(part)
            elif missing:
                raise _Broken(
                    f"{case}: {prefix} has gradients for {len(names) - len(missing)} of {len(names)} tensors; "
                    f"expected all of them, or none of an encoder that rests; the first without is {missing[0]}"
                )
            found, of = found + len(names) - len(missing), of + len(names)
    rest = ", ".join(f"{part} {resting.count(part)} times" for part in dict.fromkeys(resting)) or "never"
    return f"{found} of {of} tensors in {len(subject.runs)} models; whole encoders at rest: {rest}"


def _modulated(subject: Subject) -> str:
    counts: dict[str, int] = {}
    tried = [(case, m) for case in subject.taken() for m in case.modalities[slice(None if case.fusion == "concat" else 1)]]
    for case, strong in tried:
        taken = subject.first(case, unbalanced(case, strong), case.batch())
        if not any(name.startswith("kappa/") for name in taken.signals):
            raise _Skipped("records no kappa/m")
        plain = joint(unbalanced(case, strong), case.batch())
        damped = {m: kappa for m, kappa in taken.kappa(case.modalities).items() if abs(kappa - 1) > DAMPED}
        for modality, kappa in damped.items():
            names = [name for name in plain if name.startswith(f"encoders.{modality}.")]
            moved = sum(_moved(taken.gradients.get(name), plain[name]) for name in names)
            if not moved:
                raise _Broken(
                    f"{case}: kappa/{modality} is {kappa:.3g}, yet 0 of {len(names)} tensors of its encoder have a gradient "
                    f"that differs from joint training's by more than {MOVED:.0e}"
                )
            counts[f"{moved} of {len(names)}"] = counts.get(f"{moved} of {len(names)}", 0) + 1
    if not counts:
        raise _Skipped(f"kappa stays within {DAMPED} of 1 in all of {len(tried)} unbalanced models")
    shown = ", ".join(f"{tensors} ({times} encoders)" for tensors, times in sorted(counts.items()))
    return f"tensors that differ from joint training where kappa is not 1: {shown}"


def _moved(found: Tensor | None, plain: Tensor) -> bool:
    return found is None or bool((found - plain).abs().max() > MOVED * plain.abs().max())


def _resumes(subject: Subject) -> str:
    cases = subject.taken(case for case in SOME if case.count == 3)
    for case in cases:
        run, generator = _run(subject, case, lr=0.1), torch.Generator()
        model, resumed = copy.deepcopy(run.model), subject.made(case)
        resumed.prepare(context(case, model, generator))
        resumed.load_state_dict(copy.deepcopy(run.modulator.state_dict()))
        generator.set_state(run.generator.get_state())

        run.modulator.begin_epoch(context(case, run.model, run.generator, 2))
        resumed.begin_epoch(context(case, model, generator, 2))
        expected = take(run.modulator, run.model, case.batch())
        _identical(case, take(resumed, model, case.batch()), expected)
    return f"the fourth step, after a state_dict, is the same bit by bit in {len(cases)} models"


def _identical(case: Case, found: Taken, expected: Taken) -> None:
    one, two = ({**taken.gradients, **taken.signals, "the loss": taken.steps[-1].loss} for taken in (found, expected))
    wrong = [name for name in one.keys() | two.keys() if name not in one or name not in two or not _same(one[name], two[name])]
    if wrong:
        raise _Broken(
            f"{case}: after its state_dict was loaded, {len(wrong)} of {len(two)} gradients, signals and losses of the fourth step "
            f"differ, among them {min(wrong)}; expected none (state belongs in buffers)"
        )


def _same(one: Tensor, two: Tensor) -> bool:
    return torch.equal(one.nan_to_num(), two.nan_to_num())


def _batch_statistics(subject: Subject) -> str:
    total = 0
    for case, taken, moved in ((run.case, *pair) for run in subject.runs for pair in zip(run.taken, run.moved, strict=True)):
        for name, times in moved.items():
            part = name.split(".")[1] if name.startswith("encoders.") else "fusion"
            rests = part != "fusion" and not any(gradient.startswith(f"encoders.{part}.") for gradient in taken.gradients)
            if not (0 if rests else 1) <= times <= len(taken.steps):
                raise _Broken(f"{case}: {name} moved {times} times in a batch; expected once a backward, {len(taken.steps)}")
            total += times
    return f"BatchNorms moved once a backward, {total} times in {len(subject.runs)} models"


def _not_kept(subject: Subject) -> str:
    for run in subject.runs:
        own = {id(part): name or "the model" for name, part in run.model.named_modules()}
        own |= {id(part): name for name, part in run.model.named_parameters()}
        for attribute, value in (item for holder in run.modulator.modules() for item in vars(holder).items()):
            for kept in _contents(value):
                if id(kept) in own:
                    raise _Broken(
                        f"{run.case}: after a step the attribute `{attribute}` holds {own[id(kept)]}; expected nothing of the model"
                    )
    return f"nothing of the model after a step in {len(subject.runs)} models"


def _contents(value: object) -> Iterator[object]:
    yield value
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _contents(item)


def _signals(subject: Subject) -> str:
    names: set[str] = set()
    for run in subject.runs:
        steps = [step for taken in run.taken for step in taken.steps]
        begun = [step for taken in run.taken[:2] for step in taken.steps]  # of one epoch
        for step in steps:
            for name, value in step.signals.items():
                if not isinstance(value, Tensor) or value.ndim or not torch.isfinite(value):
                    found = value.tolist() if isinstance(value, Tensor) else f"a {type(value).__name__}"
                    raise _Broken(f"{run.case}: the signal {name} should be a finite scalar tensor; found {found}")
        for step in begun:
            if list(step.signals) != list(begun[0].signals):
                first, other = (", ".join(signals) or "none" for signals in (begun[0].signals, step.signals))
                raise _Broken(f"{run.case}: signals should be the same at every step of an epoch; found {first}, then {other}")
        names |= begun[0].signals.keys()
    return f"{len(names)} names, finite scalars in {len(subject.runs)} models"


def _exact(subject: Subject) -> str:
    if "coalitions" not in inspect.signature(subject.make).parameters:
        raise _Skipped("has no parameter `coalitions`")
    largest = _Largest("with coalitions=exact", NAIVE)
    for case in subject.taken(EVERY):
        found = subject.first(case, case.model(), case.batch(), coalitions="exact")
        naive = case.model(NaiveModel)
        expected = subject.first(case, naive, case.batch(), coalitions="exact")
        if not getattr(naive, "passes", 0):
            raise _Skipped(f"{case}: asks the model for no responses or coalitions, so there is nothing to compare")
        largest.add(case, found.gradients, expected.gradients)
    return largest.detail("from full passes")


CHECKS: Mapping[str, Callable[[Subject], str]] = {
    "neutral": _neutral,
    "balances": _balances,
    "permutes": _permutes,
    "window": _window,
    "steps": _steps,
    "finite": _finite,
    "gradients": _gradients,
    "modulated": _modulated,
    "resumes": _resumes,
    "batch-statistics": _batch_statistics,
    "not-kept": _not_kept,
    "signals": _signals,
    "exact": _exact,
}


# comparisons


class _Largest:
    """The largest difference between gradients so far, in units of the largest gradient of its model."""

    def __init__(self, promise: str, allowed: float) -> None:
        self.promise, self.allowed = promise, allowed
        self.models, self.value = 0, 0.0

    def add(self, where: object, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
        """A tensor without a gradient counts as zero; more than allowed breaks the promise."""
        unit = torch.stack([gradient.abs().max() for gradient in expected.values()]).max()
        own = (name for name in found if not name.startswith("modulator."))  # what it brings itself has no counterpart in joint
        for name in dict.fromkeys([*expected, *own]):
            difference = float(_apart(found.get(name), expected.get(name)) / unit)
            if not difference <= self.allowed:
                raise _Broken(
                    f"{where}: {self.promise}, the gradient of {name} differs by {difference:.1e} of the largest gradient, "
                    f"allowed {self.allowed:.0e}"
                )
            self.value = max(self.value, difference)
        self.models += 1

    def detail(self, reference: str) -> str:
        """What a passed check says."""
        return (
            f"{self.promise}, gradients differ {reference} by {self.value:.1e} at most, allowed {self.allowed:.0e}, "
            f"in {self.models} models"
        )


def _apart(one: Tensor | None, two: Tensor | None) -> Tensor:
    if one is None or two is None:
        return torch.stack([tensor.abs().max() for tensor in (one, two) if tensor is not None]).max()
    return (one - two).abs().max()


def _close(promise: str, found: Mapping[str, float], expected: Mapping[str, float]) -> None:
    if not all(abs(found[m] - value) <= KAPPA * max(1.0, abs(value)) for m, value in expected.items()):
        raise _Broken(f"{promise}; found {_numbers(found)}, expected {_numbers(expected)}, allowed {KAPPA:.0e}")


def _numbers(kappa: Mapping[str, float]) -> str:
    return ", ".join(f"{modality} {value:.7g}" for modality, value in kappa.items())
