"""The summary of a report in sentences: what was run, on which data, by which protocol, and what the results show and do not show."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from agmbench.records import Record
from agmbench.report.against import Comparison, Pool, Pooled, against, best, differences, pools
from agmbench.report.columns import Column
from agmbench.report.ranking import Ranking, significant
from agmbench.report.statistics import ALPHA, smallest_p
from agmbench.report.tables import Table

NAMED = 8  # the largest number of names in an enumeration


@dataclass(frozen=True)
class Summary:
    """The facts by name, the sentences about what the statistics show (`can`), and those about what they do not show (`cannot`)."""

    facts: Sequence[tuple[str, str]]
    can: Sequence[str]
    cannot: Sequence[str]


def summary(tables: Sequence[Table], rankings: Sequence[Ranking], baseline: str) -> Summary:
    """The summary of all tables. What remains open comes from the pooled test if there is one, else from each cell."""
    can: list[str] = []
    cannot: list[str] = []
    found = pools(tables, baseline)
    for pool in found:
        for said, into in _pooled(pool, baseline):
            (can if into else cannot).append(said)
    for table in tables:
        sure, unsure = of_cell(table, baseline)
        name = f"{short(table, tables)}: " if len(tables) > 1 else ""
        can += [name + said for said in (sure if len(tables) == 1 else sure[:2])]  # the others are in the tables of the cells
        if not found or len(tables) == 1:
            cannot += [name + said for said in unsure]
    for ranking in rankings:
        if significant(ranking):
            first = next(iter(ranking.ranks))
            can.append(
                f"Over {ranking.cells} cells {first} has the best mean rank, {ranking.ranks[first]:.2f} of {len(ranking.ranks)}."
            )
        elif ranking.missing:
            cannot += [ranking.missing] if len(tables) > 1 else []  # for a single cell, nobody expects a ranking
        else:
            cannot.append(
                f"No order of the methods can be shown over {ranking.cells} cells: Friedman's test gives p = {_p(ranking.p)}."
            )
    return Summary(_facts(tables, baseline), can, [*cannot, *_by_chance(tables, baseline), *_never(tables)])


# what was run


def _facts(tables: Sequence[Table], baseline: str) -> list[tuple[str, str]]:
    records = [record for table in tables for row in table.rows for record in row.records]
    methods = list(dict.fromkeys(row.label for table in tables for row in table.rows if row.method))
    seeds = sorted({record.spec["seed"] for record in records})
    numbers = sorted({row.seeds for table in tables for row in table.rows if row.method and row.records})
    each = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}" if numbers else "0"
    common = _common(tables)
    facts = [
        ("Methods", f"{_named(methods)}; compared with {baseline}"),
        ("Data", _named(dict.fromkeys(f"{table.dataset} ({_modalities(table)})" for table in tables))),
        ("Fusion", _named(dict.fromkeys(table.fusion for table in tables))),
        ("Seeds", f"{each} per method ({_named(map(str, seeds))})" if seeds else "none"),
        *(("Protocol", said) for said in _protocols(tables)),
        ("Different from the published recipe", _named(sorted(common)) if common else ""),
        ("Run", _dates(records)),
        ("Made by", _named(_versions(records))),
        ("On", _named(sorted({record.tags["device"] for record in records if "device" in record.tags}))),
    ]
    if any(table.sample for table in tables):
        facts.insert(0, ("RANDOM SAMPLE", "the data of some runs are random numbers, so their figures mean nothing"))
    return [(name, words) for name, words in facts if words]


def _common(tables: Sequence[Table]) -> set[str]:
    """The departures from the published recipes that all tables have in common."""
    return set.intersection(*({*table.departs} for table in tables)) if tables else set()


def short(table: Table, tables: Sequence[Table]) -> str:
    """The title of a cell among other cells, without the departures that all of them have in common."""
    common = _common(tables)
    return ", ".join([table.dataset, f"fusion {table.fusion}", *(one for one in table.departs if one not in common)])


def _modalities(table: Table) -> str:
    return ", ".join(table.modalities)


def _named(words: Iterable[str]) -> str:
    """An enumeration of the words; if there are many, of the first few with the number of the others."""
    found = [*words]
    return ", ".join(found[:NAMED]) + (f" and {len(found) - NAMED} more" if len(found) > NAMED else "")


def _protocols(tables: Sequence[Table]) -> list[str]:
    said = dict.fromkeys(table.chosen for table in tables)
    cells = {one: sum(table.chosen == one for table in tables) for one in said}
    return [f"{one}{f' ({cells[one]} of {len(tables)} cells)' if len(said) > 1 else ''}." for one in said]


def _dates(records: Sequence[Record]) -> str:
    days = sorted({day(record) for record in records if record.started})
    return "" if not days else days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def day(record: Record) -> str:
    """The day on which a run began, in UTC."""
    return datetime.fromtimestamp(record.started / 1000, UTC).strftime("%Y-%m-%d") if record.started else ""


def _versions(records: Sequence[Record]) -> list[str]:
    return sorted({said for record in records if (said := made_by(record))})


def made_by(record: Record) -> str:
    """The version of agmbench that made a run, and its commit if it is known."""
    version, commit = record.tags.get("version.agmbench", ""), record.tags.get("mlflow.source.git.commit", "")[:12]
    changed = "+changes" if record.tags.get("git.changed") == "true" else ""
    return (f"agmbench {version}" if version else "") + (f", commit {commit}{changed}" if commit else "")


# what can be said of one cell


def of_cell(table: Table, baseline: str) -> tuple[list[str], list[str]]:
    """Sentences about what the seeds of one cell show about the methods against the baseline, and about what they leave open."""
    found = sorted(against(table, baseline), key=lambda each: -abs(each.difference))
    clear = [each for each in found if each.holm <= ALPHA]
    likely = [each for each in found if each not in clear and each.interval is not None and each.interval.excludes_zero]
    can = [f"{_cell(each, table.figure, baseline)}, {_tested(each.holm)}." for each in clear]
    can += [f"{_cell(each, table.figure, baseline)}; {_untested(each, len(found))}." for each in likely]
    can = _first(can, "methods with an interval that excludes zero")
    if winner := best(table):
        can.append(f"{winner} has the best mean, and passes its test against every other method.")
    undecided = [each.label for each in found if each not in clear and each not in likely]
    return can, _left_open(table, baseline, undecided)


def _left_open(table: Table, baseline: str, undecided: Sequence[str]) -> list[str]:
    """Sentences about what the seeds of one cell leave open."""
    cannot = [f"No difference from {baseline} can be shown for {_named(undecided)}."] if undecided else []
    few = {label: len(pairs) for label, pairs in differences(table, baseline).items() if len(pairs) < 2}
    if few:
        seeds = "one seed" if {*few.values()} == {1} else "fewer than two seeds"
        cannot.append(f"With {seeds} in common, nothing can be said about the difference between {_named(few)} and {baseline}.")
    rows = [row.label for row in table.rows if row.method]
    if baseline not in rows:
        cannot.append(f"There is no run of {baseline}, so no method is compared with it.")
    elif len(rows) == 1:
        cannot.append(f"{baseline} is the only method, so there is nothing to compare it with.")
    return cannot


def _cell(each: Comparison, figure: Column, baseline: str) -> str:
    signed = f"+.{figure.digits}f"
    low_high = f", 95 % interval [{each.interval.low:{signed}}, {each.interval.high:{signed}}]" if each.interval else ""
    return f"{each.label} is {_apart(each.difference, figure)} {baseline}{low_high}, n = {each.pairs}"


def _apart(difference: float, figure: Column) -> str:
    """The words for a difference from the baseline, and on which side it is: `1.20 points of Acc above`."""
    unit = "points of " if figure.unit in ("%", "points") else f"{figure.unit} of " if figure.unit else "in "
    amount = f"{abs(difference):.{figure.digits}f} {unit}{figure.title}"
    side = "above" if difference > 0 else "below"
    better = f" ({'worse' if difference > 0 else 'better'})" if figure.lower else ""
    return f"{amount} {side}{better}"


def _tested(p: float) -> str:
    return f"significant (p = {_p(p)} after Holm's correction)"


def _untested(each: Comparison, methods: int) -> str:
    cannot = min(1.0, methods * smallest_p(each.pairs)) > ALPHA
    why = f"with {each.pairs} pairs no result could" if cannot else f"p = {_p(each.holm)} after Holm's correction"
    return f"the interval excludes zero, but the exact test does not reach {ALPHA} ({why})"


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 1e-4 else f"{value:.1e}"


def _first(said: Sequence[str], what: str) -> list[str]:
    """The first few sentences, and a sentence with the number of the others."""
    more = [f"There are {len(said) - NAMED} more {what}; see the table."] if len(said) > NAMED else []
    return [*said[:NAMED], *more]


def _by_chance(tables: Sequence[Table], baseline: str) -> list[str]:
    """A warning that, of many intervals, some exclude zero without a real difference; empty if no interval excludes zero."""
    intervals = [each.interval for table in tables for each in against(table, baseline) if each.interval is not None]
    if len(intervals) < 2 or not any(one.excludes_zero for one in intervals):
        return []
    return [
        f"This report has {len(intervals)} intervals of 95 %, not corrected for their number. Even if no method differed from {baseline}, "
        "about one in twenty would exclude zero by chance."
    ]


# over cells


def _pooled(pool: Pool, baseline: str) -> list[tuple[str, bool]]:
    """One sentence per method whose pooled test is significant (with `True`), and one about all other methods (with `False`)."""
    clear = sorted((each for each in pool.methods if each.holm <= ALPHA), key=lambda each: -abs(each.difference))
    sure = _first([_over(each, pool.figure, baseline) for each in clear], f"methods that differ from {baseline} over all cells")
    said = [(words, True) for words in sure]
    rest = [each.label for each in pool.methods if each.holm > ALPHA]
    if rest:
        said.append((f"Over all cells no difference from {baseline} can be shown for {_named(rest)}.", False))
    return said


def _over(each: Pooled, figure: Column, baseline: str) -> str:
    over = f"on average over {each.cells} cell{'' if each.cells == 1 else 's'} ({each.pairs} pairs)"
    return f"{each.label} is {_apart(each.difference, figure)} {baseline} {over}, {_tested(each.holm)}."


# what these runs cannot show at all


def _never(tables: Sequence[Table]) -> list[str]:
    said = []
    if any("ON TEST" in table.chosen for table in tables):
        said.append(
            "Where the epoch is chosen on test, figures are too high: they show a run at its best epoch on test, not how good it would "
            "be on new data."
        )
    if any("limit" in table.settings for table in tables):
        said.append("Some runs used only a part of the samples (limit), so their figures are not those of the whole data set.")
    if all(row.seeds < 2 for table in tables for row in table.rows if row.method):
        said.append("With one seed per method, nothing can be said about differences: another seed may reverse them.")
    return said
