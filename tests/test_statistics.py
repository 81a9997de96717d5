"""Statistics of a few seeds, against values worked out by hand, against scipy, and against what must hold for all numbers."""

from collections.abc import Sequence
from math import exp, sqrt

import numpy as np
import pytest
from scipy import stats

from agmbench.report.statistics import effect_size, holm, interval, pooled_intervals, share_interval, sign_flip, smallest_p

FIVE = (1.0, 2.0, 3.0, 4.0, 5.0)


def some(count: int, seed: int = 0, shift: float = 0.5) -> list[float]:
    return (np.random.default_rng(seed).standard_normal(count) + shift).tolist()


# intervals and effect sizes


def test_an_interval_by_hand() -> None:
    found = interval(FIVE)  # mean 3, deviation sqrt(2.5), t(4) = 2.776445
    assert found == pytest.approx((3 - 2.776445 * sqrt(2.5 / 5), 3 + 2.776445 * sqrt(2.5 / 5)), abs=1e-5)


def test_an_interval_is_that_of_scipy() -> None:
    values = some(7)
    assert interval(values) == pytest.approx(stats.t.interval(0.95, 6, np.mean(values), stats.sem(values)))


def test_an_interval_of_shares_stays_between_0_and_100() -> None:
    found = share_interval([50.0, 52.0, 54.0])
    plain = interval([50.0, 52.0, 54.0])
    assert found is not None
    assert plain is not None
    assert found == pytest.approx(plain, abs=0.05)  # nearly the same for accuracies in the middle
    reach = (plain.high - plain.low) / 200 / (0.52 * 0.48)
    assert found.high == pytest.approx(100 / (1 + (0.48 / 0.52) * exp(-reach)))
    edge = share_interval([98.0, 99.0, 100.0])
    assert edge is not None
    assert 80 < edge.low < 99 < edge.high < 100
    assert interval([98.0, 99.0, 100.0]).high > 100  # type: ignore[union-attr]
    assert share_interval([100.0, 100.0]) is None


@pytest.mark.parametrize("values", [(), (1.0,), (0.3, 0.3, 0.3), (50.1 - 50, 60.1 - 60)])
def test_without_spread_there_is_neither_interval_nor_effect_size(values: Sequence[float]) -> None:
    assert interval(values) is None
    assert effect_size(values) is None


def test_an_effect_size_by_hand() -> None:
    assert effect_size(FIVE) == pytest.approx(3 / sqrt(2.5))
    assert effect_size([-value for value in FIVE]) == pytest.approx(-3 / sqrt(2.5))


def test_pooled_intervals_by_hand() -> None:
    # sums of squares 2 and 8 with 2 + 2 degrees of freedom give a common variance of 2.5; t(4) = 2.776445
    first, empty, second = pooled_intervals([(1, 2, 3), (), (10, 12, 14)])
    reach = 2.776445 * sqrt(2.5 / 3)
    assert first == pytest.approx((2 - reach, 2 + reach), abs=1e-5)
    assert second == pytest.approx((12 - reach, 12 + reach), abs=1e-5)
    assert empty is None
    assert first is not None
    assert not first.excludes_zero
    assert second is not None
    assert second.excludes_zero


def test_one_stratum_has_the_ordinary_interval() -> None:
    assert pooled_intervals([FIVE]) == [interval(FIVE)]


def test_a_stratum_of_one_seed_borrows_the_spread_of_the_others() -> None:
    alone, _ = pooled_intervals([(7,), FIVE])
    assert alone == pytest.approx((7 - 2.776445 * sqrt(2.5), 7 + 2.776445 * sqrt(2.5)), abs=1e-5)


def test_nothing_varies_within_strata() -> None:
    assert pooled_intervals([(1,), (2, 2)]) == [None, None]
    assert pooled_intervals([(0.1, 0.1, 0.1)]) == [None]
    assert pooled_intervals([]) == []


# the test


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        (FIVE, 2 / 32),  # only two patterns: no sign flipped, or all
        ((1.0, 1.0, -1.0), 1.0),  # the sum is 1 or more in every pattern of three ones
        ((3.0, 1.0, -1.0), 6 / 8),  # sums of the 8 patterns: 3 5 1 3, and their negatives; observed 3
        ((1.0,), 1.0),
        ((0.0, 0.0), 1.0),
    ],
)
def test_sign_flips_by_hand(differences: Sequence[float], expected: float) -> None:
    assert sign_flip([differences]) == pytest.approx(expected)


@pytest.mark.parametrize("count", [2, 5, 9])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sign_flips_are_those_of_scipy(count: int, seed: int) -> None:
    differences = np.array(some(count, seed))
    theirs = stats.permutation_test(
        (differences, np.zeros(count)),
        lambda x, y: np.mean(x - y),
        permutation_type="samples",
        n_resamples=np.inf,
        alternative="two-sided",
    )
    assert sign_flip([differences]) == pytest.approx(theirs.pvalue)


def test_sign_flips_in_strata_by_hand() -> None:
    # means 2 and -1 of the strata: patterns give |±(3±1)/4 ± .5|; observed .5; 1.5 .5 .. all 8: 1.5 .5 1 0 and their negatives
    assert sign_flip([(3.0, 1.0), (-1.0,)]) == pytest.approx(6 / 8)


def test_every_stratum_counts_the_same() -> None:
    # eight small losses and one large gain: if pairs counted the same, the losses would win
    strata = [[-1.0] * 8, [3.0]]
    assert sign_flip(strata) != pytest.approx(sign_flip([[*strata[0], *strata[1]]]))
    assert sign_flip([[5.0, 4.0]] * 3) == pytest.approx(2 / 64)


def test_five_seeds_never_reach_five_percent_and_six_do() -> None:
    assert sign_flip([[100.0 + seed for seed in range(5)]]) == smallest_p(5) == 0.0625
    assert sign_flip([[100.0 + seed for seed in range(6)]]) == smallest_p(6) == 0.03125
    assert smallest_p(0) == smallest_p(1) == 1


@pytest.mark.parametrize("strata", [[some(6)], [some(4, 1), some(3, 2)]])
def test_a_sign_flip_test_is_symmetric_and_blind_to_order_and_scale(strata: list[list[float]]) -> None:
    p = sign_flip(strata)
    assert sign_flip([[-value for value in each] for each in strata]) == p
    assert sign_flip([each[::-1] for each in reversed(strata)]) == p
    assert sign_flip([[100 * value for value in each] for each in strata]) == p


def test_more_than_sixteen_pairs_are_drawn_and_agree_with_the_normal_limit() -> None:
    differences = some(40, shift=0.3)
    p = sign_flip([differences])
    assert p == sign_flip([differences])
    scale = abs(sum(differences)) / sqrt(sum(value**2 for value in differences))
    assert p == pytest.approx(2 * stats.norm.sf(scale), abs=0.01)
    assert sign_flip([[1.0] * 40]) == pytest.approx(1 / 100_001)


def test_draws_agree_with_the_exact_test(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = some(10)
    exact = sign_flip([differences])
    monkeypatch.setattr("agmbench.report.statistics.EXACT", 1)
    assert sign_flip([differences]) == pytest.approx(exact, abs=0.005)


def test_no_differences_are_no_test() -> None:
    for strata in ([], [(), ()]):
        with pytest.raises(ValueError, match="no differences"):
            sign_flip(strata)


def test_under_no_effect_small_p_are_as_rare_as_they_say() -> None:
    ps = [sign_flip([some(6, seed, shift=0)]) for seed in range(400)]
    assert np.mean([p <= 0.05 for p in ps]) < 0.06


# Holm


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.5, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({"a": 0.2}) == {"a": 0.2}
    assert holm({}) == {}


def test_holm_never_lowers_a_p_and_keeps_their_order() -> None:
    ps = {str(place): p for place, p in enumerate(np.random.default_rng(0).uniform(size=20).tolist())}
    adjusted = holm(ps)
    assert list(adjusted) == list(ps)
    assert all(adjusted[name] >= p for name, p in ps.items())
    ordered = [adjusted[name] for name in sorted(ps, key=lambda name: ps[name])]
    assert ordered == sorted(ordered)
