"""Checks of a modulator, which is run as in the training loop, on small models on the CPU.

Its promises (`contracts.Promises`) are tested by comparing it with plain joint training. What it does not promise is reported as
undeclared. How often a step waits for the device is only noted, because nothing is promised about it. Models that it refuses are
skipped with its reason.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from agmbench.conduct import kept_model, wrong_samples
from agmbench.contracts import Promises, muted
from agmbench.errors import describe
from agmbench.shapley import coalitions
from agmbench.testing import promises
from agmbench.testing.checks import BrokenPromise, Check, Noted, Skipped, judged
from agmbench.testing.distances import JOINT, NAIVE, Largest
from agmbench.testing.driving import Make, Subject, Taken, context, driven, joint, take
from agmbench.testing.models import BATCH, CLASSES, EVERY, MASKED, SOME, Case, NaiveModel, unbalanced
from agmbench.testing.waits import Read, counted

DAMPED = 1e-2  # a coefficient that differs from 1 by more than this counts as modulation
# the models on which waits of a step are counted: with vectors and with tokens, with masks and without
WAITED = [*(case for case in SOME if case.fusion in ("concat", "early")), *(case for case in MASKED if "lstm" in case.encoder)]
MOVED = 1e-4  # a gradient that differs by more than this, in units of its largest element, counts as modulated


def check(make: Make, params: Mapping[str, Any], declared: Promises | None = None) -> list[Check]:
    """Run every check of a modulator, and add one skipped check per fusion and reason for which it refuses models."""
    subject = Subject(make, params, getattr(make, "promises", Promises()) if declared is None else declared)
    reasons = {case: reason for case in EVERY if (reason := _refusal(subject, case))}
    subject = replace(subject, refused=frozenset(reasons) | {case for case in MASKED if _refusal(subject, case)})
    return [*_refused(reasons), *(_check(name, subject) for name in CHECKS)]


def _refusal(subject: Subject, case: Case) -> str | None:
    try:
        return subject.make(case.modalities, **subject.params).refuses(case.model())
    except ValueError as error:  # Unsuitable is a ValueError too
        return str(error)
    except (Exception, SystemExit):  # this is no refusal, and every check will report it
        return None


def _refused(reasons: Mapping[Case, str]) -> Iterator[Check]:
    for fusion, reason in dict.fromkeys((case.fusion, reason) for case, reason in reasons.items()):
        count = sum((case.fusion, why) == (fusion, reason) for case, why in reasons.items())
        of = sum(case.fusion == fusion for case in EVERY)
        yield Check(f"fusion {fusion}", "skipped", f"{reason} ({count} of {of} models)")


def _check(name: str, subject: Subject) -> Check:
    declared = {
        **{promise: getattr(subject.promises, promise) is not None for promise in ("neutral", "exact")},
        **{promise: getattr(subject.promises, promise) for promise in ("balances", "permutes", "window", "absent", "weights")},
    }
    if not declared.get(name, True):
        return Check(name, "undeclared", f"its promises do not name `{name}`")
    if name not in ("steps", "answers") and not subject.promises.trains:
        return Check(name, "skipped", "promises to take no step")
    return judged(name, CHECKS[name], subject)


def _steps(subject: Subject) -> str:
    total, batches = 0, 0
    for case, taken in ((run.case, taken) for run in subject.runs for taken in run.taken):
        if subject.promises.trains and not taken.steps:
            raise BrokenPromise(f"{case}: a batch should give one step or more; found none")
        if not subject.promises.trains and taken.steps:
            raise BrokenPromise(f"{case}: promises to take no step; found {len(taken.steps)} in a batch")
        total, batches = total + len(taken.steps), batches + 1
    return f"{total} in {batches} batches"


def _finite(subject: Subject) -> str:
    for case, taken in ((run.case, taken) for run in subject.runs for taken in run.taken):
        for step in taken.steps:
            if not torch.isfinite(step.loss).all():
                raise BrokenPromise(f"{case}: the loss should be finite; found {step.loss.tolist()}")
            if step.logits.shape != (BATCH, CLASSES) or not torch.isfinite(step.logits).all():
                found = f"shape {list(step.logits.shape)}, {int(torch.isfinite(step.logits).sum())} finite"
                raise BrokenPromise(f"{case}: logits should be finite and of shape [{BATCH}, {CLASSES}]; found {found}")
        wrong = [name for name, gradient in taken.gradients.items() if not torch.isfinite(gradient).all()]
        if wrong:
            raise BrokenPromise(
                f"{case}: {len(wrong)} of {len(taken.gradients)} gradients are not finite, the first of {wrong[0]}"
            )
    return f"loss, logits and gradients in {len(subject.runs)} models"


def _gradients(subject: Subject) -> str:
    reached, of = 0, 0
    resting: list[str] = []
    for run in subject.runs:
        if complaint := run.conduct.left_out(run.case.batch()):
            raise BrokenPromise(f"{run.case}: {complaint}")
        found = {name for taken in run.first for name in taken.gradients}
        for part, module in {**run.model.encoders, "fusion": run.model.fusion}.items():
            prefix = part if part == "fusion" else f"encoders.{part}"
            names = {f"{prefix}.{name}" for name, _ in module.named_parameters()}
            resting += [part] if found.isdisjoint(names) else []
            reached, of = reached + len(names & found), of + len(names)
    rest = ", ".join(f"{part} {resting.count(part)} times" for part in dict.fromkeys(resting)) or "none"
    return f"in an epoch reach {reached} of {of} tensors in {len(subject.runs)} models; at rest, as promised: {rest}"


def _modulated(subject: Subject) -> str:
    counts: dict[str, int] = {}
    tried = [(case, m) for case in subject.taken() for m in case.modalities[slice(None if case.fusion == "concat" else 1)]]
    for case, strong in tried:
        taken = subject.first(case, unbalanced(case, strong), case.batch())
        if not any(name.startswith("kappa/") for name in taken.signals):
            raise Skipped("records no kappa/m")
        plain = joint(unbalanced(case, strong), case.batch())
        damped = {m: kappa for m, kappa in taken.kappa(case.modalities).items() if abs(kappa - 1) > DAMPED}
        for modality, kappa in damped.items():
            names = [name for name in plain if name.startswith(f"encoders.{modality}.")]
            moved = sum(_moved(taken.gradients.get(name), plain[name]) for name in names)
            if not moved:
                raise BrokenPromise(
                    f"{case}: kappa/{modality} is {kappa:.3g}, yet 0 of {len(names)} tensors of its encoder have a gradient "
                    f"that differs from joint training's by more than {MOVED:.0e}"
                )
            counts[f"{moved} of {len(names)}"] = counts.get(f"{moved} of {len(names)}", 0) + 1
    if not counts:
        raise Skipped(f"kappa stays within {DAMPED} of 1 in all of {len(tried)} unbalanced models")
    shown = ", ".join(f"{tensors} ({times} encoders)" for tensors, times in sorted(counts.items()))
    return f"tensors that differ from joint training where kappa is not 1: {shown}"


def _moved(found: Tensor | None, plain: Tensor) -> bool:
    return found is None or bool((found - plain).abs().max() > MOVED * plain.abs().max())


def _resumes(subject: Subject) -> str:
    cases = subject.taken(case for case in SOME if case.count == 3)
    for case in cases:
        run, generator = driven(subject, case, lr=0.1), torch.Generator()
        model, resumed = copy.deepcopy(run.model), subject.made(case)
        resumed.prepare(context(resumed, case, model, generator))
        model.load_state_dict(run.model.state_dict())  # after `prepare`, in the order of a resumed run
        resumed.load_state_dict(copy.deepcopy(run.modulator.state_dict()))
        generator.set_state(run.generator.get_state())

        run.modulator.begin_epoch(context(run.modulator, case, run.model, run.generator, 2))
        resumed.begin_epoch(context(resumed, case, model, generator, 2))
        expected = take(run.modulator, run.model, case.batch())
        _identical(case, take(resumed, model, case.batch()), expected)
    return f"the batch after a state_dict was loaded is the same bit by bit in {len(cases)} models"


def _identical(case: Case, found: Taken, expected: Taken) -> None:
    one, two = ({**taken.gradients, **taken.signals, "the loss": taken.steps[-1].loss} for taken in (found, expected))
    wrong = [name for name in one.keys() | two.keys() if name not in one or name not in two or not _same(one[name], two[name])]
    if wrong:
        raise BrokenPromise(
            f"{case}: after its state_dict was loaded, {len(wrong)} of {len(two)} gradients, signals and losses of the next batch "
            f"differ, among them {min(wrong)}; expected none (state belongs in buffers)"
        )


def _same(one: Tensor, two: Tensor) -> bool:
    return torch.equal(one.nan_to_num(), two.nan_to_num())


def _batch_statistics(subject: Subject) -> str:
    total = 0
    for case, taken, moved in ((run.case, *pair) for run in subject.runs for pair in zip(run.taken, run.moved, strict=True)):
        for name, times in moved.items():
            part = name.split(".")[1] if name.startswith("encoders.") else "fusion"
            prefix = part if part == "fusion" else f"encoders.{part}"
            rests = not any(gradient.startswith(f"{prefix}.") for gradient in taken.gradients)
            if not rests and not 1 <= times <= len(taken.steps):  # a part that does not learn may run in any mode
                raise BrokenPromise(
                    f"{case}: {name} moved {times} times in a batch; expected once per backward pass, {len(taken.steps)}"
                )
            total += times
    return f"BatchNorms moved once per backward pass, {total} times in {len(subject.runs)} models"


def _not_kept(subject: Subject) -> str:
    for run in subject.runs:
        if complaint := kept_model(run.modulator, run.model):
            raise BrokenPromise(f"{run.case}: {complaint}")
    return f"nothing of the model after a step in {len(subject.runs)} models"


def _check_signals(case: Case, signals: Mapping[str, object]) -> None:
    for name, value in signals.items():
        if not isinstance(value, Tensor) or value.ndim or not torch.isfinite(value):
            found = value.tolist() if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise BrokenPromise(f"{case}: the signal {name} should be a finite scalar tensor; found {found}")


def _signals(subject: Subject) -> str:
    names: set[str] = set()
    for run in subject.runs:
        steps = [step for taken in run.taken for step in taken.steps]
        begun = [step for taken in run.first for step in taken.steps]
        for step in steps:
            _check_signals(run.case, step.signals)
        for step in begun:
            if list(step.signals) != list(begun[0].signals):
                first, other = (", ".join(signals) or "none" for signals in (begun[0].signals, step.signals))
                raise BrokenPromise(
                    f"{run.case}: signals should be the same at every step of an epoch; found {first}, then {other}"
                )
        names |= begun[0].signals.keys()
    return f"{len(names)} names, finite scalars in {len(subject.runs)} models"


def _samples(subject: Subject) -> str:
    counts: list[int] = []
    for run in subject.runs:
        chosen = run.modulator.samples(context(run.modulator, run.case, run.model, run.generator, 1))
        if chosen is None:
            continue
        total = len(run.case.split)
        if complaint := wrong_samples(chosen, total):
            raise BrokenPromise(f"{run.case}: {complaint}")
        counts.append(len(chosen))
    return f"{min(counts)} to {max(counts)} of {total} an epoch" if counts else "all in an epoch, shuffled"


def _answers(subject: Subject) -> str:
    for run in subject.runs:
        which = coalitions(run.case.modalities)
        with run.model.evaluating(), torch.no_grad():
            said = run.modulator.coalitions(run.model, run.case.batch().inputs, which)
        for coalition in which:
            if coalition not in said:
                raise BrokenPromise(f"{run.case}: has no answer where {', '.join(sorted(coalition))} is present")
            logits, representation = said[coalition]
            if logits.shape != (BATCH, CLASSES) or not torch.isfinite(logits).all() or not torch.isfinite(representation).all():
                found = f"{list(logits.shape)}, {int(torch.isfinite(logits).sum())} finite"
                raise BrokenPromise(
                    f"{run.case}: where {', '.join(sorted(coalition))} is present, logits should be finite and of "
                    f"shape [{BATCH}, {CLASSES}], the representation finite; found logits {found}"
                )
    return f"finite for every coalition in {len(subject.runs)} models"


def _exact(subject: Subject) -> str:
    params = dict(subject.promises.exact or {})
    largest = Largest(f"with {promises.shown(params)}", NAIVE)
    for case in subject.taken(EVERY):
        found = subject.first(case, case.model(), case.batch(), **params)
        naive = case.model(NaiveModel)
        expected = subject.first(case, naive, case.batch(), **params)
        if not getattr(naive, "passes", 0):
            raise BrokenPromise(f"{case}: promises `exact`, and asks the model for no responses or coalitions")
        largest.add(case, found.gradients, expected.gradients)
    return largest.detail("from full passes")


def _absent(subject: Subject) -> str:
    """The check that a method learns nothing from an absent modality by itself. Even in a batch in which no sample has the modality, joint
    training has a gradient for its encoder, which gets a stand-in as input. A method whose gradient has another direction learns from the
    modality by itself."""
    if subject.promises.balances or subject.promises.own_heads:
        raise Skipped("coefficients, noise or heads of its own make other gradients than joint training's on any sample")
    cases = [case for case in subject.taken() if case.count == 2]
    for case in cases:
        lacking, model, batch = case.modalities[0], case.model(), case.batch()
        everywhere = {lacking: torch.ones(BATCH, dtype=torch.bool)}
        shown = muted(replace(batch, absent=everywhere), model.muting, {lacking})
        plain = joint(case.model(), shown)
        found = subject.first(case, model, shown).gradients
        names = [name for name in plain if name.startswith(f"encoders.{lacking}.") and name in found]
        if not names:
            continue
        one, two = (torch.cat([grads[name].flatten() for name in names]).double() for grads in (found, plain))
        if one.norm() > 0 and float(torch.cosine_similarity(one, two, dim=0)) < 1 - DAMPED:
            raise BrokenPromise(
                f"{case}: where no sample has '{lacking}', its encoder's gradient should be joint training's up to a factor; it has "
                f"another direction (a method that learns from each modality by itself promises absent=False)"
            )
    return f"an absent modality has no gradient but joint training's in {len(cases)} models"


def _weights(subject: Subject) -> str:
    """The check that weights of 0 for all samples give no gradient, and that weights of 1 give the same gradient as no weights."""
    cases = subject.taken(case for case in SOME if case.count == 2)[:2]
    for case in cases:
        batch = case.batch()
        plain, ones, none = (
            subject.first(case, case.model(), replace(batch, weights=weights)).gradients
            for weights in (None, torch.ones(BATCH), torch.zeros(BATCH))
        )
        if odd := [name for name in plain if not torch.equal(plain[name], ones[name])]:
            raise BrokenPromise(f"{case}: weights of 1 should change nothing; the gradient of {odd[0]} is another")
        unit = max(float(gradient.abs().max()) for gradient in plain.values())
        for name, gradient in none.items():
            if not (left := float(gradient.abs().max()) / unit) <= JOINT:
                raise BrokenPromise(
                    f"{case}: samples of weight 0 should have no gradient; that of {name} has {left:.1e} of the largest gradient (each "
                    "loss should be given batch.weights, or the promises name no weights)"
                )
    return f"weights of 1 change nothing and weights of 0 leave no gradient in {len(cases)} models"


def _waits(subject: Subject) -> str:
    tried = [(case, 1) for case in subject.taken(WAITED) if case.count == 2]
    tried += [(case, 2) for case, _ in tried[:1]]  # with gradients accumulated over two batches
    steps, reads = 0, Counter[Read]()
    for case, accumulate in tried:
        try:
            found = counted(case, subject.made(case), accumulate)
        except (Exception, SystemExit) as error:  # other checks report it
            raise Skipped(f"{case}: its training ends: {describe(error)}") from error
        steps, reads = steps + found.steps, reads + Counter(found.reads)
    if reads:
        (most, _), *others = reads.most_common()
        places = f"{most}, and {len(others)} more places" if others else str(most)
        often = f"{reads.total() / steps:.2g} times"
        raise Noted(f"a step waits for the device {often} (with a GPU it should never have to): {places}")
    return f"the host reads nothing of the device in {steps} steps of {len(tried)} models"


CHECKS: Mapping[str, Callable[[Subject], str]] = {
    "neutral": promises.neutral,
    "balances": promises.balances,
    "permutes": promises.permutes,
    "window": promises.window,
    "steps": _steps,
    "finite": _finite,
    "gradients": _gradients,
    "modulated": _modulated,
    "resumes": _resumes,
    "batch-statistics": _batch_statistics,
    "not-kept": _not_kept,
    "signals": _signals,
    "samples": _samples,
    "answers": _answers,
    "exact": _exact,
    "absent": _absent,
    "weights": _weights,
    "waits": _waits,
}
