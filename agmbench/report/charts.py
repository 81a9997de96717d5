"""The vector pictures of a report: matplotlib draws them, and they become SVG that follows the theme of the page around it."""

import io
import re
from collections.abc import Sequence
from math import isfinite
from typing import Any, NamedTuple
from zlib import crc32

from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from agmbench.report.escapes import one_line
from agmbench.report.style import INK, SOFT, VARIABLES, any_script, colour, themed

LINE = 14  # the distance in pixels from one name to the next
DASHED: dict[str, Any] = {"color": SOFT, "linewidth": 1, "linestyle": (0, (4, 3)), "zorder": 1}


class Curve(NamedTuple):
    """A line of points `(x, y)` in a colour; `band` has `(x, low, high)` for the band around it."""

    label: str
    colour: int
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()


class Dot(NamedTuple):
    """A point with a name; `bounds` are the ends of its interval in y. A point that is not `named` is small, without name and interval."""

    label: str
    x: float
    y: float
    bounds: tuple[float, float] | None = None
    named: bool = True


class Bar(NamedTuple):
    """A named mean with its interval and the values behind it."""

    label: str
    mean: float
    low: float | None
    high: float | None
    values: Sequence[float]


@themed
def intervals(title: str, bars: Sequence[Bar], x: str, mark: float | None = None, number: int = 0, led: bool = False) -> Markup:
    """One line per bar: its interval, its mean, and a tick per value. `mark` is a dashed line across all; `led` joins each mean to it."""
    axes = _axes(title, 260, 24 * len(bars), x)
    shade = colour(number)
    if mark is not None:
        axes.axvline(mark, **DASHED)
    for place, bar in enumerate(bars):
        _draw(axes, place, bar, shade, mark if led else None)
    axes.set_yticks(range(len(bars)), [one_line(bar.label) for bar in bars])
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    ends = [value for bar in bars for value in (*bar.values, bar.mean, bar.low, bar.high) if value is not None]
    axes.set_xlim(*bounds(ends))
    return _svg(axes, title)


def _draw(axes: Axes, place: int, bar: Bar, shade: str, led_from: float | None) -> None:
    """Draw one line of `intervals`."""
    if bar.low is not None and bar.high is not None:
        axes.hlines(place, bar.low, bar.high, color=shade, linewidth=2, alpha=0.5)
    axes.plot(bar.values, [place] * len(bar.values), "|", color=SOFT, markersize=10, markeredgewidth=1.2)
    if led_from is not None:
        axes.hlines(place, led_from, bar.mean, color=shade, linewidth=4, alpha=0.4)
    axes.plot(bar.mean, place, "o", color=shade, markersize=8)


@themed
def scatter(title: str, dots: Sequence[Dot], x: str, y: str, zero: bool = False) -> Markup:
    """Points with names; the names stand in one column at the right, each joined to its point. With `zero`, the x axis includes zero."""
    named = [dot for dot in dots if dot.named]
    height = max(220, LINE * len(named))
    axes = _axes(title, 260, height, x, y)
    axes.set_xlim(*bounds([*([0.0] if zero else []), *(dot.x for dot in dots)]))
    low, high = bounds([end for dot in dots for end in (dot.y, *(dot.bounds or () if dot.named else ()))])
    axes.set_ylim(low, high)
    beside = axes.get_xlim()[1]
    pixel = (high - low) / height
    others = [dot for dot in dots if not dot.named]
    axes.plot([dot.x for dot in others], [dot.y for dot in others], "o", color=SOFT, markersize=5)
    for dot, at in zip(named, apart([dot.y for dot in named], LINE * pixel, low, high), strict=True):
        if dot.bounds:
            axes.vlines(dot.x, *dot.bounds, color=colour(0), linewidth=2, alpha=0.3)
        axes.plot([dot.x, beside], [dot.y, at], color=SOFT, linewidth=0.7, alpha=0.6)
        axes.plot(dot.x, dot.y, "o", color=colour(0), markersize=8)
        axes.annotate(one_line(dot.label), (beside, at), (4, 0), textcoords="offset points", va="center")
    return _svg(axes, title)


@themed
def curves(
    title: str,
    lines: Sequence[Curve],
    x: str,
    y: str,
    xs: tuple[float, float],
    ys: tuple[float, float],
    mark: float | None = None,
    best: Sequence[float] = (),
) -> Markup:
    """Curves in a small frame with given bounds, so that several frames can be compared side by side. `mark` is a dashed line across;
    each of `best` is an epoch that was chosen, a triangle on the x axis with a thin line above it."""
    axes = _axes(title, 250, 140, x, y)
    axes.set_xlim(*xs)
    axes.set_ylim(*ys)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if mark is not None and ys[0] <= mark <= ys[1]:
        axes.axhline(mark, **DASHED)
    for at in best:
        axes.axvline(at, color=INK, linewidth=0.8, alpha=0.5)
        axes.plot(at, ys[0] + 0.04 * (ys[1] - ys[0]), "^", color=INK, markersize=7)
    for line in lines:
        if line.band:
            steps, low, high = zip(*line.band, strict=True)
            axes.fill_between(steps, low, high, color=colour(line.colour), alpha=0.18, linewidth=0)
        steps, values = zip(*line.points, strict=True)
        axes.plot(steps, values, "o" if len(steps) == 1 else "-", color=colour(line.colour), linewidth=1.6, markersize=5)
    return _svg(axes, title)


@themed
def settings(title: str, lines: Sequence[tuple[str, int, Sequence[tuple[float, Bar]]]], x: str, y: str) -> Markup:
    """A figure against a numeric setting: per line its name, its colour, and a bar (mean, interval, values) at each x."""
    axes = _axes(title, 280, 180, x, y)
    xs = [at for *_, points in lines for at, _ in points]
    if min(xs) > 0 and max(xs) / min(xs) > 20:
        axes.set_xscale("log")
    for _, number, points in lines:
        shade = colour(number)
        axes.plot([at for at, _ in points], [bar.mean for _, bar in points], "o-", color=shade, linewidth=1.6, markersize=7)
        for at, bar in points:
            axes.plot([at] * len(bar.values), bar.values, "_", color=shade, markersize=9, alpha=0.7)
            if bar.low is not None and bar.high is not None:
                axes.vlines(at, bar.low, bar.high, color=shade, linewidth=2, alpha=0.4)
    return _svg(axes, title)


@themed
def ranks(title: str, ranked: Sequence[tuple[str, float]], alike: Sequence[tuple[float, float]], reach: float) -> Markup:
    """A critical-difference diagram: names with their mean ranks, the best first. A bar joins each of the ranges in `alike`; the one at
    the top is `reach` long, the critical difference."""
    most = len(ranked)
    half = (most + 1) // 2
    depth = 1.2 + 0.6 * len(alike)
    axes = _axes(title, 240, (2.2 + depth + half) * LINE, "")
    axes.set_ylim(depth + half, -2.2)
    axes.set_xlim(1 - 0.02 * most, most + 0.02 * most)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=min(most, 12)))
    axes.tick_params(axis="x", pad=-30)
    axes.xaxis.tick_top()
    axes.plot([1, most], [0, 0], color=SOFT, linewidth=1.2)
    axes.plot([1, min(most, 1 + reach)], [-1.8, -1.8], color=colour(1), linewidth=3)
    axes.annotate(
        f"critical difference {reach:.2f}", (min(most, 1 + reach), -1.8), (6, 0), textcoords="offset points", va="center"
    )
    for place, (low, high) in enumerate(alike):
        axes.plot([low, high], [0.7 + 0.6 * place] * 2, color=colour(2), linewidth=4, solid_capstyle="round")
    for place, (label, rank) in enumerate(ranked):
        left = place < half
        level = depth + (place if left else most - 1 - place)
        end = axes.get_xlim()[0 if left else 1]
        axes.plot([rank, rank, end], [0, level, level], color=SOFT, linewidth=0.8)
        axes.annotate(
            f"{one_line(label)} ({rank:.2f})", (end, level), (-4 if left else 4, 0),
            textcoords="offset points", va="center", ha="right" if left else "left",
        )  # fmt: skip
    return _svg(axes, title)


def bounds(values: Sequence[float], margin: float = 0.06) -> tuple[float, float]:
    """Bounds around all finite values, with a margin; if all are equal, an interval around them."""
    finite = [value for value in values if isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    room = (high - low) * margin if high > low else abs(low) * 0.1 or 1.0
    return low - room, high + room


def apart(places: Sequence[float], space: float, low: float, high: float) -> list[float]:
    """The places, moved so that they are `space` apart between `low` and `high`, in their order."""
    order = sorted(range(len(places)), key=lambda each: places[each])
    moved = list(places)
    lowest = low
    for each in order:
        moved[each] = lowest = max(places[each], lowest)
        lowest += space
    highest = high
    for each in reversed(order):
        moved[each] = highest = min(moved[each], highest)
        highest -= space
    return moved


def _axes(title: str, width: float, height: float, x: str, y: str = "") -> Axes:
    """Axes of a size in pixels; the space for labels around them is added when the picture is written."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_title(one_line(title), pad=22 if y else 8)
    axes.set_xlabel(one_line(x))
    if y:  # the label stands above the axis, where it need not be rotated
        axes.annotate(one_line(y), (0, 1), (0, 8), xycoords="axes fraction", textcoords="offset points", color=SOFT)
    return axes


def _svg(axes: Axes, title: str) -> Markup:
    """The picture as one line of SVG, without addresses, scripts, colours of its own, or names that another picture might have."""
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    for artist in figure.findobj():
        artist.set_clip_on(False)  # everything that is drawn is within the bounds anyway
    out = io.StringIO()
    with any_script():  # the browser has fonts for any script
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        box = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer())  # 'tight' would draw the picture twice
        figure.savefig(out, format="svg", bbox_inches=box.padded(0.03), metadata=nothing)
    text = re.sub(
        r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>| font-family: [^;\"]*;", "", out.getvalue(), flags=re.DOTALL
    )
    text = text[text.index("<svg") :].replace("xlink:href", "href")
    width, height = text.split('viewBox="0 0 ')[1].split('"')[0].split()
    body = re.sub(r"\s*\n\s*", " ", text[text.index(">") + 1 :])
    body = re.sub(r" transform=\"rotate\(-0 [^\"]*\"|<g/> ?", "", body)
    body = re.sub(r"<(?:path|use|text) [^>]*>", _to_tenths, body)
    body = re.sub(r" id=\"(?!m[0-9a-f]{6})[^\"]*\"", "", body)
    own = f"p{crc32(body.encode()):08x}"  # no two pictures of a page share the name of a marker
    body = re.sub(r"( id=\"| href=\"#)", rf"\1{own}-", body)
    body = re.sub(r"font: (?:(\d+) )?([\d.]+)px [^;\"]*", r"font-size: \2px; font-weight: 0\1", body)  # older matplotlib
    body = re.sub("|".join(VARIABLES), lambda found: VARIABLES[found[0]], body)
    name = escape(one_line(title))
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" width="{float(width):.0f}" role="img" aria-label="{name}"><title>{name}</title>{body.strip()}'
    )


def _to_tenths(tag: re.Match[str]) -> str:
    """A tag with its coordinates rounded to a tenth of a pixel."""
    places = r"(?<= d=\")[^\"]*|(?<= [xy]=\")[^\"]*|(?<= transform=\")[^\"]*"
    tenth = r"\d+\.\d\d+"
    return re.sub(
        places, lambda found: re.sub(tenth, lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), found[0]), tag[0]
    )
