"""Checks of a fusion, on one to four modalities whose features differ in width (or are equally wide, if it takes no others)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from agmbench.contracts import Batch, Context, Encoder, Fusion, Input, Tokens, Unsuitable
from agmbench.errors import describe
from agmbench.model import MultimodalModel
from agmbench.tasks import Segments
from agmbench.testing.checks import BrokenPromise, Check, Skipped, judged, takes, tried
from agmbench.testing.distances import NAIVE, Largest
from agmbench.testing.driving import take
from agmbench.testing.models import CLASSES, NAMES, SEED, NaiveModel, NormedLinear, built_in, seed
from agmbench.testing.parts import BATCH, SHARED, Answer, Trial, finite, forms, values, with_values

Make = Callable[..., Fusion]

WIDTHS = {"unlike": (5, 7, 4, 6), "equal": (6, 6, 6, 6)}
LENGTHS = {"unlike": (3, 4, 2, 5), "equal": (4, 4, 4, 4)}  # number of tokens per modality, for a fusion that takes tokens
TERMS = 1e-5  # allowed difference between the sum of the terms and the logits, in units of the largest logit
STILL = 1e-6  # allowed change of logits by something that should not change them, in units of the largest


def check(make: Make, params: Mapping[str, Any]) -> list[Check]:
    """Every check of a fusion, and one skipped check for each number of modalities that it refuses."""
    trials: list[Trial] = []
    refused: list[Check] = []
    broken: list[str] = []
    for count in range(1, len(NAMES) + 1):
        reasons: list[str] = []
        for trial in (_trial(make, params, count, kind) for kind in WIDTHS):
            try:
                trial(trial.made())
                trials.append(trial)
            except (Unsuitable, ValueError) as error:
                reasons.append(str(error))
                continue
            except (Exception, SystemExit) as error:  # a stranger's code may raise anything
                broken.append(f"{trial.name}: {describe(error)}")
            break
        noun = "modality" if count == 1 else "modalities"
        refused += [Check(f"{count} {noun}", "skipped", reason) for reason in reasons[:1]]
    declared = {"terms": getattr(make, "additive", False)}
    expected = "logits, or Unsuitable with the reason from `__init__`"
    found = [*refused, judged("takes", takes, trials, broken, expected, "no number of modalities")]
    for name in CHECKS:
        if declared.get(name, True):
            found.append(judged(name, tried, CHECKS[name], trials, "no features"))
        else:
            found.append(Check(name, "undeclared", "does not say that it is additive"))
    return found


def _trial(make: Make, params: Mapping[str, Any], count: int, kind: str) -> Trial:
    widths = dict(zip(NAMES[:count], WIDTHS[kind], strict=False))
    drawn = torch.Generator().manual_seed(SEED)
    inputs: dict[str, Input] = {}
    for (m, width), length in zip(widths.items(), LENGTHS[kind], strict=False):
        if getattr(make, "takes_tokens", False):
            there = torch.rand(BATCH, length, generator=drawn) < 0.7
            mask = there if kind == "unlike" else None
            inputs[m] = Tokens(torch.randn(BATCH, length, width, generator=drawn), mask)
        else:
            inputs[m] = torch.randn(BATCH, width, generator=drawn)
    shown = f"{count} of width {'/'.join(map(str, widths.values()))}"
    return Trial(shown, lambda: make(widths, CLASSES, **params), inputs, _answers)


def _answers(fusion: nn.Module, features: Mapping[str, Input]) -> Answer:
    logits, representation = fusion(features)
    return {"logits": logits, "representation": representation}


def _fusion(trial: Trial) -> Fusion:
    fusion = trial.made()
    if not isinstance(fusion, Fusion):
        raise BrokenPromise(f"should be an agmbench.contracts.Fusion; found a {type(fusion).__name__}")
    return fusion


def _output(trials: Sequence[Trial]) -> str:
    shown = []
    for trial in trials:
        fusion = _fusion(trial)
        length = [values(next(iter(trial.inputs.values()))).shape[1]] if fusion.per_segment else []
        for mode in (True, False):
            found = trial(fusion.train(mode))
            logits, representation = (list(value.shape) for value in found.values())
            if logits != [BATCH, *length, CLASSES] or representation[:-1] != [BATCH, *length]:
                raise BrokenPromise(
                    f"{trial.name}: logits should be {[BATCH, *length, CLASSES]}, the representation "
                    f"{[BATCH, *length, 'R']}".replace("'", "")
                    + f"; found {logits} and {representation}"
                )
            finite(trial.name, found)
        shown.append(f"{logits} and {representation}")
    return f"logits and representation, finite: {', '.join(dict.fromkeys(shown))}"


def _apart(trial: Trial) -> float:
    """The difference between the sum of the terms and the logits, in units of the largest logit. Raises `BrokenPromise` if it is larger
    than `TERMS`, or if a term depends on another modality."""
    fusion = _fusion(trial).eval()
    features = {m: values(x) for m, x in trial.inputs.items()}
    logits, terms = fusion(features).logits, fusion.terms(features)
    if list(terms) != list(features):
        raise BrokenPromise(f"{trial.name}: terms should be those of {', '.join(features)}; found {', '.join(terms)}")
    apart = float((torch.stack(list(terms.values())).sum(dim=0) - logits).abs().max() / logits.abs().max())
    if not apart <= TERMS:
        said = f"differs from the logits by {apart:.1e} of the largest, allowed {TERMS:.0e}"
        raise BrokenPromise(f"{trial.name}: the sum of its terms {said}")
    for m in features:
        own = fusion.terms({k: x if k == m else x + 1 for k, x in features.items()})[m]
        if not torch.equal(own, terms[m]):
            raise BrokenPromise(f"{trial.name}: the term of {m} depends on the features of another modality")
    return apart


def _terms(trials: Sequence[Trial]) -> str:
    with torch.no_grad():
        largest = max((_apart(trial) for trial in trials), default=0.0)
    return f"sum to the logits but for {largest:.1e} of the largest, allowed {TERMS:.0e}, each of its own modality alone"


def _heads(trials: Sequence[Trial]) -> str:
    shown = []
    for trial in trials:
        fusion = _fusion(trial).eval()
        heads, own = fusion.heads(), {id(module): name for name, module in fusion.named_modules()}
        if not heads or not all(isinstance(head, nn.Linear) and id(head) in own for head in heads):
            raise BrokenPromise(f"{trial.name}: heads() should give linear layers of its own; found {heads}")
        before = trial.evaluated(fusion)["logits"]
        for head in heads:
            kept = head.weight.detach().clone()
            head.weight.data += 1
            if torch.equal(trial.evaluated(fusion)["logits"], before):
                raise BrokenPromise(f"{trial.name}: another weight of its head {own[id(head)]} does not move the logits")
            head.weight.data.copy_(kept)
        for head in heads:
            head.weight.data.zero_()
        after = trial.evaluated(fusion)["logits"].flatten(0, -2)  # [samples, C]
        moves = float((after - after[0]).abs().max() / before.abs().max())
        if not moves <= STILL:
            raise BrokenPromise(
                f"{trial.name}: with the weights of its {len(heads)} heads at zero, logits still differ from sample to sample by "
                f"{moves:.1e} of the largest, allowed {STILL:.0e}"
            )
        shown.append(f"{len(heads)}")
    return f"linear layers that write the logits, and nothing else does: {', '.join(shown)} in {forms(trials)}"


def _reaches(trials: Sequence[Trial]) -> str:
    for trial in trials:
        features = {m: with_values(x, values(x).clone().requires_grad_()) for m, x in trial.inputs.items()}
        logits = trial(trial.made(), features)["logits"]
        weighed = (logits * torch.randn(logits.shape)).sum()
        found = torch.autograd.grad(weighed, [values(x) for x in features.values()], allow_unused=True)
        missing = [m for m, gradient in zip(features, found, strict=True) if gradient is None or not gradient.any()]
        if missing:
            raise BrokenPromise(
                f"{trial.name}: no gradient reaches the features of {', '.join(missing)}; "
                f"{len(found) - len(missing)} of {len(found)} modalities have one"
            )
    return f"gradients reach the features of every modality in {forms(trials)}"


def _exact(trials: Sequence[Trial]) -> str:
    several = [trial for trial in trials if len(trial.inputs) > 1]
    if not several:
        raise Skipped("takes one modality alone, which no method modulates")
    largest = Largest("under AGM", NAIVE)
    for trial in several:
        largest.add(trial.name, _modulated(trial, MultimodalModel), _modulated(trial, NaiveModel))
    return largest.detail("from full passes")


def _modulated(trial: Trial, kind: type[MultimodalModel]) -> Mapping[str, Tensor]:
    """The gradients that AGM gives for a model with this fusion."""
    fusion = _fusion(trial)
    sizes = {m: values(x).shape[1:] for m, x in trial.inputs.items()}
    seed()
    encoders: dict[str, Encoder] = {
        m: built_in("encoder", "linear")((size[0], 5), width=size[1]) if len(size) == 2 else NormedLinear((5,), hidden=size[0])
        for m, size in sizes.items()
    }
    inputs: dict[str, Input] = {m: torch.randn(BATCH, *size[:-1], 5) for m, size in sizes.items()}
    length = next(iter(sizes.values()))[:1] if fusion.per_segment else ()
    batch = Batch(inputs, torch.randint(CLASSES, (BATCH, *length)), torch.arange(BATCH))
    model = kind(encoders, fusion, task=Segments() if fusion.per_segment else None).train()
    agm = built_in("modulator", "agm")(tuple(inputs), clip=None)
    agm.begin_epoch(Context(epoch=0, epochs=1, steps_per_epoch=1, splits={}, generator=torch.Generator(), model=model))
    return take(agm, model, batch).gradients


CHECKS: Mapping[str, Callable[[Sequence[Trial]], str]] = {
    "output": _output,
    "terms": _terms,
    "heads": _heads,
    "reaches": _reaches,
    **SHARED,
    "exact": _exact,
}
