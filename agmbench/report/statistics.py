"""Statistics of a few seeds: intervals, effect sizes, exact paired tests, Holm's correction. What is undefined is `None`, never a guess."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

LEVEL = 0.95  # the level of every interval
ALPHA = 0.05  # the significance level of every test
EXACT = 2**16  # up to this number of sign patterns, all are tried; if there are more, DRAWS of them are drawn
DRAWS = 100_000
CHUNK = 4096  # how many sign patterns are held in memory at once


class Interval(NamedTuple):
    """Bounds of a 95 % t-interval of a mean."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def interval(values: Sequence[float]) -> Interval | None:
    """The t-interval of a mean; `None` for a single value or for values without spread."""
    if not _varies(values):
        return None
    return _around(float(np.mean(values)), float(np.std(values, ddof=1)) / sqrt(len(values)), len(values) - 1)


def share_interval(values: Sequence[float], whole: float = 100) -> Interval | None:
    """The t-interval of the mean of shares of `whole`, on the logit scale by the delta method, so that it stays between 0 and `whole`.

    If p is the mean of values in [0, 1] and e its standard error, the standard error of logit(p) is e / (p (1 - p)).
    """
    plain = interval(values)
    p = float(np.mean(values)) / whole if plain is not None else 0.0
    if plain is None or not 0 < p < 1:
        return plain
    reach = (plain.high - plain.low) / 2 / whole / (p * (1 - p))
    low, high = special.expit(special.logit(p) + np.array([-reach, reach]))
    return Interval(float(low) * whole, float(high) * whole)


def _varies(values: Sequence[float] | NDArray[np.floating]) -> bool:
    """Whether values differ by more than rounding."""
    return len(values) > 1 and bool(np.ptp(values) > 1e-9 * np.max(np.abs(values)))


def pooled_intervals(strata: Sequence[Sequence[float]]) -> list[Interval | None]:
    """The t-interval of the mean of each stratum, with one standard deviation for all: that within strata, pooled over all of them.

    `None` for an empty stratum, and for all strata if nothing varies within them.
    """
    filled = [np.asarray(stratum, dtype=float) for stratum in strata if len(stratum)]
    freedom = sum(len(stratum) - 1 for stratum in filled)
    squares = sum(float(((stratum - stratum.mean()) ** 2).sum()) for stratum in filled if _varies(stratum))
    if not squares:
        return [None] * len(strata)
    spread = sqrt(squares / freedom)
    return [_around(float(np.mean(each)), spread / sqrt(len(each)), freedom) if len(each) else None for each in strata]


def _around(mean: float, error: float, freedom: int) -> Interval:
    reach = float(special.stdtrit(freedom, (1 + LEVEL) / 2)) * error  # the quantile of t; scipy.stats takes a second to import
    return Interval(mean - reach, mean + reach)


def effect_size(differences: Sequence[float]) -> float | None:
    """Cohen's d_z of paired differences: their mean divided by their sample standard deviation; `None` if they do not vary."""
    if not _varies(differences):
        return None
    return float(np.mean(differences) / np.std(differences, ddof=1))


def sign_flip(strata: Sequence[Sequence[float]], seed: int = 0) -> float:
    """Two-sided p of paired differences in strata: how often flipping signs moves the mean of the strata's means at least as far from 0.

    Every stratum counts the same. Up to 2^16 sign patterns the test is exact and includes the observed signs; beyond, it takes 100,000
    seeded draws and p is `(1 + as far) / (1 + draws)`. With one stratum this is the ordinary paired permutation test of a mean.
    """
    if not any(map(len, strata)):
        raise ValueError("there are no differences to test")
    return _sign_flip(tuple(tuple(stratum) for stratum in strata if len(stratum)), seed)


@lru_cache(4096)  # the summary of a report, its tables and its export need the same tests
def _sign_flip(strata: tuple[tuple[float, ...], ...], seed: int) -> float:
    filled = [np.asarray(stratum, dtype=float) for stratum in strata]
    weighted = np.concatenate([stratum / (len(stratum) * len(filled)) for stratum in filled])  # [N]
    reached = abs(weighted.sum()) - 1e-12 * np.abs(weighted).sum()  # so that rounding does not make equal sums differ
    count = len(weighted)
    if 2**count <= EXACT:
        patterns = np.arange(2**count)[:, None] >> np.arange(count) & 1  # [2^N, N]
        return float(np.mean(np.abs(_sums(patterns, weighted)) >= reached))
    draw = np.random.default_rng(seed)
    as_far = 0
    for start in range(0, DRAWS, CHUNK):
        patterns = draw.integers(0, 2, size=(min(CHUNK, DRAWS - start), count), dtype=np.int8)
        as_far += int(np.count_nonzero(np.abs(_sums(patterns, weighted)) >= reached))
    return (1 + as_far) / (1 + DRAWS)


def _sums(patterns: NDArray[np.integer], weighted: NDArray[np.floating]) -> NDArray[np.floating]:
    """Sums `[P]` of the values `[N]`, where those with a 1 in the pattern `[P, N]` are negated."""
    sums: NDArray[np.floating] = weighted.sum() - 2 * (patterns.astype(float) @ weighted)
    return sums


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-value of each test, in the given order."""
    adjusted = dict(ps)
    highest = 0.0
    for rank, name in enumerate(sorted(ps, key=lambda name: ps[name])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[name]))
        adjusted[name] = highest
    return adjusted


def smallest_p(pairs: int) -> float:
    """The smallest p that a two-sided sign-flip test of this many pairs can give."""
    return min(1.0, 2.0 ** (1 - pairs))
