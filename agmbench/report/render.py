"""Tables as text: for the terminal, Markdown, LaTeX (booktabs), CSV and JSON."""

import csv
import io
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agmbench.errors import AgmbenchError, printable
from agmbench.report import sheets
from agmbench.report.against import against, pool
from agmbench.report.escapes import markdown, one_line
from agmbench.report.published import published
from agmbench.report.sheets import Sheet
from agmbench.report.tables import BASELINE, Row, Table, setting


def show(*tables: Table, baseline: str = BASELINE, beside: bool = False) -> None:
    """Print tables, and what they say together, on the terminal; `beside` adds the published figures."""
    for sheet in _sheets(tables, baseline, beside):
        _print(sheet)


def render(tables: Sequence[Table], form: str, baseline: str = BASELINE, beside: bool = False) -> str:
    """The same in one of the written forms."""
    if form == "json":
        return json.dumps(_json(tables, baseline, beside), indent=2, allow_nan=False)
    if form == "csv":
        return _csv(tables, baseline, beside)
    write = _markdown if form == "markdown" else _latex
    return "\n\n".join(map(write, _sheets(tables, baseline, beside)))


def save(text: str, path: Path) -> None:
    """A report as a file, whole or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise AgmbenchError(f"{path} cannot be written ({error.strerror}); name another file with --output") from error


def _sheets(tables: Sequence[Table], baseline: str, beside: bool) -> list[Sheet]:
    return [
        *(sheet for table in tables for sheet in sheets.of_table(table, baseline, beside)),
        *sheets.of_all(tables, baseline),
    ]


def _print(sheet: Sheet) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table as RichTable

    from agmbench.report.grid import print_grid

    header, title = map(escape, sheet.header), escape(sheet.title)
    grid = RichTable(*header, title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in grid.columns[1:]:
        column.justify = "right"
    for row in _marked(sheet, "[bold]{}[/bold]", escape):
        grid.add_row(*row)
    print_grid(grid)
    for text in (sheet.caption, *sheet.notes):
        if text:
            print(printable(text))
    print()


def _marked(sheet: Sheet, bold: str, escape: Any) -> list[list[str]]:
    """The body, escaped, what is bold in `bold`."""
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


def _csv(tables: Sequence[Table], baseline: str, beside: bool) -> str:
    """One line a row and column: long, so that tables of unlike columns share one file.

    What is compared with the baseline are columns of their own, of which n is the number of pairs.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["dataset", "fusion", "settings", "method", "column", "mean", "std", "low", "high", "n", "reason", "source"]
    )
    for table in tables:
        settings = " ".join(setting(key, value) for key, value in table.settings.items())
        cell = [table.dataset, table.fusion, settings]
        for row in table.rows:
            for column in table.columns:
                value = row.values[column.key]
                numbers = map(_number, (value.mean, value.std, *(value.interval or (None, None))))
                writer.writerow([*cell, row.label, column.key, *numbers, len(value.values), value.reason, "runs"])
        for each in against(table, baseline):
            for key, number in (("difference", each.difference), ("d_z", each.effect), ("p", each.p), ("p_holm", each.holm)):
                bounds = (each.interval if key == "difference" else None) or (None, None)
                numbers = map(_number, (number, None, *bounds))
                writer.writerow([*cell, each.label, f"{key} {baseline}", *numbers, each.pairs, "", "runs"])
        for printed in published(table.dataset, table.fusion) if beside else ():
            for key, figure in printed.figures.items():
                writer.writerow([*cell, printed.method, key, _number(figure), "", "", "", "", "", printed.source])
    for all_ in pool(tables, baseline):
        figures = {"difference": all_.difference, "p": all_.p, "p_holm": all_.holm}
        figures |= {"wins": all_.wins, "ties": all_.ties, "losses": all_.losses}
        for key, number in figures.items():
            writer.writerow(["all", "all", "", all_.label, f"{key} {baseline}", number, "", "", "", all_.pairs, "", "runs"])
    return out.getvalue().rstrip("\n")


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)


def _json(tables: Sequence[Table], baseline: str, beside: bool) -> list[dict[str, Any]]:
    """An object a table; of two cells and more, one object with what they say together comes last."""
    pooled = pool(tables, baseline)
    together = [{"baseline": baseline, "pooled": [asdict(each) for each in pooled]}] if pooled else []
    return [*(_plain(table, baseline, beside) for table in tables), *together]


def _plain(table: Table, baseline: str, beside: bool) -> dict[str, Any]:
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
        return {"method": row.label, "n": row.seeds, "values": values}

    return {
        "dataset": table.dataset,
        "fusion": table.fusion,
        "settings": dict(table.settings),
        "rows": [row(each) for each in table.rows],
        "baseline": baseline,
        "against": [asdict(each) for each in against(table, baseline)],
        **({"published": [asdict(each) for each in published(table.dataset, table.fusion)]} if beside else {}),
        "notes": list(table.notes),
    }
