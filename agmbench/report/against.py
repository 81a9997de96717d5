"""Compare methods with a baseline, paired by seed: in each cell, and over all cells together."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from agmbench.report.columns import Column
from agmbench.report.statistics import ALPHA, Interval, effect_size, holm, interval, pooled_intervals, sign_flip
from agmbench.report.tables import Row, Table


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
    """One method against the baseline over all cells that have both; every cell counts the same.

    Wins, ties and losses are `None` if neither higher nor lower values of the figure are better.
    """

    label: str
    cells: int
    pairs: int
    difference: float
    p: float
    holm: float
    wins: int | None
    ties: int | None
    losses: int | None


@dataclass(frozen=True)
class Pool:
    """The joint result of all cells with one figure whose epochs are `chosen` in the same way."""

    figure: Column
    chosen: str
    methods: Sequence[Pooled]


def against(table: Table, baseline: str) -> list[Comparison]:
    """Every method of a cell that shares two or more seeds with the baseline; Holm's correction is over these."""
    paired = {label: found for label, found in differences(table, baseline).items() if len(found) > 1}
    ps = {label: sign_flip([found]) for label, found in paired.items()}
    adjusted = holm(ps)
    return [
        Comparison(label, len(found), mean(found), interval(found), effect_size(found), ps[label], adjusted[label])
        for label, found in paired.items()
    ]


def pools(tables: Sequence[Table], baseline: str) -> list[Pool]:
    """Pool the tables that have the same figure and choose epochs in the same way; empty if there is nothing to pool."""
    found = [Pool(some[0].figure, some[0].chosen, pool(some, baseline)) for some in alike(tables)]
    return [each for each in found if each.methods]


def alike(tables: Sequence[Table]) -> list[list[Table]]:
    """The tables in groups that have the same figure and choose epochs in the same way.

    Models that appear in two tables, because they are compared with other unimodal models in the second, count once.
    """
    found: dict[tuple[str, ...], list[Table]] = defaultdict(list)
    seen: set[str] = set()
    for table in tables:
        trained = {record.training for row in table.rows for record in row.records if record.training}
        if trained and trained <= seen:
            continue
        seen |= trained
        figure = table.figure
        found[figure.key, figure.unit, figure.better, table.chosen].append(table)
    return [*found.values()]


def pool(tables: Sequence[Table], baseline: str) -> list[Pooled]:
    """Pool every method that shares two or more seeds with the baseline in total; Holm's correction is over these. The tables must have the
    same figure. A single cell is not pooled.

    A cell is a win or a loss if the interval of its mean difference excludes zero, with the standard deviation within cells, pooled
    over all cells of the method; otherwise it is a tie.
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
    better = tables[0].figure.better
    return [_pooled(label, cells, ps[label], adjusted[label], better) for label, cells in strata.items()]


def _pooled(label: str, cells: Sequence[Sequence[float]], p: float, adjusted: float, better: str) -> Pooled:
    known = label, len(cells), sum(map(len, cells)), mean(map(mean, cells)), p, adjusted
    if better == "neither":
        return Pooled(*known, None, None, None)
    bounds = [each for each in pooled_intervals(cells) if each is not None]
    above, below = sum(each.low > 0 for each in bounds), sum(each.high < 0 for each in bounds)
    wins, losses = (below, above) if better == "lower" else (above, below)
    return Pooled(*known, wins, len(cells) - wins - losses, losses)


def differences(table: Table, baseline: str) -> dict[str, list[float]]:
    """For every other method: its figure minus the baseline's, for each seed that both have. Empty without the baseline.

    A run from a folder of results is compared with the baseline of the same folder, if there is one.
    """
    rows = {row.label: row for row in table.rows if row.method}
    of = {label: rows.get(f"{baseline} ({row.source})", rows.get(baseline)) for label, row in rows.items()}
    key = table.figure.key
    return {label: _paired(rows[label], other, key) for label, other in of.items() if other and label != other.label}


def _paired(row: Row, other: Row, key: str) -> list[float]:
    ours, theirs = row.values[key].by_seed, other.values[key].by_seed
    return [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]


def best(table: Table) -> str | None:
    """The method with the best mean, if its paired test against every other method passes after Holm's correction; else `None`."""
    key, sign = table.figure.key, -1 if table.figure.lower else 1
    means = {row.label: sign * value for row in table.rows if row.method and (value := row.values[key].mean) is not None}
    if len(means) < 2 or table.figure.better == "neither":
        return None
    first = max(means, key=lambda label: means[label])
    rivals = {label: found for label, found in differences(table, first).items() if label in means}
    if not all(rivals.values()):
        return None  # a rival has no seed in common with it
    ahead = all(sign * mean(found) < 0 for found in rivals.values())
    adjusted = holm({label: sign_flip([found]) for label, found in rivals.items()})
    return first if ahead and max(adjusted.values()) <= ALPHA else None
