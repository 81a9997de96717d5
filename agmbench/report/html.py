"""The report as one self-contained HTML file: a summary, and for each cell its sheets, pictures and runs."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import jinja2

from agmbench.records import Record
from agmbench.report import figures, sheets
from agmbench.report.export import Origin
from agmbench.report.figures import History, Kept
from agmbench.report.findings import day, made_by, short, summary
from agmbench.report.ranking import rankings
from agmbench.report.tables import Table

TITLE = "agmbench report"


class Block(NamedTuple):
    """One element of a section. `kind` names the macro of `page.html` that writes it: sheet, part, heading, plots, shares or runs."""

    kind: str
    content: Any


@dataclass(frozen=True)
class Section:
    """One card of the page."""

    id: str
    name: str  # its name in the table of contents
    blocks: Sequence[Block]


class RunRow(NamedTuple):
    """One run in the list at the end of a cell; `link` is the address of its page in the MLflow UI, if a server holds the store."""

    method: str
    seed: int
    day: str
    by: str
    run_id: str
    link: str


def page(
    tables: Sequence[Table],
    history: History,
    baseline: str,
    title: str = TITLE,
    notes: Sequence[str] = (),
    origin: Origin | None = None,
    kept: Kept | None = None,
) -> str:
    """The whole report as HTML. `history` reads the metrics of a run, as a tracker does, and `kept` reads its outcomes; `notes` are printed
    below the title."""
    origin = origin or Origin()
    ranked = rankings(tables)
    alike = _alike(tables)
    sections = [_together(tables, baseline, ranked)]
    for place, table in enumerate(tables):
        blocks = _cell(table, history, baseline, kept)
        if table is alike[table.dataset, table.fusion][-1]:
            blocks += _blocks("plots", figures.sensitivity(alike[table.dataset, table.fusion]))
        blocks.append(Block("runs", [*_runs(table, origin.store)]))
        sections.append(Section(f"cell-{place}", short(table, tables), blocks))
    runs = sum(len(row.records) for table in tables for row in table.rows)
    sets = len({table.dataset for table in tables})
    lead = f"{_count(runs, 'finished run')} in {_count(len(tables), 'cell')} on {_count(sets, 'data set')}; baseline {baseline}"
    return _template().render(
        title=title,
        lead=lead,
        notes=notes,
        summary=summary(tables, ranked, baseline),
        sections=[section for section in sections if section.blocks],
        origin=origin.words(tables),
        style=files("agmbench.report").joinpath("page.css").read_text(encoding="utf-8"),
    )


@cache
def _template() -> jinja2.Template:
    """The template of the page. Everything that is put into it is escaped, except the markup of `charts.py`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("agmbench", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _alike(tables: Sequence[Table]) -> dict[tuple[str, str], list[Table]]:
    """The tables of each data set and fusion; they differ only in settings."""
    found: dict[tuple[str, str], list[Table]] = defaultdict(list)
    for table in tables:
        found[table.dataset, table.fusion].append(table)
    return found


def _blocks(kind: str, contents: Sequence[Any]) -> list[Block]:
    return [Block(kind, content) for content in contents]


def _together(tables: Sequence[Table], baseline: str, ranked: Sequence[Any]) -> Section:
    """The section about all cells together: the pooled comparison and the ranking, if there are any."""
    blocks = _blocks("sheet", sheets.of_all(tables, baseline))
    for ranking in ranked:
        drawn = figures.ranks(ranking)
        blocks += [Block("heading", "Ranking of methods"), *_blocks("plots", drawn)] if drawn else []
    return Section("all", "All cells", blocks)


def _cell(table: Table, history: History, baseline: str, kept: Kept | None) -> list[Block]:
    first, *rest = (sheets.filled(sheet) for sheet in sheets.of_table(table, baseline))
    by_class = figures.classes(table, baseline, kept) if kept and table.task == "classification" else []
    return [
        Block("sheet", first),
        *_blocks("plots", figures.figure(table, baseline)),
        *_blocks("part", [replace(sheet, title=_within(sheet.title, table)) for sheet in rest]),
        *_blocks("plots", figures.strength(table, baseline)),
        *_blocks("plots", figures.imbalance(table, baseline)),
        *_blocks("shares", by_class),
        *_blocks("plots", figures.over_time(table, baseline, history)),
        *_blocks("plots", figures.cost(table, baseline)),
    ]


def _within(title: str, table: Table) -> str:
    """The title of a further sheet of a cell, below the title of the cell itself."""
    words = title.removeprefix(f"{table.title}: ")
    return words[:1].upper() + words[1:]


def _runs(table: Table, store: str) -> list[RunRow]:
    return [
        RunRow(row.label, record.spec["seed"], day(record), made_by(record), record.run_id, _link(record, store))
        for row in table.rows
        for record in row.records
    ]


def _link(record: Record, store: str) -> str:
    """The address of a run in the MLflow UI if a server holds the store; else empty."""
    return f"{store.rstrip('/')}/#/runs/{record.run_id}" if store.startswith(("http://", "https://")) else ""
