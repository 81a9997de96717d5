"""The content of a report as sheets of text. Every output format (terminal, Markdown, LaTeX, HTML) writes these."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from agmbench.report.against import Comparison, Pool, against, best, differences, pools
from agmbench.report.columns import ALONE, COALITIONS, COST, RESULTS, Column
from agmbench.report.published import SOURCE, Published
from agmbench.report.statistics import ALPHA, Interval, smallest_p
from agmbench.report.tables import Row, Table, Value

INTERVAL = "95 % interval"
NOTHING = "–"  # the beginning of a cell without a number
REFERENCE = re.compile(r"\[\d+\]")  # in such a cell, the reference to a note
CAPTIONS = {
    COALITIONS: "The model trained with all modalities, on test; the modalities that are not named are muted (treated as absent).",
    COST: "Encoder passes are per sample (joint training of M modalities needs M), GFLOP per training step. Samples/s and peak memory "
    "were measured during training, on the machines of these runs.",
}
BOLD = f"Bold: the best mean, if its paired test against every other method of the table passes at {ALPHA} after Holm's correction."

WON = (
    "A cell counts as a win or a loss if the 95 % t-interval of its mean difference excludes zero, with a standard deviation pooled "
    "over all cells of the method; otherwise it is a tie. "
)


@dataclass(frozen=True)
class Sheet:
    """A table of texts. The first column has the names of the rows, the others are aligned right. `bold` lists the cells of the body,
    as (row, column), that are set in bold."""

    title: str
    header: Sequence[str]
    body: Sequence[Sequence[str]]
    caption: str = ""
    notes: Sequence[str] = ()
    bold: frozenset[tuple[int, int]] = field(default_factory=frozenset)


def of_table(table: Table, baseline: str) -> list[Sheet]:
    """All sheets of a cell: the results, the comparison with the baseline, and the parts and published figures that were asked for."""
    parts = {part: list(columns) for part, columns in groupby(table.columns, key=lambda column: column.part)}
    printed = table.published
    notes = [f"{SOURCE}, has no figures of {table.dataset} under fusion {table.fusion}"] if printed == [] else []
    first = _results(table, parts.pop(RESULTS), notes)
    more = [_part(table, part, columns) for part, columns in parts.items()]
    return [first, *_against(table, baseline), *more, *([_published(table, printed)] if printed else [])]


def filled(sheet: Sheet) -> Sheet:
    """The sheet without columns that have no number at all, and with a note for each reason that names them. One column always stays."""
    empty = [x for x in range(1, len(sheet.header)) if sheet.body and all(row[x].startswith(NOTHING) for row in sheet.body)]
    shown = (row[x] for x in range(2, len(sheet.header)) if x not in empty for row in sheet.body)
    if not any(character.isdigit() for text in shown for character in text):
        empty = empty[1:]
    reasons: dict[str, list[str]] = {}
    for x in empty:
        found = REFERENCE.search(sheet.body[-1][x])
        reason = next((note for note in sheet.notes if found and note.startswith(found[0])), "")
        reasons.setdefault(reason.partition("] ")[2], []).append(sheet.header[x])
    notes = [f"No numbers for {', '.join(names)}{f': {reason}' if reason else ''}" for reason, names in reasons.items()]
    left = without(sheet, empty)
    return replace(left, notes=[*notes, *left.notes])


def without(sheet: Sheet, gone: Collection[int]) -> Sheet:
    """The sheet without the columns in `gone`, and without the notes to which nothing refers any more."""
    kept = [x for x in range(len(sheet.header)) if x not in gone]
    body = [[row[x] for x in kept] for row in sheet.body]
    bold = frozenset((y, kept.index(x)) for y, x in sheet.bold if x in kept)
    used = {found for row in body for text in row for found in REFERENCE.findall(text)}
    notes = [note for note in sheet.notes if not (number := REFERENCE.match(note)) or number[0] in used]
    return replace(sheet, header=[sheet.header[x] for x in kept], body=body, bold=bold, notes=notes)


def of_all(tables: Sequence[Table], baseline: str) -> list[Sheet]:
    """One sheet over all cells, for each figure and way of choosing epochs that two or more cells have in common."""
    return [_pooled(each, baseline) for each in pools(tables, baseline)]


def _pooled(pool: Pool, baseline: str) -> Sheet:
    figure = pool.figure
    counted = figure.better != "neither"
    header = ["method", "cells", "pairs", f"{figure.title} - {baseline}", "p", "p (Holm)"]
    header += ["wins/ties/losses"] if counted else []
    body = [
        [
            *(each.label, str(each.cells), str(each.pairs), _difference(figure, each.difference), _p(each.p), _p(each.holm)),
            *([f"{each.wins}/{each.ties}/{each.losses}"] if counted else []),
        ]
        for each in pool.methods
    ]
    caption = (
        f"Differences{_in(figure)}, paired by seed within cells (data set, fusion, settings); every cell counts the same. "
        "p: two-sided sign-flip test stratified by cell, exact up to 16 pairs, from 100,000 seeded draws beyond. "
        "p (Holm): corrected for the number of methods. "
        f"{WON if counted else ''}{pool.chosen}."
    )
    return Sheet(f"all cells: against {baseline}", header, body, caption)


def _difference(figure: Column, value: float) -> str:
    return f"{value:+.{figure.digits}f}"


def _in(figure: Column) -> str:
    points = figure.unit in ("%", "points")
    unit = " in points" if points else f" of {figure.title}{f', {figure.unit}' if figure.unit else ''}"
    return f"{unit}{' (lower is better)' if figure.lower else ''}"


def explained(table: Table) -> str:
    """A text that explains each number of a table (its meaning, unit and direction), and on which split the epoch was chosen."""
    texts = []
    for column in table.columns:
        if column.part == RESULTS:
            unit = f", {column.unit}" if column.unit else ""
            alone = "; in the row concept, that of the unimodal model of m" if column.quantity in ALONE else ""
            direction = ", lower is better" if column.lower else ""
            texts.append(f"{column.symbol}: {column.meaning} on test{unit}{direction}{alone}.")
    return f"Mean ± sample standard deviation over n seeds. {' '.join(dict.fromkeys(texts))} {table.chosen}."


def _results(table: Table, columns: Sequence[Column], notes: Sequence[str]) -> Sheet:
    figure = table.figure
    intervals = any(row.values[figure.key].interval for row in table.rows)
    texts = _Texts()
    header = ["method", "n", columns[0].title, *([INTERVAL] if intervals else []), *(c.title for c in columns[1:])]
    body = []
    for row in table.rows:
        first, *rest = (texts.value(column, row.values[column.key]) for column in columns)
        between = [_interval(row.values[figure.key].interval, figure.digits)] if intervals else []
        body.append([row.label, str(row.seeds), first, *between, *rest])
    winner = best(table)
    bold = frozenset((place, 2) for place, row in enumerate(table.rows) if row.method and row.label == winner)
    tested = intervals and sum(row.method for row in table.rows) > 1
    caption = f"{explained(table)} {BOLD}" if tested else explained(table)
    return Sheet(table.title, header, body, caption, [*texts.notes, *table.notes, *notes], bold)


def _part(table: Table, part: str, columns: Sequence[Column]) -> Sheet:
    texts = _Texts()
    rows = [row for row in table.rows if row.method]
    body = [[row.label, str(row.seeds), *(texts.value(c, row.values[c.key]) for c in columns)] for row in rows]
    return Sheet(
        f"{table.title}: {part}", ["method", "n", *(column.title for column in columns)], body, CAPTIONS[part], texts.notes
    )


class _Texts:
    """Turns values into text. A missing value becomes a dash with the number of the note that has the reason."""

    def __init__(self) -> None:
        self._reasons: dict[str, int] = {}

    @property
    def notes(self) -> list[str]:
        return [f"[{number}] {reason}" for reason, number in self._reasons.items()]

    def value(self, column: Column, value: Value) -> str:
        if value.mean is None:
            return f"– [{self._reasons.setdefault(value.reason, len(self._reasons) + 1)}]"
        shown = f"{value.mean:.{column.digits}f}"
        return shown if value.std is None else f"{shown} ± {value.std:.{column.digits}f}"


def _against(table: Table, baseline: str) -> list[Sheet]:
    found = against(table, baseline)
    if not found:
        return []
    header = ["method", "pairs", f"{table.figure.title} - {baseline}", INTERVAL, "d_z", "p", "p (Holm)"]
    body = [_compared(each, table.figure) for each in found]
    few = {label: len(pairs) for label, pairs in differences(table, baseline).items() if len(pairs) < 2}
    notes = [
        f"{label}: not compared, {'only one seed' if pairs else 'no seed'} in common with {baseline}"
        for label, pairs in few.items()
    ]
    if equal := [each.label for each in found if each.effect is None]:
        notes.append(f"{', '.join(equal)}: the difference is the same for every seed, so it has no interval and no d_z")
    caption = _tests(_in(table.figure), max(each.pairs for each in found), len(found))
    return [Sheet(f"{table.title}: against {baseline}", header, body, caption, notes)]


def _tests(unit: str, most: int, methods: int) -> str:
    """A text that explains the differences of this number of methods, their unit, and what their tests can show with `most` pairs."""
    least = min(1.0, methods * smallest_p(most))
    return (
        f"Differences{unit}, paired by seed. d_z: their mean divided by their sample standard deviation. "
        "p: two-sided sign-flip test, exact up to 16 pairs. p (Holm): corrected for the number of methods in the table. "
        f"The smallest p that {most} pairs can give is {_p(smallest_p(most))}, and {_p(least)} after Holm's correction"
        f"{f', so no method can be significant at {ALPHA} in this table' if least > ALPHA else ''}."
    )


def _compared(each: Comparison, figure: Column) -> list[str]:
    effect = "–" if each.effect is None else f"{each.effect:+.2f}"
    interval = _interval(each.interval, figure.digits, "+")
    return [each.label, str(each.pairs), _difference(figure, each.difference), interval, effect, _p(each.p), _p(each.holm)]


def _interval(bounds: Interval | None, digits: int, sign: str = "") -> str:
    return "–" if bounds is None else f"[{bounds.low:{sign}.{digits}f}, {bounds.high:{sign}.{digits}f}]"


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 1e-4 else f"{value:.1e}"


def _published(table: Table, found: Sequence[Published]) -> Sheet:
    """Each published row, followed by our row of the same method."""
    columns = [column for column in table.columns if column.part == RESULTS]
    ours = {row.label: row for row in table.rows}
    body = []
    for method, rows in groupby(sorted(found, key=lambda each: each.method), key=lambda each: each.method):
        body += [_printed(each, columns) for each in rows]
        body.append(_ours(method, ours.get(method), columns))
    caption = f"{SOURCE}: each published figure comes from one run, whose settings may differ from ours."
    header = ["method", "source", *(column.title for column in columns)]
    return Sheet(f"{table.title}: published and ours", header, body, caption)


def _printed(each: Published, columns: Sequence[Column]) -> list[str]:
    figures = (each.figures.get(column.key) for column in columns)
    texts = ["–" if figure is None else f"{figure:.{c.digits}f}" for figure, c in zip(figures, columns, strict=True)]
    return [each.method, each.source, *texts]


def _ours(method: str, row: Row | None, columns: Sequence[Column]) -> list[str]:
    if row is None:
        return [method, "ours: no run", *("–" for _ in columns)]
    texts = [_Texts().value(c, value).split(" [")[0] for c in columns for value in [row.values[c.key]]]
    return [method, f"ours, n = {row.seeds}", *texts]
