"""Small plots as SVG text. Colours and fonts are classes of the page that holds them, so a plot follows its light or dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log10
from typing import NamedTuple

COLOURS = 8  # classes c0 to c7


class Curve(NamedTuple):
    """A line `(x, y)` of a colour; `band` is `(x, low, high)` around it."""

    label: str
    colour: int
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()


class Dot(NamedTuple):
    """A named point; `bounds` are those of its interval in y, `start` is where the line that leads to it begins."""

    label: str
    x: float
    y: float
    colour: int = 0
    start: tuple[float, float] | None = None
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
    """A box of pixels and the values at its edges."""

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
        """Lines at round numbers, with these, and what they are of."""
        parts = []
        for value in ticks(*self.xs, max(2, int(self.width / 45))):
            x = self.x(value)
            parts.append(f'<path class="grid" d="M{x} {self.top}V{self.bottom}"/>')
            parts.append(text(x, self.bottom + 14, _number(value), "middle"))
        for value in ticks(*self.ys, max(2, int(self.height / 26))) if y_label else ():
            y = self.y(value)
            parts.append(f'<path class="grid" d="M{self.left} {y}H{self.right}"/>')
            parts.append(text(self.left - 5, y + 4, _number(value), "end"))
        parts.append(text((self.left + self.right) / 2, self.bottom + 30, x_label, "middle"))
        if y_label:
            parts.append(text(self.left - 5, self.top - 8, y_label, "start"))
        return "".join(parts)


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most about `most` round numbers within the bounds."""
    rough = (high - low) / most
    power = 10 ** floor(log10(rough))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough * 0.999)
    return [round(place * step, 12) for place in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def bounds(values: Sequence[float], margin: float = 0.06) -> tuple[float, float]:
    """Bounds that hold all finite values, with room; of equal values, one around them."""
    finite = [value for value in values if isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    room = (high - low) * margin or abs(low) * 0.1 or 1.0
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


def intervals(title: str, bars: Sequence[Bar], x_label: str, mark: float | None = None) -> str:
    """A line a bar: its interval, its mean, faintly its values; `mark` is a dashed line through all."""
    ends = [value for bar in bars for value in (*bar.values, bar.low, bar.high) if value is not None]
    names = 7 * max(len(bar.label) for bar in bars) + 12
    frame = Frame(names, 26, 560, 24 * len(bars), bounds(ends))
    parts = [text(0, 12, title, kind="title"), frame.grid(x_label)]
    if mark is not None:
        parts.append(f'<path class="mark" d="M{frame.x(mark)} {frame.top}V{frame.bottom}"/>')
    for place, bar in enumerate(bars):
        y = frame.top + 24 * place + 12
        parts.append(text(names - 8, y + 4, bar.label, "end"))
        parts += [f'<circle class="faint" cx="{frame.x(value)}" cy="{y}" r="2.5"/>' for value in bar.values]
        if bar.low is not None and bar.high is not None:
            parts.append(f'<path class="interval" d="M{frame.x(bar.low)} {y}H{frame.x(bar.high)}"/>')
        parts.append(f'<circle class="c0 fill" cx="{frame.x(bar.mean)}" cy="{y}" r="4.5"/>')
    return _svg(frame.right + 12, frame.bottom + 36, title, "".join(parts))


def scatter(title: str, dots: Sequence[Dot], x_label: str, y_label: str, from_zero: bool = False) -> str:
    """Named points; the names stand in a column at the right, led to by thin lines, so that none covers another."""
    xs = [dot.x for dot in dots] + [dot.start[0] for dot in dots if dot.start] + ([0.0] if from_zero else [])
    ys = [dot.y for dot in dots] + [dot.start[1] for dot in dots if dot.start]
    ys += [end for dot in dots for end in dot.bounds or ()]
    frame = Frame(44, 42, 300, max(220, 14 * len(dots)), bounds(xs), bounds(ys))
    parts = [text(0, 12, title, kind="title"), frame.grid(x_label, y_label)]
    for dot, name_y in zip(dots, _apart([frame.y(dot.y) for dot in dots], 13, frame.top, frame.bottom), strict=True):
        x, y = frame.x(dot.x), frame.y(dot.y)
        if dot.start:
            parts.append(f'<path class="c{dot.colour} line" d="M{frame.x(dot.start[0])} {frame.y(dot.start[1])}L{x} {y}"/>')
        if dot.bounds:
            parts.append(f'<path class="c{dot.colour} line faint" d="M{x} {frame.y(dot.bounds[0])}V{frame.y(dot.bounds[1])}"/>')
        parts.append(f'<path class="leader" d="M{x} {y}L{frame.right + 4} {name_y:.1f}"/>')
        parts.append(f'<circle class="c{dot.colour} fill" cx="{x}" cy="{y}" r="4.5"/>')
        parts.append(text(frame.right + 8, name_y + 4, dot.label))
    names = 7 * max(len(dot.label) for dot in dots) + 12
    return _svg(frame.right + names, frame.bottom + 36, title, "".join(parts))


def _apart(places: Sequence[float], space: float, top: float, bottom: float) -> list[float]:
    """Places moved to stand `space` apart between top and bottom, in their order."""
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


def curves(title: str, lines: Sequence[Curve], x_label: str, xs: tuple[float, float], ys: tuple[float, float]) -> str:
    """Curves in a small frame of given bounds, so that several can be read side by side."""
    frame = Frame(40, 26, 220, 120, xs, ys)
    parts = [text(0, 12, title, kind="title"), frame.grid(x_label, " ")]
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
