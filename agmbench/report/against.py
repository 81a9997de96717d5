"""Methods against a baseline, paired by seed: cell by cell, and over all cells together."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from agmbench.report.statistics import ALPHA, Interval, effect_size, holm, interval, pooled_intervals, sign_flip
from agmbench.report.tables import Row, Table

FIGURE = "acc"  # the column that is compared


@dataclass(frozen=True)
class Comparison:
    """One method against the baseline in one cell: the mean of its differences in points, paired by seed, and its test."""

    label: str
    pairs: int
    difference: float
    interval: Interval | None
    effect: float | None
    p: float
    holm: float


@dataclass(frozen=True)
class Pooled:
    """One method against the baseline over all cells that have both; every cell counts the same."""

    label: str
    pairs: int
    difference: float
    p: float
    holm: float
    wins: int
    ties: int
    losses: int

    @property
    def cells(self) -> int:
        return self.wins + self.ties + self.losses


def against(table: Table, baseline: str) -> list[Comparison]:
    """Every method of a cell that shares two or more seeds with the baseline; Holm over these."""
    paired = {label: found for label, found in differences(table, baseline).items() if len(found) > 1}
    ps = {label: sign_flip([found]) for label, found in paired.items()}
    adjusted = holm(ps)
    return [
        Comparison(label, len(found), mean(found), interval(found), effect_size(found), ps[label], adjusted[label])
        for label, found in paired.items()
    ]


def pool(tables: Sequence[Table], baseline: str) -> list[Pooled]:
    """Every method that has met the baseline on two or more seeds in all; Holm over these. One cell alone is not pooled.

    A cell is won or lost where the interval of its mean difference excludes zero, its spread being that within cells, over all
    cells of the method; else it is a tie.
    """
    strata: dict[str, list[list[float]]] = defaultdict(list)
    for table in tables:
        for label, found in differences(table, baseline).items():
            if found:
                strata[label].append(found)
    strata = {label: cells for label, cells in sorted(strata.items()) if sum(map(len, cells)) > 1}
    if max(map(len, strata.values()), default=0) < 2:
        return []
    ps = {label: sign_flip(cells) for label, cells in strata.items()}
    adjusted = holm(ps)
    return [_pooled(label, cells, ps[label], adjusted[label]) for label, cells in strata.items()]


def _pooled(label: str, cells: Sequence[Sequence[float]], p: float, adjusted: float) -> Pooled:
    bounds = [each for each in pooled_intervals(cells) if each is not None]
    wins, losses = sum(each.low > 0 for each in bounds), sum(each.high < 0 for each in bounds)
    difference = mean(map(mean, cells))
    return Pooled(label, sum(map(len, cells)), difference, p, adjusted, wins, len(cells) - wins - losses, losses)


def differences(table: Table, baseline: str) -> dict[str, list[float]]:
    """Of every other method, its figure less the baseline's for each seed that both have; nothing without the baseline."""
    rows = {row.label: row for row in table.rows if row.method}
    if baseline not in rows:
        return {}
    return {label: _paired(row, rows[baseline]) for label, row in rows.items() if label != baseline}


def _paired(row: Row, other: Row) -> list[float]:
    ours, theirs = row.values[FIGURE].by_seed, other.values[FIGURE].by_seed
    return [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]


def best(table: Table) -> str | None:
    """The method of the highest mean, if its paired test against each other method passes after Holm; else nobody."""
    means = {row.label: value for row in table.rows if row.method and (value := row.values[FIGURE].mean) is not None}
    if len(means) < 2:
        return None
    first = max(means, key=lambda label: means[label])
    rivals = {label: found for label, found in differences(table, first).items() if label in means}
    if not all(rivals.values()):
        return None  # a rival on other seeds
    ahead = all(mean(found) < 0 for found in rivals.values())
    adjusted = holm({label: sign_flip([found]) for label, found in rivals.items()})
    return first if ahead and max(adjusted.values()) <= ALPHA else None
