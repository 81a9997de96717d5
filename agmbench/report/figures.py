"""The pictures and the tables of classes that a report has for one cell, and what each of them shows."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from agmbench.errors import AgmbenchError
from agmbench.jobs import flat
from agmbench.outcomes import Outcome, Unmeasured
from agmbench.records import Record
from agmbench.report import charts
from agmbench.report.columns import Column
from agmbench.report.ranking import Ranking
from agmbench.report.statistics import ALPHA, interval
from agmbench.report.style import COLOURS
from agmbench.report.tables import Row, Table, Value
from agmbench.report.telling import mean_of, methods_of, telling

SEEDS = "Mean over the seeds (at most the first five); the band is minimum to maximum."
POINTS = 125  # the largest number of points per curve: one for every two pixels of a panel
RUNS = 5  # the largest number of runs per method whose histories and outcomes are read
CLASSES = 60  # the largest number of classes in a table of classes

FOLLOWED = {  # what is plotted over epochs: the quantity of the model, that of each response, their title and their scale
    "classification": ("accuracy", "response", "Accuracy", 100.0),
    "regression": ("r2", "response-r2", "R2", 1.0),
}

History = Callable[[Record, Sequence[str]], Mapping[str, Sequence[tuple[int, float]]]]  # a tracker's `history`
Kept = Callable[[Record], Mapping[str, Outcome]]  # the outcomes that a run kept, by split


class Plots(NamedTuple):
    """Pictures that are shown side by side; `legend` has the colour of each name."""

    title: str
    pictures: Sequence[Markup]
    caption: str = ""
    legend: Mapping[str, int] = {}


class Shares(NamedTuple):
    """A table of shares between 0 and 1; each cell is shaded by its share."""

    title: str
    header: Sequence[str]
    rows: Sequence[tuple[str, Sequence[float | None]]]
    caption: str = ""


def colours(modalities: Sequence[str]) -> dict[str, int]:
    """The colour of each modality; that of the whole model is 0."""
    return {modality: 1 + place % (COLOURS - 1) for place, modality in enumerate(modalities)}


# figures of the cell


def axis(figure: Column) -> str:
    """The label of an axis with this figure: its title, its unit, and a note if lower is better."""
    return figure.title + (f", {figure.unit}" if figure.unit else "") + (" (lower is better)" if figure.lower else "")


def figure(table: Table, baseline: str) -> list[Plots]:
    """The mean, the interval and the seeds of every method."""
    of = table.figure
    bars = _bars(methods_of(table), of.key)
    if not bars:
        return []
    mark = _bar_mean(bars, baseline)
    caption = f"Point: mean; bar: 95 % interval; ticks: seeds{f'; dashed: {baseline}' if mark is not None else ''}."
    return [Plots("", [charts.intervals(f"{of.title} on test", bars, axis(of), mark)], caption)]


def _bars(methods: Sequence[Row], key: str) -> list[charts.Bar]:
    bars = []
    for row in methods:
        value = row.values.get(key, Value())
        if value.mean is not None:
            low, high = value.interval or (None, None)
            bars.append(charts.Bar(row.label, value.mean, low, high, value.values))
    return bars


def _bar_mean(bars: Sequence[charts.Bar], label: str) -> float | None:
    return next((bar.mean for bar in bars if bar.label == label), None)


def strength(table: Table, baseline: str) -> list[Plots]:
    """One panel per modality, which shows how far the competition strength of each method is from that of the baseline."""
    panels = []
    for modality, number in colours(table.modalities).items():
        bars = [bar._replace(low=None, high=None) for bar in _bars(methods_of(table), f"strength/{modality}")]
        if bars:
            x = f"d_{modality}, competition strength (0 kept, 1 lost)"
            panels.append(charts.intervals(modality, bars, x, _bar_mean(bars, baseline), number, led=True))
    caption = f"From {baseline} (dashed) to each method (point). Further left means less competition. Points are means, ticks are seeds."
    return [Plots("Competition strength of the baseline and of each method", panels, caption)] if panels else []


def imbalance(table: Table, baseline: str) -> list[Plots]:
    """The figure against the spread between modalities, of their Shapley accuracies and of their competition strengths."""
    of = table.figure
    spreads = {
        "response": "best minus worst Acc_m (Shapley accuracy), points",
        "response-r2": "best minus worst R2_m (of Shapley responses)",
        "strength": "largest minus smallest d_m (competition strength)",
    }
    drawn = []
    for quantity, words in spreads.items():
        found = _spread(table, [f"{quantity}/{modality}" for modality in table.modalities])
        if len(dots := _dots(table, baseline, found)) > 1:
            title = f"{of.title} and spread of {'d_m' if quantity == 'strength' else 'responses'}"
            drawn.append(charts.scatter(title, dots, words, axis(of)))
    caption = (
        "Each point is the mean of one method, with its 95 % interval. Further left, its modalities are more balanced. A method that "
        "balances modalities without loss is left of the baseline and not below it." + _named_sentence(table, baseline)
    )
    return [Plots(f"{of.title} against imbalance", drawn, caption)] if drawn else []


def _spread(table: Table, keys: Sequence[str]) -> dict[str, float]:
    """For each method, the largest minus the smallest mean of these columns."""
    spreads = {}
    for row in methods_of(table):
        means = [found for key in keys if (found := mean_of(row, key)) is not None]
        if len(means) == len(keys) > 1:
            spreads[row.label] = max(means) - min(means)
    return spreads


def _dots(table: Table, baseline: str, at: Mapping[str, float]) -> list[charts.Dot]:
    """One dot per method, at its place `at` in x. Only the methods that have pictures of their own get their names."""
    named = {row.label for row in telling(table, baseline, methods_of(table))[0]}
    found = {row.label: row.values[table.figure.key] for row in methods_of(table) if row.label in at}
    return [
        charts.Dot(label, at[label], value.mean, value.interval, label in named)
        for label, value in found.items()
        if value.mean is not None
    ]


def _named_sentence(table: Table, baseline: str) -> str:
    """A sentence that says which points in a picture of all methods have names; empty if all have."""
    said = telling(table, baseline, methods_of(table), "named")[1]
    return f"{said} The others are small points." if said else ""


def cost(table: Table, baseline: str) -> list[Plots]:
    """The figure against the cost of a training step."""
    of = table.figure
    at = {row.label: found for row in methods_of(table) if (found := mean_of(row, "gflops")) is not None}
    dots = _dots(table, baseline, at)
    drawn = [charts.scatter("Each method by its cost per step", dots, "GFLOP per step", axis(of), zero=True)] if dots else []
    caption = (
        f"Points are means over the seeds; vertical lines are 95 % intervals of {of.title}.{_named_sentence(table, baseline)}"
    )
    return [Plots(f"{of.title} against cost", drawn, caption)] if drawn else []


def ranks(ranking: Ranking) -> list[Plots]:
    """The critical-difference diagram."""
    if ranking.missing:
        return []
    left = f" Left out, because results are missing: {'; '.join(ranking.left_out)}." if ranking.left_out else ""
    order = "differ" if ranking.p <= ALPHA else "cannot be shown to differ at all"
    caption = (
        f"Mean rank of each method by {ranking.figure.title} over {ranking.cells} cells; the best is on the left. Methods that a bar "
        f"joins cannot be told apart by Nemenyi's test at {ALPHA}; the critical difference is {ranking.difference:.2f}. By Friedman's "
        f"test (F form) the methods {order} (p = {ranking.p:.2g}). Cells of one data set are not independent, so these tests "
        f"are too optimistic.{left} {ranking.chosen}."
    )
    drawn = charts.ranks("Mean ranks", [*ranking.ranks.items()], ranking.groups, ranking.difference)
    return [Plots("", [drawn], caption)]


# over time


class Panels(NamedTuple):
    """What a row of panels shows: its title, the names of the axes, the caption, the factor by which values are multiplied, and the value
    at which a dashed line stands (`mark`)."""

    title: str
    x: str
    y: str
    caption: str
    scale: float = 1
    mark: float | None = None


def over_time(table: Table, baseline: str, history: History) -> list[Plots]:
    """One panel per method for kappa over steps, and one for the figure of the model and of each response over epochs."""
    shades = colours(table.modalities)
    kappa = {modality: f"kappa/{modality}" for modality in table.modalities}
    name, response, title, scale = FOLLOWED["regression" if table.task == "regression" else "classification"]
    followed = {"all": f"valid/{name}", **{modality: f"valid/{response}/{modality}" for modality in table.modalities}}
    unit = ", %" if scale == 100 else ""
    enlarged = f"Above 1, the gradient of a modality is enlarged; below 1, it is damped. {SEEDS}"
    of = (
        f"{title} on valid of the model (all) and of each modality's Shapley response. {SEEDS} "
        "Triangles and thin lines mark the chosen epoch of each seed. Epochs count from 0."
    )
    about = Panels(f"{title} of each modality over time", "epoch", f"{title} on valid{unit}", of, scale=scale)
    found = []
    for panels, names in ((Panels("Kappa over time", "step", "kappa", enlarged, mark=1), kappa), (about, followed)):
        having = [
            row for row in methods_of(table) if any(metric in r.metrics for r in row.records for metric in names.values())
        ]
        shown, said = telling(table, baseline, having)
        found += _panels(panels._replace(caption=panels.caption + said), shown, names, {"all": 0, **shades}, history)
    return found


def _panels(
    about: Panels, methods: Sequence[Row], names: Mapping[str, str], shades: Mapping[str, int], history: History
) -> list[Plots]:
    """One panel per method that has any of the metrics, all on the same axes."""
    found = {row.label: lines for row in methods if (lines := _lines(row, names, shades, history, about.scale))}
    if not found:
        return []
    chosen = {row.label: _chosen(row) if about.x == "epoch" else [] for row in methods}
    every = [line for lines in found.values() for line in lines]
    xs = charts.bounds([at for line in every for at, *_ in line.band], 0)
    ys = charts.bounds([value for line in every for _, low, high in line.band for value in (low, high)])
    drawn = [
        charts.curves(label, lines, about.x, about.y, xs, ys, about.mark, [at for at in chosen[label] if xs[0] <= at <= xs[1]])
        for label, lines in found.items()
    ]
    return [Plots(about.title, drawn, about.caption, {name: shades[name] for name in names})]


def _chosen(row: Row) -> list[float]:
    """The epochs that were chosen in those runs of a row that are drawn."""
    return sorted({at for r in row.records[:RUNS] if isfinite(at := r.metrics.get("best/epoch", float("nan")))})


def _lines(row: Row, names: Mapping[str, str], shades: Mapping[str, int], history: History, scale: float) -> list[charts.Curve]:
    runs = [history(record, list(names.values())) for record in row.records[:RUNS]]
    lines = []
    for name, metric in names.items():
        band = thin([[(step, value * scale) for step, value in run[metric]] for run in runs if metric in run])
        if band:
            middle = [(x, value) for x, value, *_ in band]
            lines.append(charts.Curve(name, shades[name], middle, [(x, low, high) for x, _, low, high in band]))
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


# classes


def classes(table: Table, baseline: str, kept: Kept) -> list[Shares]:
    """For each class, the share of its test samples that is classified correctly: by the model, and by each modality's Shapley response."""
    modalities = table.modalities
    shown, said = telling(table, baseline, [row for row in methods_of(table) if row.records])
    found = {row.label: _by_class(row, modalities, kept) for row in shown}
    names = next((names for names, _ in found.values() if names), ())
    if not 0 < len(names) <= CLASSES:
        return []
    caption = (
        "Share of the test samples of each class that is classified correctly, as the mean over the seeds (at most the first five). "
        "A dash: the run kept no such predictions, or test has no sample of the class." + said
    )
    sheets = []
    for who in ("all", *modalities):
        rows = [(label, shares[who]) for label, (_, shares) in found.items() if who in shares]
        if rows:
            what = "with all modalities" if who == "all" else f"by the Shapley response of {who}"
            sheets.append(Shares(f"Accuracy per class, %, {what}", ["method", *names], rows))
    return [*sheets[:-1], sheets[-1]._replace(caption=caption)] if sheets else []


def _by_class(row: Row, modalities: Sequence[str], kept: Kept) -> tuple[Sequence[str], dict[str, list[float | None]]]:
    """The names of the classes and, for the model (`all`) and each modality, the mean share that is correct in each class."""
    runs: dict[str, list[np.ndarray]] = defaultdict(list)
    names: Sequence[str] = ()
    for record in row.records[:RUNS]:
        try:
            outcome = kept(record)["test"]
        except (AgmbenchError, KeyError):  # the run has lost its artifacts, but its numbers in the store are still shown
            continue
        count = outcome.full.shape[-1]
        names = outcome.class_names or [str(number) for number in range(count)]
        for who, logits in _answers(outcome, modalities).items():
            right = outcome.predicted(logits) == outcome.targets
            of = [right[outcome.targets == number] for number in range(count)]
            runs[who].append(np.array([each.mean() if len(each) else np.nan for each in of]))
    stacked = {who: np.array(found).mean(axis=0).tolist() for who, found in runs.items()}
    return names, {who: [share if isfinite(share) else None for share in found] for who, found in stacked.items()}


def _answers(outcome: Outcome, modalities: Sequence[str]) -> dict[str, Any]:
    try:
        return {"all": outcome.full, **{m: outcome.responses[m] for m in modalities if m in outcome.responses}}
    except Unmeasured:
        return {"all": outcome.full}


# sensitivity


def sensitivity(tables: Sequence[Table]) -> list[Plots]:
    """The figure against each numeric setting that varies among the runs of a method, for one data set and fusion."""
    of = tables[0].figure
    points: dict[str, dict[str, dict[float, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for record, value in _values(tables, of):
        for key, number in _numbers(record).items():
            points[key][record.spec["modulator"]["name"]][number].append(value)
    drawn: list[Markup] = []
    names: dict[str, int] = {}
    for key, methods in sorted(points.items()):
        varied = {name: by for name, by in sorted(methods.items()) if len(by) > 1}
        for name in varied:
            names.setdefault(name, len(names) % COLOURS)
        lines = [(name, names[name], _bars_at(by)) for name, by in varied.items()]
        if lines:
            drawn.append(charts.settings(f"{of.title} by {key}", lines, key, axis(of)))
    caption = (
        "Line: mean over the runs with each value; bars: 95 % interval; ticks: runs. If several settings vary, each picture takes "
        "together the runs with all values of the other settings."
    )
    return [Plots(f"Sensitivity of {of.title} to settings", drawn, caption, names)] if drawn else []


def _values(tables: Sequence[Table], of: Column) -> Iterable[tuple[Record, float]]:
    for table in tables:
        for row in table.rows:
            by_seed = row.values.get(of.key, Value()).by_seed
            for record in row.records:
                if row.method and record.spec["seed"] in by_seed:
                    yield record, by_seed[record.spec["seed"]]


def _numbers(record: Record) -> dict[str, float]:
    """The numeric settings of a run, by the keys of `--set`."""
    return {
        key: float(value)
        for key, value in flat(record.spec).items()
        if isinstance(value, int | float) and not isinstance(value, bool) and key not in ("seed", "concept_seed")
    }


def _bars_at(by: Mapping[float, Sequence[float]]) -> list[tuple[float, charts.Bar]]:
    found = []
    for at, values in sorted(by.items()):
        low, high = interval(values) or (None, None)
        found.append((at, charts.Bar("", mean(values), low, high, values)))
    return found
