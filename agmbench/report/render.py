"""Writes tables as text: Markdown, LaTeX (booktabs), CSV and JSON."""

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agmbench.errors import AgmbenchError
from agmbench.records import Record
from agmbench.report import sheets
from agmbench.report.against import Pool, Pooled, against, pools
from agmbench.report.escapes import markdown, one_line
from agmbench.report.export import Origin, run_ids
from agmbench.report.sheets import Sheet
from agmbench.report.tables import BASELINE, Row, Table, Value
from agmbench.whole import whole


def markdown_of(sheets: Iterable[Sheet]) -> str:
    """Sheets as Markdown."""
    return "\n\n".join(map(_markdown, sheets))


def render(tables: Sequence[Table], form: str, baseline: str = BASELINE, origin: Origin | None = None) -> str:
    """The tables in one of the file formats, with their origin."""
    origin = origin or Origin()
    if form == "json":
        return json.dumps(_json(tables, baseline, origin), indent=2, allow_nan=False)
    if form == "csv":
        return _csv(tables, baseline, origin)
    write = _markdown if form == "markdown" else _latex
    said = origin.words(tables)
    last = said if form == "markdown" else f"% {said}"
    return "\n\n".join([*map(write, _sheets(tables, baseline)), last])


def save(text: str, path: Path) -> None:
    """Write a report to a file, completely or not at all."""
    try:
        with whole(path) as fresh:
            fresh.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AgmbenchError(f"{path} cannot be written ({error.strerror}); name another file with --output") from error


def _sheets(tables: Sequence[Table], baseline: str) -> list[Sheet]:
    return [
        *(sheet for table in tables for sheet in sheets.of_table(table, baseline)),
        *sheets.of_all(tables, baseline),
    ]


def _marked(sheet: Sheet, bold: str, escape: Any) -> list[list[str]]:
    """The body, escaped, with bold cells formatted by `bold`."""
    return [
        [bold.format(escape(text)) if (y, x) in sheet.bold else escape(text) for x, text in enumerate(row)]
        for y, row in enumerate(sheet.body)
    ]


def _markdown(sheet: Sheet) -> str:
    body = _marked(sheet, "**{}**", markdown)
    lines = [
        f"**{markdown(sheet.title)}**",
        "",
        f"| {' | '.join(map(markdown, sheet.header))} |",
        f"|---|{'---:|' * (len(sheet.header) - 1)}",
        *(f"| {' | '.join(row)} |" for row in body),
    ]
    for text in (sheet.caption, *sheet.notes):
        lines += ["", markdown(text)] if text else []
    return "\n".join(lines)


def _latex(sheet: Sheet) -> str:
    caption = f"{sheet.title}. {sheet.caption} {' '.join(sheet.notes)}".strip()
    lines = [
        "\\begin{table}",
        f"\\caption{{{_escaped(caption)}}}",
        f"\\begin{{tabular}}{{l{'r' * (len(sheet.header) - 1)}}}",
        "\\toprule",
        " & ".join(map(_escaped, sheet.header)) + " \\\\",
        "\\midrule",
        *(" & ".join(row) + " \\\\" for row in _marked(sheet, "\\textbf{{{}}}", _escaped)),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(piece, piece) for piece in re.split(r"([\\&%#_{}$~^±–<>|]|(?<!\w)-(?=\d))", one_line(text)))


_LATEX = {character: f"\\{character}" for character in "&%#_{}$"}
_LATEX |= {"~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "\\": "\\textbackslash{}"}
_LATEX |= {"<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}"}
_LATEX |= {"±": "$\\pm$", "–": "--", "-": "$-$"}


COLUMNS = ("dataset", "fusion", "settings", "chosen", "method", "column", "unit", "better")
NUMBERS = ("mean", "std", "low", "high", "n", "reason", "source", "seed", "run")
FROM = ("date", "version", "commit", "store")


def _csv(tables: Sequence[Table], baseline: str, origin: Origin) -> str:
    """One line per row and column, and below each one line per run and column. In this long form, different tables can share one file.

    The line of a method has its mean and the number of seeds. The line of a run has its value as `mean`, its `seed` and its id
    (`run`). Comparisons with the baseline are columns of their own, with the number of pairs as `n`. Every line has the origin.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, (*COLUMNS, *NUMBERS, *FROM), lineterminator="\n", restval="")
    writer.writeheader()
    known = {key: getattr(origin, key) for key in FROM}
    for line in _lines(tables, baseline):
        writer.writerow({key: _plain_number(value) for key, value in {**line, **known}.items()})
    return out.getvalue().rstrip("\n")


def _lines(tables: Sequence[Table], baseline: str) -> Iterator[dict[str, Any]]:
    for table in tables:
        cell = {
            "dataset": table.dataset,
            "fusion": table.fusion,
            "settings": " ".join(table.departs),
            "chosen": table.chosen,
        }
        for row in table.rows:
            for column in table.columns:
                value = row.values[column.key]
                kind = {"method": row.label, "column": column.key, "unit": column.unit, "better": column.better}
                low, high = value.interval or (None, None)
                yield {**cell, **kind, **_of(value), "low": low, "high": high, "source": "runs"}
                for record in row.records:
                    seed = record.spec["seed"]
                    if seed in value.by_seed:
                        found = {"mean": value.by_seed[seed], "n": 1, "source": "run", "seed": seed, "run": record.run_id}
                        yield {**cell, **kind, **found}
        for each in against(table, baseline):
            bounds = each.interval or (None, None)
            for key, number in (("difference", each.difference), ("d_z", each.effect), ("p", each.p), ("p_holm", each.holm)):
                low, high = bounds if key == "difference" else (None, None)
                yield {
                    **cell,
                    **{"method": each.label, "column": f"{key} {baseline}", "mean": number, "low": low, "high": high},
                    **{"n": each.pairs, "source": "runs"},
                }
        for printed in table.published or ():
            for key, figure in printed.figures.items():
                yield {**cell, "method": printed.method, "column": key, "mean": figure, "source": printed.source}
    for pool in pools(tables, baseline):
        for pooled in pool.methods:
            yield from _pooled_lines(pool, pooled, baseline)


def _pooled_lines(pool: Pool, pooled: Pooled, baseline: str) -> Iterator[dict[str, Any]]:
    known = {"dataset": "all", "fusion": "all", "settings": pool.figure.key, "chosen": pool.chosen, "method": pooled.label}
    figures = {"difference": pooled.difference, "p": pooled.p, "p_holm": pooled.holm}
    figures |= {name: count for name in ("wins", "ties", "losses") if (count := getattr(pooled, name)) is not None}
    for key, number in figures.items():
        yield {**known, "column": f"{key} {baseline}", "mean": number, "n": pooled.pairs, "source": "runs"}


def _of(value: Value) -> dict[str, Any]:
    return {"mean": value.mean, "std": value.std, "n": len(value.values), "reason": value.reason}


def _plain_number(value: Any) -> Any:
    return "" if value is None else repr(value) if isinstance(value, float) else value


def _json(tables: Sequence[Table], baseline: str, origin: Origin) -> dict[str, Any]:
    """The origin, one object per table and, for two or more cells, the pooled results by figure."""
    together: dict[str, list[dict[str, object]]] = defaultdict(list)
    for pool in pools(tables, baseline):
        about = {"unit": pool.figure.unit, "better": pool.figure.better, "chosen": pool.chosen}
        together[pool.figure.key] += [{**asdict(each), **about} for each in pool.methods]
    return {
        "origin": {**asdict(origin), "runs": run_ids(tables)},
        "baseline": baseline,
        "tables": [_plain(table, baseline) for table in tables],
        "pooled": together,
    }


def _plain(table: Table, baseline: str) -> dict[str, Any]:
    def row(row: Row) -> dict[str, object]:
        values = {
            key: {
                "mean": value.mean,
                "std": value.std,
                "interval": value.interval,
                "n": len(value.values),
                "values": value.values,
                "seeds": sorted(value.by_seed),
                "reason": value.reason,
            }
            for key, value in row.values.items()
        }
        return {"method": row.label, "n": row.seeds, "values": values, "runs": [run(row, record) for record in row.records]}

    def run(row: Row, record: Record) -> dict[str, object]:
        seed = record.spec["seed"]
        values = {key: value.by_seed.get(seed) for key, value in row.values.items()}
        return {"run": record.run_id, "seed": seed, "values": values}

    return {
        "dataset": table.dataset,
        "fusion": table.fusion,
        "settings": dict(table.settings),
        "sample": table.sample,
        "chosen": table.chosen,
        "columns": {
            c.key: {key: getattr(c, key) for key in ("title", "unit", "better", "digits", "meaning")} for c in table.columns
        },
        "rows": [row(each) for each in table.rows],
        "against": [asdict(each) for each in against(table, baseline)],
        **({"published": [asdict(each) for each in table.published]} if table.published is not None else {}),
        "notes": list(table.notes),
    }
