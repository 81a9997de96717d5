"""Checks of a metric: a pure function of logits and targets."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from agmbench.contracts import Metric
from agmbench.testing.checks import Broken, Check, Skipped, judged
from agmbench.testing.models import CLASSES, SEED

SAMPLES = 24
SAME = 1e-6  # what another order of the samples may change, in units of the larger of 1 and the value


class Answers(NamedTuple):
    """What a model said of a split."""

    logits: Tensor
    targets: Tensor


def _answers() -> dict[str, Answers]:
    drawn = torch.Generator().manual_seed(SEED)
    classes, labels = torch.arange(SAMPLES) % CLASSES, (torch.rand(SAMPLES, CLASSES, generator=drawn) < 0.4).float()
    numbers, logits = (torch.randn(SAMPLES, *more, generator=drawn) for more in ((), (CLASSES,)))
    return {
        "classes [N]": Answers(logits, classes),
        "labels [N, C]": Answers(logits, labels),
        "a regression [N]": Answers(logits[:, :1], numbers),
    }


def check(metric: Metric, params: Mapping[str, object]) -> list[Check]:
    """Every check of a metric, and one skipped check for each kind of target to which it does not apply."""
    everything = _answers()
    applies = {kind: answers for kind, answers in everything.items() if not _says_none(metric, answers)}
    skipped = [Check(kind, "skipped", "does not apply (None)") for kind in everything if kind not in applies]
    first = judged("applies", _applies, applies)
    return [*skipped, first, *(judged(name, _on, metric, applies, name) for name in CHECKS)]


def _asked(metric: Metric, logits: Tensor, targets: Tensor) -> float | None:
    return metric(logits.clone(), targets.clone())


def _says_none(metric: Metric, answers: Answers) -> bool:
    try:
        return _asked(metric, *answers) is None
    except (Exception, SystemExit):  # every check will say so
        return False


def _applies(applies: Mapping[str, Answers]) -> str:
    if not applies:
        raise Broken(f"is None for all of {', '.join(_answers())}; expected a number for one of them")
    return ", ".join(applies)


def _on(metric: Metric, applies: Mapping[str, Answers], name: str) -> str:
    if not applies:
        raise Skipped("applies to nothing that this check has")
    return CHECKS[name](metric, applies)


def _number(metric: Metric, applies: Mapping[str, Answers]) -> str:
    found: dict[str, float] = {}
    for kind, answers in applies.items():
        for logits in (answers.logits, torch.zeros_like(answers.logits)):
            value = _asked(metric, logits, answers.targets)
            where = f"for targets that are {kind}" if logits is answers.logits else f"for {kind}, where every logit is zero,"
            if not isinstance(value, float) or not math.isfinite(value):
                raise Broken(f"{where} it should give a finite float; found {value!r}, a {type(value).__name__}")
            found.setdefault(kind, value)
    return ", ".join(f"{value:.4g} for {kind}" for kind, value in found.items())


def _pure(metric: Metric, applies: Mapping[str, Answers]) -> str:
    for kind, answers in applies.items():
        given = Answers(answers.logits.clone(), answers.targets.clone())
        one, two = (metric(*given) for _ in range(2))
        if one != two:
            raise Broken(f"for {kind}: the same logits and targets gave {one!r}, then {two!r}")
        changed = [name for name in Answers._fields if not torch.equal(getattr(given, name), getattr(answers, name))]
        if changed:
            raise Broken(f"for {kind}: changes its {' and '.join(changed)} in place; expected them untouched")
    return "the same twice, and nothing changed in place"


def _order(metric: Metric, applies: Mapping[str, Answers]) -> str:
    largest = 0.0
    for kind, answers in applies.items():
        places = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(SEED))
        one, two = _asked(metric, *answers), _asked(metric, answers.logits[places], answers.targets[places])
        apart = abs(one - two) if one is not None and two is not None else math.inf
        if not apart <= SAME * max(1.0, abs(one or 0.0)):
            raise Broken(f"for {kind}: {one!r}, and {two!r} with the samples in another order; allowed {SAME:.0e} apart")
        largest = max(largest, apart)
    return f"another order of the samples changes it by {largest:.1e} at most, allowed {SAME:.0e}"


def _one(metric: Metric, applies: Mapping[str, Answers]) -> str:
    found = []
    for kind, answers in applies.items():
        value = _asked(metric, answers.logits[:1], answers.targets[:1])
        if value is not None and not (isinstance(value, float) and math.isfinite(value)):
            raise Broken(f"for one sample of {kind} it should give a finite float or None; found {value!r}")
        found.append(str(value))
    return f"of one sample: {', '.join(found)}"


CHECKS: Mapping[str, Callable[[Metric, Mapping[str, Answers]], str]] = {
    "number": _number,
    "pure": _pure,
    "order": _order,
    "one": _one,
}
