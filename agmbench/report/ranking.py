"""Ranks methods over cells, with Friedman's test and Nemenyi's critical difference (Demšar, JMLR 7, 2006)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt

import numpy as np
from scipy import stats

from agmbench.report.against import alike
from agmbench.report.columns import Column
from agmbench.report.statistics import ALPHA, LEVEL
from agmbench.report.tables import Table

CELLS, METHODS = 5, 3  # the smallest numbers of cells and methods for a test of ranks


@dataclass(frozen=True)
class Ranking:
    """The methods that several cells have in common, by their mean rank; or, as `missing`, the reason why there are too few for a test.

    ranks: the best first; equal means share the mean of their ranks.   p: that of Friedman's test in the F form of Iman and Davenport.
    difference: how far apart two mean ranks must be to differ, by Nemenyi's test at 0.05.   groups: the ranges of ranks, from the best to
    the worst method, within which no two methods differ by more than that.   left_out: the methods, and the titles of the cells, that the
    ranking leaves out.
    """

    figure: Column
    chosen: str
    cells: int
    ranks: Mapping[str, float]
    left_out: Sequence[str] = ()
    p: float = 1.0
    difference: float = 0.0
    groups: Sequence[tuple[float, float]] = ()
    missing: str = ""


def rankings(tables: Sequence[Table]) -> list[Ranking]:
    """One ranking for each figure and way of choosing epochs; none if neither a higher nor a lower figure is better."""
    return [ranking(cells) for cells in alike(tables) if cells[0].figure.better != "neither"]


def _missing(cells: int) -> str:
    """The sentence that says why this number of cells has no ranking."""
    return (
        f"There is no ranking with a critical-difference diagram. It needs at least {METHODS} methods that at least {CELLS} cells "
        f"(data set, fusion, settings) have in common; there {'are' if cells > 1 else 'is'} {cells}."
    )


def ranking(tables: Sequence[Table]) -> Ranking:
    """The ranking over tables with the same figure, by the mean over the seeds in each table. It has as many methods as at least five cells
    have in common."""
    key, sign = tables[0].figure.key, 1 if tables[0].figure.lower else -1
    means = {
        table.title: {row.label: sign * mean for row in table.rows if row.method and (mean := row.values[key].mean) is not None}
        for table in tables
    }
    methods, cells = _block(means)
    given = tables[0].figure, tables[0].chosen, len(cells)
    if not methods:
        return Ranking(*given, {}, missing=_missing(len(tables)))
    values = np.array([[means[cell][label] for label in methods] for cell in cells])  # [cells, methods], lower is better
    mean_ranks = stats.rankdata(values, axis=1).mean(axis=0)
    ranks = dict(sorted(zip(methods, mean_ranks.tolist(), strict=True), key=lambda pair: pair[1]))
    difference = critical_difference(len(methods), len(cells))
    others = sorted({label for found in means.values() for label in found} - {*methods}), [c for c in means if c not in cells]
    return Ranking(*given, ranks, [*others[0], *others[1]], friedman(values), difference, groups([*ranks.values()], difference))


def _block(means: Mapping[str, Mapping[str, float]]) -> tuple[list[str], list[str]]:
    """The methods that enough cells have in common, and all cells that have them; both empty if there are too few. The rarest methods are
    left out first."""
    count = Counter(label for found in means.values() for label in found)
    methods = sorted(count, key=lambda label: (-count[label], label))
    while len(methods) >= METHODS:
        cells = [cell for cell, found in means.items() if {*methods} <= found.keys()]
        if len(cells) >= CELLS:
            return methods, cells
        methods.pop()
    return [], []


def friedman(values: np.ndarray) -> float:
    """The p-value of Friedman's test of values `[cells, methods]`, in the F form of Iman and Davenport; 1 if all values are equal in each
    cell."""
    cells, methods = values.shape
    chi2 = float(stats.friedmanchisquare(*values.T).statistic) if np.ptp(values, axis=1).any() else 0.0
    room = cells * (methods - 1) - chi2
    if room <= 1e-9:  # the same order in every cell
        return 0.0
    f = (cells - 1) * chi2 / room
    return float(stats.f.sf(f, methods - 1, (methods - 1) * (cells - 1))) if isfinite(f) else 1.0


def critical_difference(methods: int, cells: int) -> float:
    """Nemenyi's critical difference of k methods over N cells: q sqrt(k (k + 1) / (6 N)), where q is the quantile of the studentized range
    divided by sqrt(2)."""
    q = float(stats.studentized_range.ppf(LEVEL, methods, np.inf)) / sqrt(2)
    return q * sqrt(methods * (methods + 1) / (6 * cells))


def groups(ranks: Sequence[float], difference: float) -> list[tuple[float, float]]:
    """The longest ranges of sorted ranks, with two or more methods each, that are not longer than the difference."""
    found: list[tuple[int, int]] = []
    for first, low in enumerate(ranks):
        last = max(place for place, rank in enumerate(ranks) if rank - low <= difference)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return [(ranks[first], ranks[last]) for first, last in found]


def significant(ranking: Ranking) -> bool:
    """Whether Friedman's test finds any difference between the methods."""
    return not ranking.missing and ranking.p <= ALPHA
