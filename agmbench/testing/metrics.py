"""Checks of a metric: whether it is a pure function of outcomes and gives the quantities that it declares."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from agmbench.errors import describe
from agmbench.outcomes import KINDS, Array, Floats, Kind, Metric, Outcome, Outcomes, Unmeasured
from agmbench.shapley import coalitions
from agmbench.testing.checks import BrokenPromise, Check, Skipped, judged
from agmbench.testing.models import CLASSES, NAMES, SEED

SAMPLES, FEATURES = 24, 6
MODALITIES = NAMES[:2]
SAME = 1e-6  # allowed change by another order of the samples, in units of the larger of 1 and the value


class Asked(NamedTuple):
    """The arguments of a metric: the outcomes of a model with two modalities, and those of its unimodal models."""

    outcomes: Outcomes
    references: Mapping[str, Outcomes]


def _outcome(kind: Kind, seed: int, modalities: tuple[str, ...] = MODALITIES) -> Outcome:
    drawn = np.random.default_rng([SEED, seed])
    width = 1 if kind == "regression" else CLASSES
    terms = {m: _normal(drawn, width) for m in modalities}
    logits = {
        which: sum(terms[m] for m in modalities if m in which) + _normal(drawn, width) for which in coalitions(modalities)
    }
    targets: dict[Kind, Array] = {
        "classification": np.arange(SAMPLES) % CLASSES,
        "multi-label": (drawn.random((SAMPLES, CLASSES)) < 0.4).astype(np.float32),
        "regression": _normal(drawn, 1)[:, 0],
    }
    names = ("sentiment",) if kind == "regression" else tuple(f"class {number}" for number in range(width))
    fused, features = _normal(drawn, FEATURES), {m: _normal(drawn, 2 + place) for place, m in enumerate(modalities)}
    return Outcome(kind, modalities, names, logits, targets[kind], fused, terms, features)


def _normal(drawn: np.random.Generator, width: int) -> Floats:
    return drawn.normal(size=(SAMPLES, width)).astype(np.float32)


def _asked(kind: Kind) -> Asked:
    def of(seed: int, *modalities: str) -> Outcomes:
        return Outcomes(_outcome(kind, seed, modalities), _outcome(kind, seed + 1, modalities))

    return Asked(of(0, *MODALITIES), {m: of(2 + 2 * place, m) for place, m in enumerate(MODALITIES)})


def check(make: Callable[..., Metric], params: Mapping[str, object]) -> list[Check]:
    """Every check of a metric, and one skipped check for each kind of task that it is not for or cannot measure here."""
    try:
        metric = make(**params)
        kinds = {kind for quantity in metric.quantities for kind in quantity.tasks}
    except (Exception, SystemExit) as error:  # a stranger's code may raise anything
        return [Check("declares", "failed", f"cannot be made, or declares no quantities ({describe(error)})")]
    skipped, fitting = [], {}
    for kind in KINDS:
        if kind not in kinds:
            skipped.append(Check(kind, "skipped", "no quantity is for it"))
        elif reason := _refusal(metric, kind):
            skipped.append(Check(kind, "skipped", f"not measured: {reason}"))
        else:
            fitting[kind] = _asked(kind)
    declares = judged("declares", _declares, metric)
    return [*skipped, declares, *(judged(name, _on, metric, fitting, name) for name in CHECKS)]


def _refusal(metric: Metric, kind: Kind) -> str:
    try:
        metric(*_asked(kind))
    except Unmeasured as reason:
        return str(reason)
    except (Exception, SystemExit):  # every check will report it
        return ""
    return ""


def _declares(metric: Metric) -> str:
    names = [quantity.name for quantity in metric.quantities]
    if len(set(names)) < len(names) or not names:
        raise BrokenPromise(f"its quantities should have a name each; found {names}")
    return ", ".join(f"{quantity.name} [{quantity.unit or 'no unit'}]" for quantity in metric.quantities)


def _on(metric: Metric, fitting: Mapping[Kind, Asked], name: str) -> str:
    if not fitting:
        raise Skipped("applies to nothing that this check has")
    return CHECKS[name](metric, copy.deepcopy(fitting))  # a copy, so that changes by one check do not reach the next


def _numbers(metric: Metric, kind: Kind, asked: Asked, where: str = "") -> dict[str, float]:
    """All values of a metric in one mapping. Raises `BrokenPromise` if they are not those that it declares, or not finite."""
    given: Any = metric(*asked)
    expected = {quantity.name: quantity for quantity in metric.quantities if kind in quantity.tasks}
    if not isinstance(given, Mapping) or given.keys() != expected.keys():
        raise BrokenPromise(f"for a {kind} it should give a mapping of {', '.join(expected)}; found {given!r}"[:300])
    found: dict[str, Any] = {}
    for name, value in given.items():
        if expected[name].per and not isinstance(value, Mapping):
            raise BrokenPromise(
                f"for a {kind} '{name}' should be a mapping, a number per {expected[name].per}; found {value!r}"[:300]
            )
        found |= {f"{name}/{key}": one for key, one in value.items()} if expected[name].per else {name: value}
    return {name: _finite(number, f"for a {kind}{where} '{name}'") for name, number in found.items()}


def _finite(number: object, what: str) -> float:
    if not isinstance(number, float | int) or not math.isfinite(number):
        raise BrokenPromise(f"{what} should be a finite number; found {number!r}, a {type(number).__name__}")
    return float(number)


def _values(metric: Metric, fitting: Mapping[Kind, Asked]) -> str:
    found = []
    for kind, asked in fitting.items():
        numbers = _numbers(metric, kind, asked)
        found.append(f"of a {kind} {', '.join(f'{name} {number:.4g}' for name, number in numbers.items())}")
    return "; ".join(found)


def _zeros(metric: Metric, fitting: Mapping[Kind, Asked]) -> str:
    def blank(outcome: Outcome) -> Outcome:
        logits = {which: np.zeros_like(one) for which, one in outcome.logits.items()}
        return replace(outcome, logits=logits, terms={m: np.zeros_like(term) for m, term in outcome.terms.items()})

    return _extreme(metric, fitting, blank, "where every logit is zero")


def _one(metric: Metric, fitting: Mapping[Kind, Asked]) -> str:
    return _extreme(metric, fitting, lambda outcome: _rows(outcome, np.array([0])), "for one sample")


def _extreme(metric: Metric, fitting: Mapping[Kind, Asked], change: Callable[[Outcome], Outcome], where: str) -> str:
    """The check that a metric gives finite numbers, or a reason why it gives none, for changed outcomes."""
    refused = 0
    for kind, asked in fitting.items():
        changed = {m: replace(one, judged=change(one.judged)) for m, one in asked.references.items()}
        try:
            _numbers(metric, kind, Asked(replace(asked.outcomes, judged=change(asked.outcomes.judged)), changed), f", {where},")
        except Unmeasured:
            refused += 1
    return f"finite, or refused with a reason, {where} (refused for {refused} of {len(fitting)} kinds of task)"


def _pure(metric: Metric, fitting: Mapping[Kind, Asked]) -> str:
    for kind, asked in fitting.items():
        given = copy.deepcopy(asked)
        one, two = _numbers(metric, kind, given), _numbers(metric, kind, given)
        if one != two:
            raise BrokenPromise(f"for a {kind}: the same outcomes gave {one}, then {two}")
        now, before = _arrays(given), _arrays(asked)
        if changed := [name for name, array in before.items() if not np.array_equal(array, now[name])]:
            raise BrokenPromise(f"for a {kind}: changes {' and '.join(changed)} in place; expected them untouched")
    return "the same twice, and nothing changed in place"


def _arrays(asked: Asked) -> dict[str, Array]:
    judged_ = asked.outcomes.judged
    names = {"+".join(sorted(which)): one for which, one in judged_.logits.items()}
    logits = {f"the logits of {name}": one for name, one in names.items()}
    features = {f"the features of {m}": one for m, one in judged_.features.items()}
    return {**logits, **features, "the targets": judged_.targets, "the representation": judged_.representation}


def _order(metric: Metric, fitting: Mapping[Kind, Asked]) -> str:
    largest = 0.0
    for kind, asked in fitting.items():
        places = np.random.default_rng(SEED).permutation(SAMPLES)
        turned = Asked(_turned(asked.outcomes, places), {m: _turned(one, places) for m, one in asked.references.items()})
        one, two = _numbers(metric, kind, asked), _numbers(metric, kind, turned)
        for name, value in one.items():
            apart = abs(value - two.get(name, math.inf))
            if not apart <= SAME * max(1.0, abs(value)):
                raise BrokenPromise(
                    f"for a {kind}: {name} is {value!r}, and {two.get(name)!r} with the samples in another order; allowed {SAME:.0e} apart"
                )
            largest = max(largest, apart)
    return f"another order of the samples changes it by {largest:.1e} at most, allowed {SAME:.0e}"


def _turned(outcomes: Outcomes, places: Array) -> Outcomes:
    return replace(outcomes, judged=_rows(outcomes.judged, places))


def _rows(outcome: Outcome, places: Array) -> Outcome:
    """The outcome of only some samples, in the given order."""
    return replace(
        outcome,
        logits={which: logits[places] for which, logits in outcome.logits.items()},
        targets=outcome.targets[places],
        fused=outcome.representation[places],
        terms={m: term[places] for m, term in outcome.terms.items()},
        features={m: feature[places] for m, feature in outcome.features.items()},
    )


CHECKS: Mapping[str, Callable[[Metric, Mapping[Kind, Asked]], str]] = {
    "values": _values,
    "zeros": _zeros,
    "one": _one,
    "pure": _pure,
    "order": _order,
}
