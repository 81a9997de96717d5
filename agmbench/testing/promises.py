"""Checks of the promises of a modulator (`contracts.Promises`), most by comparing it with plain joint training."""

import copy
from collections.abc import Mapping
from itertools import product

from agmbench.model import MultimodalModel
from agmbench.testing.checks import BrokenPromise
from agmbench.testing.distances import JOINT, KAPPA, Largest, close, numbers
from agmbench.testing.driving import Subject, begun, plain_joint, take
from agmbench.testing.models import EVERY, SOME, encoder_of, equal, unbalanced, without_dropout


def shown(params: Mapping[str, object]) -> str:
    """Parameters in the form that `--set` takes."""
    return ", ".join(f"{name}={value}" for name, value in params.items()) or "any parameters"


def neutral(subject: Subject) -> str:
    """The check that with neutral parameters, the gradients are those of joint training."""
    params = dict(subject.promises.neutral or {})
    largest = Largest(f"with {shown(params)}", JOINT)
    for case in subject.taken():
        found = subject.first(case, case.model(), case.batch(), **params)
        largest.add(case, found.gradients, plain_joint(case))
    return largest.detail("from joint training")


def window(subject: Subject) -> str:
    """The check that outside the window of epochs, the gradients are those of joint training."""
    largest = Largest("outside the window", JOINT)
    for case, epoch in product(subject.taken(case for case in SOME if case.count < 4), (1, 4)):
        model = case.model()
        modulator = begun(subject.made(case, {"starts": 2, "ends": 4}), case, model, epoch)
        found = take(modulator, model, case.batch())
        largest.add(f"{case}, starts=2, ends=4, epoch {epoch}", found.gradients, plain_joint(case))
    return largest.detail("from joint training")


def balances(subject: Subject) -> str:
    """The check that equal modalities have equal kappa, and that the strongest modality has the smallest."""
    cases = subject.taken(case for case in EVERY if case.fusion == "concat")
    for case in cases:
        kappa = subject.first(case, *equal(case)).kappa(case.modalities)
        close(f"{case}: equal modalities should have equal kappa", kappa, dict.fromkeys(kappa, max(kappa.values())))
    tried = [(case, strong) for case in cases if case in SOME for strong in case.modalities]
    for case, strong in tried:
        kappa = subject.first(case, unbalanced(case, strong), case.batch()).kappa(case.modalities)
        if not kappa[strong] < min(value for modality, value in kappa.items() if modality != strong):
            raise BrokenPromise(
                f"{case}: the stronger modality {strong} should have the smallest kappa; found {numbers(kappa)}"
            )
    return f"equal kappa in {len(cases)} models of equal modalities, the smallest for the stronger in {len(tried)} others"


def permutes(subject: Subject) -> str:
    """The check that kappa is permuted if the modalities are."""
    cases = subject.taken(case for case in SOME if case.count < 4)
    for case in cases:
        names = case.modalities[1:] + case.modalities[:1]
        model = without_dropout(case.model())
        other = copy.deepcopy(model)
        turned = MultimodalModel({m: encoder_of(other, m) for m in names}, other.fusion).train()
        one = begun(subject.made(case), case, model)
        two = begun(subject.make(names, **subject.params), case, turned)
        for number in range(2):
            expected = take(one, model, case.batch(number)).kappa(case.modalities)
            found = take(two, turned, case.batch(number)).kappa(case.modalities)
            close(f"{case}: permuted to {', '.join(names)}, at step {number}, kappa should be permuted too", found, expected)
    return f"kappa in {len(cases)} models, allowed {KAPPA:.0e}"
