"""Tables as text: for the terminal, Markdown, LaTeX (booktabs), CSV and JSON."""

import csv
import io
import json
import re
from collections.abc import Sequence

from agmbench.report.tables import CAPTION, Column, Row, Table, Value


def show(table: Table) -> None:
    """Print one table on the terminal."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table as RichTable

    from agmbench.report.grid import print_grid

    header, body, notes = _texts(table, plus_minus="±", dash="–")
    grid = RichTable(*map(escape, header), title=escape(table.title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in grid.columns[1:]:
        column.justify = "right"
    for row in body:
        grid.add_row(*map(escape, row))
    print_grid(grid)
    for note in [CAPTION.replace("+-", "±"), *notes]:
        print(note)
    print()


def render(tables: Sequence[Table], form: str) -> str:
    """All tables in one of the written forms."""
    if form == "json":
        return json.dumps([_plain(table) for table in tables], indent=2, allow_nan=False)
    if form == "csv":
        return _csv(tables)
    return "\n\n".join(_markdown(table) if form == "markdown" else _latex(table) for table in tables)


def _texts(table: Table, plus_minus: str, dash: str) -> tuple[list[str], list[list[str]], list[str]]:
    """Header, body and notes; a dash carries the number of the note with its reason."""
    reasons: dict[str, int] = {}

    def text(column: Column, value: Value) -> str:
        if value.mean is None:
            return f"{dash} [{reasons.setdefault(value.reason, len(reasons) + 1)}]"
        shown = f"{value.mean:.{column.digits}f}"
        return shown if value.std is None else f"{shown} {plus_minus} {value.std:.{column.digits}f}"

    header = ["method", "n", *(column.title for column in table.columns)]
    body = [
        [row.label, str(row.seeds), *(text(column, row.values[column.key]) for column in table.columns)] for row in table.rows
    ]
    return header, body, [*(f"[{number}] {reason}" for reason, number in reasons.items()), *table.notes]


def _markdown(table: Table) -> str:
    header, body, notes = _texts(table, plus_minus="±", dash="–")
    bar = "\\|"
    lines = [
        f"**{table.title}**",
        "",
        f"| {' | '.join(header)} |",
        f"|---|{'---:|' * (len(header) - 1)}",
        *(f"| {' | '.join(cell.replace('|', bar) for cell in row)} |" for row in body),
        "",
        CAPTION.replace("+-", "±"),
    ]
    for note in notes:
        lines += ["", note]
    return "\n".join(lines)


def _latex(table: Table) -> str:
    header, body, notes = _texts(table, plus_minus="$\\pm$", dash="--")
    caption = f"{table.title}. {CAPTION} {' '.join(notes)}".strip()
    lines = [
        "\\begin{table}",
        f"\\caption{{{_escaped(caption)}}}",
        f"\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        "\\toprule",
        " & ".join(map(_escaped, header)) + " \\\\",
        "\\midrule",
        *(" & ".join([_escaped(row[0]), *row[1:]]) + " \\\\" for row in body),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(piece, piece) for piece in re.split(r"(\+-|[\\&%#_{}$~^])", text))


_LATEX = {character: f"\\{character}" for character in "&%#_{}$"}
_LATEX |= {"~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "\\": "\\textbackslash{}", "+-": "$\\pm$"}


def _csv(tables: Sequence[Table]) -> str:
    """One line a row and column: long, so that tables of unlike columns share one file."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["dataset", "fusion", "settings", "method", "column", "mean", "std", "n", "reason"])
    for table in tables:
        settings = " ".join(f"{key}={value}" for key, value in table.settings.items())
        for row in table.rows:
            for column in table.columns:
                value = row.values[column.key]
                cells = [_number(value.mean), _number(value.std), len(value.values), value.reason]
                writer.writerow([table.dataset, table.fusion, settings, row.label, column.key, *cells])
    return out.getvalue().rstrip("\n")


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)


def _plain(table: Table) -> dict[str, object]:
    def row(row: Row) -> dict[str, object]:
        values = {
            key: {"mean": value.mean, "std": value.std, "n": len(value.values), "values": value.values, "reason": value.reason}
            for key, value in row.values.items()
        }
        return {"method": row.label, "n": row.seeds, "values": values}

    return {
        "dataset": table.dataset,
        "fusion": table.fusion,
        "settings": dict(table.settings),
        "rows": [row(each) for each in table.rows],
        "notes": list(table.notes),
    }
