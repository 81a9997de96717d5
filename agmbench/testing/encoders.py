"""Checks of an encoder, on every kind of input that a data set may have."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from agmbench.contracts import Encoder, Input, Tokens, Unsuitable
from agmbench.errors import describe
from agmbench.modes import same_in_training
from agmbench.testing.checks import BrokenPromise, Check, Skipped, judged, takes, tried
from agmbench.testing.models import NAMES, SEED
from agmbench.testing.parts import BATCH, SHARED, Answer, Trial, copied, finite, values, with_values

Make = Callable[..., Encoder]

OWN = NAMES[0]  # the modality of the encoder
LENGTHS = torch.tensor([6, 4, 1, 0])  # lengths of the sequences of a batch; a muted or missing sequence has no token at all
HIDDEN = 50.0  # the value of hidden tokens, which should change nothing
MODES = 1e-6  # allowed difference between modes that are said to be the same, in units of the largest output
PADDED = 1e-6  # allowed difference that hidden tokens make, in units of the largest output


class Given(NamedTuple):
    """One kind of input: the shape of a sample, and a batch of samples."""

    shape: tuple[int, ...]
    batch: Input


def _given() -> dict[str, Given]:
    drawn = torch.Generator().manual_seed(SEED)

    def random(*shape: int) -> Given:
        return Given(shape, torch.randn(BATCH, *shape, generator=drawn))

    sequences, words = random(6, 5), Given((6, 1), torch.randint(2, 90, (BATCH, 6, 1), generator=drawn).float())
    there = torch.arange(6) < LENGTHS.unsqueeze(1)  # [B, T]
    tokenized = torch.stack([words.batch.squeeze(2), there.float(), torch.zeros(BATCH, 6)], dim=1)  # type: ignore[union-attr]
    return {
        "vectors": random(5),
        "images of one channel": random(1, 32, 32),
        "images of three": random(3, 32, 32),
        "sequences": sequences,
        "masked sequences": Given(sequences.shape, Tokens(values(sequences.batch), there)),
        "word numbers": Given(words.shape, Tokens(values(words.batch) * there.unsqueeze(2), there)),
        "ids, mask and segments": Given((3, 6), tokenized),
        "frames or feature maps": random(3, 3, 32, 32),
    }


def check(make: Make, params: Mapping[str, Any]) -> list[Check]:
    """Every check of an encoder, and one skipped check for each kind of input that it refuses."""
    trials: list[Trial] = []
    refused: list[Check] = []
    broken: list[str] = []
    for name, given in _given().items():
        trial = _trial(name, make, params, given)
        try:
            trial(trial.made())
            trials.append(trial)
        except (Unsuitable, ValueError) as error:
            refused.append(Check(name, "skipped", str(error)))
        except (Exception, SystemExit) as error:  # a stranger's code may raise anything
            broken.append(f"{name}, samples of shape {list(given.shape)}: {describe(error)}")
    expected, nothing = "features, or Unsuitable with the reason from `__init__`", f"none of {len(_given())} kinds of input"
    return [
        *refused,
        judged("takes", takes, trials, broken, expected, nothing),
        *(judged(name, tried, CHECKS[name], trials, "no input") for name in CHECKS),
    ]


def _trial(name: str, make: Make, params: Mapping[str, Any], given: Given) -> Trial:
    return Trial(name, lambda: make(given.shape, **params), {OWN: given.batch, **_guide(make, params, given)}, _answers)


def _guide(make: Make, params: Mapping[str, Any], given: Given) -> dict[str, Input]:
    """The input of the guiding modality, for encoders with the parameters `guide` and `guide_size`; empty for others."""
    signature = {name: parameter.default for name, parameter in inspect.signature(make).parameters.items()} | dict(params)
    if not getattr(make, "guided", False) or not {"guide", "guide_size"} <= signature.keys():
        return {}
    return {signature["guide"]: torch.randn(BATCH, given.shape[0], signature["guide_size"])}


def _answers(encoder: nn.Module, inputs: Mapping[str, Input]) -> Answer:
    """The features as a fusion sees them: of a sequence, the tokens that are not hidden, and their mean."""
    feature = _feature(encoder, inputs)
    if not isinstance(feature, Tokens):
        return {"features": feature}
    there = torch.ones_like(feature.values[..., :1]) if feature.mask is None else feature.mask.unsqueeze(2)
    return {"features": feature.values * there, "mean feature": feature.pooled()}


def _feature(encoder: nn.Module, inputs: Mapping[str, Input]) -> Tensor | Tokens:
    feature: Tensor | Tokens = encoder(inputs[OWN], inputs) if getattr(encoder, "guided", False) else encoder(inputs[OWN])
    return feature


def _output(trials: Sequence[Trial]) -> str:
    shown = []
    for trial in trials:
        encoder = trial.made()
        width = getattr(encoder, "out_features", None)
        for mode in (True, False):
            feature = _feature(encoder.train(mode), copied(trial.inputs))
            expected, found = _shapes(feature, width)
            if found != expected or not isinstance(width, int):
                raise BrokenPromise(f"{trial.name}: out_features is {width}, so features should be {expected}; found {found}")
            finite(trial.name, trial(encoder))
        shown.append(found)
    return f"finite and as wide as out_features: {', '.join(dict.fromkeys(shown))}"


def _shapes(feature: object, width: object) -> tuple[str, str]:
    if isinstance(feature, Tokens):
        found = [list(feature.values.shape), *([] if feature.mask is None else [list(feature.mask.shape)])]
        length = feature.values.shape[1] if feature.values.ndim > 1 else "T"
        expected = [[BATCH, length, width], [BATCH, length]][: len(found)]
        return f"Tokens {', mask '.join(map(str, expected))}", f"Tokens {', mask '.join(map(str, found))}"
    return f"[{BATCH}, {width}]", str(list(feature.shape)) if isinstance(feature, Tensor) else f"a {type(feature).__name__}"


def _muted(trials: Sequence[Trial]) -> str:
    for trial in trials:
        encoder = trial.made().eval()
        inputs = {m: with_values(x, torch.zeros_like(values(x))) for m, x in trial.inputs.items()}
        muted = Trial(f"{trial.name}, all zero", trial.make, inputs, trial.answers)
        trains = any(parameter.requires_grad for parameter in encoder.parameters())
        finite(muted.name, muted.backward(encoder) if trains else muted(encoder))
    return f"finite features and gradients of zero inputs, {len(trials)} kinds"


def _padding(trials: Sequence[Trial]) -> str:
    masked = [(trial, x) for trial in trials if isinstance(x := trial.inputs[OWN], Tokens) and x.mask is not None]
    if not masked:
        raise Skipped("takes no sequences with masks")
    if masked[0][0].made().sees_padding:
        raise Skipped("says that it sees what a mask hides")
    largest = 0.0
    for trial, x in masked:
        assert x.mask is not None
        other = Tokens(torch.where(x.mask.unsqueeze(2), x.values, HIDDEN), x.mask)
        encoder = trial.made()
        expected, found = (trial.evaluated(encoder, {**trial.inputs, OWN: given}) for given in (x, other))
        for name, value in expected.items():
            difference = float((found[name] - value).abs().max() / value.abs().max().clamp(min=1e-12))
            if not difference <= PADDED:
                raise BrokenPromise(
                    f"{trial.name}: {HIDDEN:.0f} in place of what the mask hides moves the {name} by {difference:.1e} of the "
                    f"largest, allowed {PADDED:.0e}"
                )
            largest = max(largest, difference)
    return f"what a mask hides moves features by {largest:.1e} at most, allowed {PADDED:.0e}: {_names(t for t, _ in masked)}"


def _same_in_training(trials: Sequence[Trial]) -> str:
    largest, same = 0.0, 0
    for trial in trials:
        encoder = trial.made()
        if not same_in_training(encoder.train()):
            continue
        same += 1
        with torch.no_grad():
            found = trial.answers(encoder, copied(trial.inputs))
        expected = trial.evaluated(encoder)
        for name, value in expected.items():
            difference = float((found[name] - value).abs().max() / value.abs().max().clamp(min=1e-12))
            if not difference <= MODES:
                raise BrokenPromise(
                    f"{trial.name}: says by `same_in_training` that train mode and eval mode are the same, yet the {name} differ by "
                    f"{difference:.1e} of the largest, allowed {MODES:.0e}"
                )
            largest = max(largest, difference)
    if not same:
        raise Skipped("makes another pass in train mode than in eval mode, as far as is known")
    return (
        f"train mode and eval mode differ by {largest:.1e} at most, allowed {MODES:.0e}, in {same} of {len(trials)} forms of it"
    )


def _names(trials: Iterable[Trial]) -> str:
    return ", ".join(trial.name for trial in trials)


CHECKS: Mapping[str, Callable[[Sequence[Trial]], str]] = {
    "output": _output,
    "muted": _muted,
    **SHARED,
    "padding": _padding,
    "same-in-training": _same_in_training,
}
