"""Checks of a transform, on a sample of every kind that a data set may have."""

import pickle
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from agmbench.contracts import Input, Tokens, Transform, Unsuitable
from agmbench.errors import describe
from agmbench.testing.checks import BrokenPromise, Check, Skipped, judged, takes, tried
from agmbench.testing.models import SEED
from agmbench.testing.parts import values

Make = Callable[..., Transform]

DRAWS = 20  # how often each input is transformed; several times, because many transforms leave some samples unchanged


class Given(NamedTuple):
    """One kind of input: the shape of a sample, and two different samples, each a batch of one."""

    shape: tuple[int, ...]
    sample: Input
    other: Input


def _given(any_size: bool) -> dict[str, Given]:
    drawn = torch.Generator().manual_seed(SEED)

    def random_(*shape: int) -> Given:
        return Given(shape, *(torch.randn(1, *shape, generator=drawn) for _ in range(2)))

    def masked(given: Given, there: int) -> Given:
        mask = (torch.arange(given.shape[0]) < there).unsqueeze(0)  # [1, T]
        sample, other = (Tokens(values(x) * mask.unsqueeze(2), mask) for x in (given.sample, given.other))
        return Given(given.shape, sample, other)

    sizes = [(50, 40), (36, 64)] if any_size else [(32, 32)] * 2
    pictures = [torch.randint(256, (1, 2, 3, *size), generator=drawn).byte() for size in sizes]
    words = Given((12, 1), *(torch.randint(2, 90, (1, 12, 1), generator=drawn).float() for _ in range(2)))
    return {
        "vectors": random_(5),
        "pictures": random_(3, 32, 32),
        "frames of bytes": Given((2, 3, 32, 32), *pictures),
        "spectrograms": random_(1, 24, 40),
        "masked sequences": masked(random_(12, 5), 9),
        "sequences of one token": masked(random_(12, 5), 1),
        "sequences of no token": masked(random_(12, 5), 0),
        "word numbers": masked(words, 9),
    }


@dataclass(frozen=True)
class Trial:
    """A transform on one kind of input."""

    name: str
    made: Transform
    given: Given

    def __call__(self, number: int = 0, transform: Transform | None = None, other: bool = False) -> Any:
        """Transform a copy of the sample (or of the `other`), with a generator that is seeded by `number`."""
        x = _copy(self.given.other if other else self.given.sample)
        return (transform or self.made)(x, torch.Generator().manual_seed(SEED + number))


def check(make: Make, params: Mapping[str, Any]) -> list[Check]:
    """Run every check of a transform, and add one skipped check per kind of input that it refuses."""
    trials: list[Trial] = []
    refused: list[Check] = []
    broken: list[str] = []
    for name, given in _given(bool(getattr(make, "any_size", False))).items():
        try:
            trial = Trial(name, make(given.shape, **params), given)
            trial()
            trials.append(trial)
        except (Unsuitable, ValueError) as error:
            refused.append(Check(name, "skipped", str(error)))
        except (Exception, SystemExit) as error:  # a stranger's code may raise anything
            broken.append(f"{name}, samples of shape {list(given.shape)}: {describe(error)}")
    return [
        *refused,
        judged("takes", takes, trials, broken, "a sample, or Unsuitable with the reason", "none of the kinds of input"),
        *(judged(name, tried, CHECKS[name], trials, "no input") for name in CHECKS),
    ]


def _check_form(name: str, found: Input, given: Input, expected: Sequence[int]) -> None:
    """Raise `BrokenPromise` unless a transformed sample has the expected shape, is finite, and has the type and dtype of the original."""
    if type(found) is not type(given):
        raise BrokenPromise(f"{name}: gives a {type(found).__name__}; expected a {type(given).__name__}, as it was given")
    if list(values(found).shape) != expected or values(found).dtype != values(given).dtype:
        dtype, shape = values(found).dtype, list(values(found).shape)
        raise BrokenPromise(f"{name}: gives {dtype} {shape}; expected {values(given).dtype} {expected}")
    if isinstance(found, Tokens) and (found.mask is None or found.mask.shape != found.values.shape[:2]):
        raise BrokenPromise(f"{name}: gives no mask {expected[:2]}, as it was given")
    if not torch.isfinite(values(found)).all():
        raise BrokenPromise(f"{name}: gives numbers that are not finite")


def _output(trials: Sequence[Trial]) -> str:
    """The check that a transform gives what encoders expect: shape, dtype and mask of the data set's samples, and finite numbers."""
    moved = 0
    for trial in trials:
        x = trial.given.sample
        expected = (
            [1, *values(x).shape[1:-2], *trial.given.shape[-2:]] if values(x).dtype == torch.uint8 else list(values(x).shape)
        )
        for number in range(DRAWS):
            found = trial(number)
            _check_form(trial.name, found, x, expected)
            moved += not _same(found, x)
    return f"shape, dtype and mask of what it was given; {moved} of {DRAWS * len(trials)} samples are changed"


def _check_tokens(name: str, found: Any, there: Tensor) -> None:
    if (found.mask & ~there).any():
        raise BrokenPromise(f"{name}: makes tokens where there were none")
    if there.any() and not found.mask.any():
        raise BrokenPromise(f"{name}: leaves no token; expected one at least")
    if (found.values * ~found.mask.unsqueeze(2)).any():
        raise BrokenPromise(f"{name}: what the mask hides is not zero any more")


def _tokens(trials: Sequence[Trial]) -> str:
    """The check that no token is added, that hidden places stay zero, and that at least one token stays if there was one."""
    masked = [trial for trial in trials if isinstance(trial.given.sample, Tokens)]
    if not masked:
        raise Skipped("takes no sequences")
    for trial in masked:
        there = trial.given.sample.mask  # type: ignore[union-attr]
        assert there is not None
        for number in range(DRAWS):
            _check_tokens(trial.name, trial(number), there)
    return f"tokens stay tokens, one at least, in {', '.join(trial.name for trial in masked)}"


def _draws(trials: Sequence[Trial]) -> str:
    """The check that a transform draws only from the generator that it is given: the sample depends on nothing else that is random, and the
    generators of torch, numpy and Python are not advanced."""
    for trial in trials:
        for number in range(DRAWS):
            with _seeds(1) as before:
                one = trial(number)
                if _states() != before:
                    raise BrokenPromise(f"{trial.name}: draws from a generator other than its own; expected its own alone")
            with _seeds(2):
                if not _same(one, trial(number)):
                    raise BrokenPromise(f"{trial.name}: the same draws give two samples; expected the same bit by bit")
    return f"the same sample for the same generator, and no other is drawn from, {DRAWS} draws in {_kinds(trials)}"


class _seeds:
    """Inside the `with` block, the generators of torch, numpy and Python are seeded by this number; afterwards they are as before."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __enter__(self) -> list[bytes]:
        self.before = torch.get_rng_state(), np.random.get_state(), random.getstate()
        torch.manual_seed(self.number)
        np.random.seed(self.number)
        random.seed(self.number)
        return _states()

    def __exit__(self, *_: object) -> None:
        torch.set_rng_state(self.before[0])
        np.random.set_state(self.before[1])
        random.setstate(self.before[2])


def _states() -> list[bytes]:
    return [torch.get_rng_state().numpy().tobytes(), pickle.dumps(np.random.get_state()), pickle.dumps(random.getstate())]


def _untouched(trials: Sequence[Trial]) -> str:
    """The check that the given sample is not changed in place."""
    for trial in trials:
        for number in range(DRAWS):
            given = _copy(trial.given.sample)
            trial.made(given, torch.Generator().manual_seed(SEED + number))
            if not _same(given, trial.given.sample):
                raise BrokenPromise(f"{trial.name}: changes its input in place; expected it untouched")
    return f"the input is not changed in place in {_kinds(trials)}"


def _alone(trials: Sequence[Trial]) -> str:
    """The check that a sample does not depend on those before it, so that it is the same in any batch and any process."""
    for trial in trials:
        for number in range(DRAWS):
            first = trial(number)
            trial(number + 1, other=True)
            if not _same(first, trial(number)):
                raise BrokenPromise(
                    f"{trial.name}: a sample depends on the one before it; expected nothing to be kept between calls"
                )
    return f"a sample does not depend on those before it in {_kinds(trials)}"


def _travels(trials: Sequence[Trial]) -> str:
    """The check that a transform can be pickled and then does the same, because it is sent to the processes that read ahead."""
    for trial in trials:
        try:
            there = pickle.loads(pickle.dumps(trial.made))
        except Exception as error:
            raise BrokenPromise(f"{trial.name}: cannot be sent to the processes that read ahead ({describe(error)})") from error
        if not _same(trial(), trial(transform=there)):
            raise BrokenPromise(f"{trial.name}: sent to another process, the same draws give another sample")
    return f"pickled and unpickled, it does the same in {_kinds(trials)}"


def _kinds(trials: Sequence[Trial]) -> str:
    return f"{len(trials)} kinds of input" if len(trials) > 1 else "one kind of input"


def _copy(x: Input) -> Input:
    if isinstance(x, Tokens):
        return Tokens(x.values.clone(), None if x.mask is None else x.mask.clone())
    return x.clone()


def _tensors(x: Input) -> Iterator[Tensor]:
    yield from x.tensors() if isinstance(x, Tokens) else (x,)


def _same(one: Input, two: Input) -> bool:
    return all(torch.equal(a, b) for a, b in zip(_tensors(one), _tensors(two), strict=True))


CHECKS: Mapping[str, Callable[[Sequence[Trial]], str]] = {
    "output": _output,
    "tokens": _tokens,
    "draws": _draws,
    "untouched": _untouched,
    "alone": _alone,
    "travels": _travels,
}
