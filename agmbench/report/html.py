"""The report as one self-contained HTML file: sheets, and plots of what the runs recorded over time."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from math import isfinite
from statistics import mean
from typing import NamedTuple

from agmbench.outcomes import Kind
from agmbench.records import Record
from agmbench.report import sheets, svg
from agmbench.report.columns import Column
from agmbench.report.export import Origin
from agmbench.report.sheets import Sheet
from agmbench.report.tables import Row, Table, Value

TITLE = "agmbench report"
SEEDS = "Mean over the seeds (at most the first five); the band is minimum to maximum."
POINTS = 200  # at most, per curve
RUNS = 5  # at most, whose histories are read per method

FOLLOWED = {  # what is plotted over epochs: the quantity of the model, that of each response, its title and its scale
    "classification": ("accuracy", "response", "Accuracy", 100.0),
    "regression": ("r2", "response-r2", "R2", 1.0),
}

History = Callable[[Record, Sequence[str]], Mapping[str, Sequence[tuple[int, float]]]]  # a tracker's `history`
Colours = Mapping[str, int]


def page(
    tables: Sequence[Table],
    history: History,
    baseline: str,
    title: str = TITLE,
    notes: Sequence[str] = (),
    origin: Origin | None = None,
) -> str:
    """The whole report. `history` reads the metrics of a run, as a tracker does; `notes` are printed below the title."""
    pooled = "".join(map(_sheet, sheets.of_all(tables, baseline)))
    together = f'<section id="all">{pooled}</section>' if pooled else ""
    links = "".join(f'<a href="#cell-{place}">{escape(table.title)}</a>' for place, table in enumerate(tables))
    cells = "".join(
        f'<section id="cell-{place}">{_cell(table, history, baseline)}</section>' for place, table in enumerate(tables)
    )
    runs = sum(len(row.records) for table in tables for row in table.rows)
    sets = len({table.dataset for table in tables})
    below = "".join(f"<p>{escape(note)}</p>" for note in notes)
    lead = f"{_count(runs, 'finished run')} in {_count(len(tables), 'cell')} on {_count(sets, 'data set')}; baseline {baseline}"
    style = files("agmbench.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<style>{style}</style></head><body><header><h1>{escape(title)}</h1><p>{escape(lead)}</p>{below}"
        f"<nav>{links if len(tables) > 1 else ''}</nav></header><main>{together}{cells}</main>"
        f'<footer class="caption"><p>{escape((origin or Origin()).words(tables))}</p></footer></body></html>\n'
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _cell(table: Table, history: History, baseline: str) -> str:
    first, *rest = sheets.of_table(table, baseline)
    colours = {modality: 1 + place % (svg.COLOURS - 1) for place, modality in enumerate(table.modalities)}
    methods = [row for row in table.rows if row.method]
    return "".join(
        [
            _sheet(first),
            _plots([_figure(methods, table.figure, baseline)]),
            *map(_sheet, rest),
            _strength(methods, colours, baseline),
            _over_time(methods, table.task, colours, history),
            _cost(methods, table.figure),
        ]
    )


# sheets


def _sheet(sheet: Sheet) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in sheet.header)
    rows = []
    for y, row in enumerate(sheet.body):
        texts = (f"<strong>{escape(words)}</strong>" if (y, x) in sheet.bold else escape(words) for x, words in enumerate(row))
        first, *others = texts
        rows.append(f"<tr><th>{first}</th>{''.join(f'<td>{words}</td>' for words in others)}</tr>")
    below = "".join(f"<p>{escape(words)}</p>" for words in (*sheet.notes, sheet.caption) if words)
    return (
        f'<h2>{escape(sheet.title)}</h2><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table></div><div class="caption">{below}</div>'
    )


# plots of figures


def _plots(drawn: Iterable[str], title: str = "", caption: str = "", legend: str = "") -> str:
    body = "".join(drawn)
    if not body:
        return ""
    head = f"<h3>{escape(title)}</h3>" if title else ""
    below = f'<div class="caption"><p>{escape(caption)}</p></div>' if caption else ""
    return f'{head}{legend}<div class="plots">{body}</div>{below}'


def _legend(colours: Colours) -> str:
    keys = "".join(f'<span><i class="c{colour}"></i>{escape(name)}</span>' for name, colour in colours.items())
    return f'<div class="legend">{keys}</div>'


def _figure(methods: Sequence[Row], figure: Column, baseline: str) -> str:
    bars = _bars(methods, figure.key)
    mark = _mean_of(bars, baseline)
    title = f"{figure.title} on test: mean, 95 % interval, each seed" + (f"; dashed: {baseline}" if mark is not None else "")
    return svg.intervals(title, bars, _axis(figure), mark) if bars else ""


def _axis(figure: Column) -> str:
    return figure.title + (f", {figure.unit}" if figure.unit else "") + (" (lower is better)" if figure.lower else "")


def _bars(methods: Sequence[Row], key: str) -> list[svg.Bar]:
    bars = []
    for row in methods:
        value = row.values.get(key, Value())
        if value.mean is not None:
            low, high = value.interval or (None, None)
            bars.append(svg.Bar(row.label, value.mean, low, high, value.values))
    return bars


def _mean_of(bars: Sequence[svg.Bar], label: str) -> float | None:
    return next((bar.mean for bar in bars if bar.label == label), None)


def _strength(methods: Sequence[Row], colours: Colours, baseline: str) -> str:
    """One panel per modality: from the baseline's competition strength to that of each method."""
    panels = []
    for modality, colour in colours.items():
        bars = [bar._replace(low=None, high=None) for bar in _bars(methods, f"strength/{modality}")]
        before, label = _mean_of(bars, baseline), f"d_{modality}, competition strength (0 kept, 1 lost)"
        if bars:
            panels.append(svg.intervals(modality, bars, label, before, colour, led=True, width=340))
    caption = (
        f"From {baseline} (dashed) to each method (point): further left is less competition. Points are means, ticks are seeds."
    )
    return _plots(panels, "Competition strength of the baseline and of each method", caption)


def _cost(methods: Sequence[Row], figure: Column) -> str:
    at = {row.label: (row.values.get("gflops", Value()).mean, row.values[figure.key]) for row in methods}
    dots = [
        svg.Dot(label, cost, accuracy.mean, accuracy.interval)
        for label, (cost, accuracy) in at.items()
        if cost is not None and accuracy.mean is not None
    ]
    drawn = [svg.scatter("Each method by its cost per step", dots, "GFLOP per step", _axis(figure))] if dots else []
    caption = f"Points are means over the seeds; vertical lines are 95 % intervals of {figure.title}."
    return _plots(drawn, f"{figure.title} against cost", caption)


# plots over time


def _over_time(methods: Sequence[Row], task: Kind, colours: Colours, history: History) -> str:
    kappa = {modality: f"kappa/{modality}" for modality in colours}
    name, response, title, scale = FOLLOWED["regression" if task == "regression" else "classification"]
    followed = {"all": f"valid/{name}", **{modality: f"valid/{response}/{modality}" for modality in colours}}
    unit = ", %" if scale == 100 else ""
    enlarged = f"Above 1 the gradient of a modality is enlarged; below 1 it is damped. {SEEDS}"
    of = f"{title} on valid, of the model (all) and of each modality's Shapley response. {SEEDS}"
    return "".join(
        [
            _panels(Panels("Kappa over time", "step", "kappa", enlarged, mark=1), methods, kappa, colours, history),
            _panels(
                Panels(f"{title} of each modality over time", "epoch", f"{title} on valid{unit}", of, scale=scale),
                methods,
                followed,
                {"all": 0, **colours},
                history,
            ),
        ]
    )


class Panels(NamedTuple):
    """What a row of panels shows: title, names of the axes, caption, and the factor by which values are multiplied."""

    title: str
    x: str
    y: str
    caption: str
    scale: float = 1
    mark: float | None = None


def _panels(about: Panels, methods: Sequence[Row], names: Mapping[str, str], colours: Colours, history: History) -> str:
    """One panel per method that has any of the metrics, all on the same axes."""
    found = {row.label: _lines(row, names, colours, history, about.scale) for row in methods}
    found = {label: lines for label, lines in found.items() if lines}
    if not found:
        return ""
    every = [line for lines in found.values() for line in lines]
    xs = svg.bounds([at for line in every for at, *_ in line.band], 0)
    ys = svg.bounds([value for line in every for _, low, high in line.band for value in (low, high)])
    drawn = [svg.curves(label, lines, about.x, about.y, xs, ys, about.mark) for label, lines in found.items()]
    return _plots(drawn, about.title, about.caption, _legend({name: colours[name] for name in names}))


def _lines(row: Row, names: Mapping[str, str], colours: Colours, history: History, scale: float) -> list[svg.Curve]:
    runs = [history(record, list(names.values())) for record in row.records[:RUNS]]
    lines = []
    for name, metric in names.items():
        band = thin([[(step, value * scale) for step, value in run[metric]] for run in runs if metric in run])
        if band:
            middle = [(x, value) for x, value, *_ in band]
            lines.append(svg.Curve(name, colours[name], middle, [(x, low, high) for x, _, low, high in band]))
    return lines


def thin(runs: Sequence[Sequence[tuple[float, float]]], most: int = POINTS) -> list[tuple[float, float, float, float]]:
    """`(step, mean, minimum, maximum)` over the runs, at no more than `most` places.

    Neighbouring steps are averaged, first within each run.
    """
    steps = sorted({step for run in runs for step, value in run if isfinite(value)})
    bin_of = {step: place * most // len(steps) if len(steps) > most else place for place, step in enumerate(steps)}
    values: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    places: dict[int, list[float]] = defaultdict(list)
    for step in steps:
        places[bin_of[step]].append(step)
    for number, run in enumerate(runs):
        for step, value in run:
            if isfinite(value):
                values[bin_of[step]][number].append(value)
    means = {place: [mean(found) for found in runs_.values()] for place, runs_ in values.items()}
    return [(mean(places[p]), mean(means[p]), min(means[p]), max(means[p])) for p in sorted(means)]
