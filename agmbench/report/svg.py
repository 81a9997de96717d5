"""Small plots as SVG text. Colours and fonts are classes of the page that holds them, so a plot follows its light or dark theme."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log10
from typing import NamedTuple

COLOURS = 8  # classes c0 to c7


class Curve(NamedTuple):
    """A line `(x, y)` in a colour; `band` is `(x, low, high)` around it."""

    label: str
    colour: int
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()


class Dot(NamedTuple):
    """A named point; `bounds` are the ends of its interval in y."""

    label: str
    x: float
    y: float
    bounds: tuple[float, float] | None = None


class Bar(NamedTuple):
    """A named mean with its interval and the values behind it."""

    label: str
    mean: float
    low: float | None
    high: float | None
    values: Sequence[float]


@dataclass(frozen=True)
class Frame:
    """A box in pixels, and the values at its edges."""

    left: float
    top: float
    width: float
    height: float
    xs: tuple[float, float]
    ys: tuple[float, float] = (0, 1)

    def x(self, value: float) -> float:
        return round(self.left + self.width * (value - self.xs[0]) / (self.xs[1] - self.xs[0]), 1)

    def y(self, value: float) -> float:
        return round(self.top + self.height * (self.ys[1] - value) / (self.ys[1] - self.ys[0]), 1)

    @property
    def bottom(self) -> float:
        return self.top + self.height

    @property
    def right(self) -> float:
        return self.left + self.width

    def grid(self, x_label: str = "", y_label: str = "") -> str:
        """Grid lines at round numbers, with the numbers and the axis labels."""
        parts = []
        for value in ticks(*self.xs, max(2, int(self.width / 45))):
            x = self.x(value)
            parts.append(f'<path class="grid" d="M{x} {self.top}V{self.bottom}"/>')
            parts.append(text(x, self.bottom + 14, _number(value), "middle"))
        for value in ticks(*self.ys, max(2, int(self.height / 20))) if y_label else ():
            y = self.y(value)
            parts.append(f'<path class="grid" d="M{self.left} {y}H{self.right}"/>')
            parts.append(text(self.left - 5, y + 4, _number(value), "end"))
        parts.append(text((self.left + self.right) / 2, self.bottom + 30, x_label, "middle"))
        if y_label:
            parts.append(text(self.left - 5, self.top - 8, y_label, "start"))
        return "".join(parts)


def ticks(low: float, high: float, most: int) -> list[float]:
    """About `most` round numbers at most, within the bounds."""
    rough = (high - low) / most
    power = 10 ** floor(log10(rough))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough * 0.999)
    return [round(place * step, 12) for place in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def bounds(values: Sequence[float], margin: float = 0.06) -> tuple[float, float]:
    """Bounds around all finite values, with a margin; if all are equal, an interval around them."""
    finite = [value for value in values if isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    room = (high - low) * margin if high > low else abs(low) * 0.1 or 1.0
    return low - room, high + room


def text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>' if words else ""


def _number(value: float) -> str:
    return f"{value:g}" if abs(value) < 1e5 else f"{value:.0e}"


def _svg(width: float, height: float, title: str, body: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )


def intervals(
    title: str,
    bars: Sequence[Bar],
    x_label: str,
    mark: float | None = None,
    colour: int = 0,
    led: bool = False,
    width: float = 560,
) -> str:
    """One line per bar: its interval, its mean, and a tick per value. `mark` is a dashed line across all; `led` joins each mean to it."""
    ends = [value for bar in bars for value in (*bar.values, bar.low, bar.high) if value is not None]
    names = 7 * max(len(bar.label) for bar in bars) + 12
    frame = Frame(names, 26, width, 24 * len(bars), bounds(ends))
    parts = [text(0, 12, title, kind="title"), frame.grid(x_label)]
    if mark is not None:
        parts.append(f'<path class="mark" d="M{frame.x(mark)} {frame.top}V{frame.bottom}"/>')
    for place, bar in enumerate(bars):
        y = frame.top + 24 * place + 12
        parts.append(text(names - 8, y + 4, bar.label, "end"))
        if bar.low is not None and bar.high is not None:
            parts.append(f'<path class="c{colour} line faint" d="M{frame.x(bar.low)} {y}H{frame.x(bar.high)}"/>')
        parts += [f'<path class="tick" d="M{frame.x(value)} {y - 5}V{y + 5}"/>' for value in bar.values]
        if led and mark is not None:
            parts.append(f'<path class="c{colour} led" d="M{frame.x(mark)} {y}H{frame.x(bar.mean)}"/>')
        parts.append(f'<circle class="c{colour} fill" cx="{frame.x(bar.mean)}" cy="{y}" r="4.5"/>')
    return _svg(frame.right + 12, frame.bottom + 36, title, "".join(parts))


def scatter(title: str, dots: Sequence[Dot], x_label: str, y_label: str) -> str:
    """Named points over an axis that begins at zero. Names stand to the right of their points, or of a column of nearby points."""
    names = 7 * max(len(dot.label) for dot in dots) + 24
    ends = [end for dot in dots for end in (dot.y, *(dot.bounds or ()))]
    frame = Frame(44, 42, 560, max(220, 14 * len(dots)), bounds([0.0, *(dot.x for dot in dots)]), bounds(ends))
    parts = [text(0, 12, title, kind="title"), frame.grid(x_label, y_label)]
    for column in _columns(sorted(dots, key=lambda dot: dot.x), names, frame):
        beside = frame.x(column[-1].x) + 14
        heights = _apart([frame.y(dot.y) for dot in column], 13, frame.top, frame.bottom)
        for dot, name_y in zip(column, heights, strict=True):
            x, y = frame.x(dot.x), frame.y(dot.y)
            if dot.bounds:
                parts.append(f'<path class="c0 line faint" d="M{x} {frame.y(dot.bounds[0])}V{frame.y(dot.bounds[1])}"/>')
            parts.append(f'<path class="leader" d="M{x} {y}L{beside - 3} {name_y:.1f}"/>')
            parts.append(f'<circle class="c0 fill" cx="{x}" cy="{y}" r="4.5"/>')
            parts.append(text(beside, name_y + 4, dot.label))
    return _svg(frame.right + names, frame.bottom + 36, title, "".join(parts))


def _columns(dots: Sequence[Dot], room: float, frame: Frame) -> list[list[Dot]]:
    """The points from left to right, grouped so that `room` for the names is left between groups."""
    columns: list[list[Dot]] = []
    for dot in dots:
        if columns and frame.x(dot.x) - frame.x(columns[-1][-1].x) < room:
            columns[-1].append(dot)
        else:
            columns.append([dot])
    return columns


def _apart(places: Sequence[float], space: float, top: float, bottom: float) -> list[float]:
    """The places, moved so that they are `space` apart between top and bottom, in their order."""
    order = sorted(range(len(places)), key=lambda each: places[each])
    moved = list(places)
    lowest = top
    for each in order:
        moved[each] = lowest = max(places[each], lowest)
        lowest += space
    highest = bottom
    for each in reversed(order):
        moved[each] = highest = min(moved[each], highest)
        highest -= space
    return moved


def curves(
    title: str,
    lines: Sequence[Curve],
    x_label: str,
    y_label: str,
    xs: tuple[float, float],
    ys: tuple[float, float],
    mark: float | None = None,
) -> str:
    """Curves in a small frame with given bounds, so that several frames can be compared side by side; `mark` is a dashed line across."""
    frame = Frame(40, 40, 270, 130, xs, ys)
    parts = [text(0, 12, title, kind="title"), frame.grid(x_label, y_label)]
    if mark is not None and ys[0] <= mark <= ys[1]:
        parts.append(f'<path class="mark" d="M{frame.left} {frame.y(mark)}H{frame.right}"/>')
    for line in lines:
        kind = f"c{line.colour}"
        if line.band:
            upper = [f"{frame.x(x)} {frame.y(high)}" for x, _, high in line.band]
            lower = [f"{frame.x(x)} {frame.y(low)}" for x, low, _ in reversed(line.band)]
            parts.append(f'<path class="{kind} band" d="M{"L".join([*upper, *lower])}Z"/>')
        if len(line.points) == 1:
            parts.append(
                f'<circle class="{kind} fill" cx="{frame.x(line.points[0][0])}" cy="{frame.y(line.points[0][1])}" r="3"/>'
            )
        else:
            parts.append(f'<path class="{kind} line" d="M{"L".join(f"{frame.x(x)} {frame.y(y)}" for x, y in line.points)}"/>')
    return _svg(frame.right + 10, frame.bottom + 36, title, "".join(parts))
