"""Line charts as inline SVG: no fonts, scripts or files from elsewhere, styled by the page that holds them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Rule", "Series", "line_chart"]

_WIDTH, _HEIGHT = 760, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 14, 46
_MOST_POINTS = 600


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: shown in the legend.
        x: positions, rising.
        y: values; as many as `x`.
        style: the CSS class that colours it: `a` to `f`.
        points: draw a dot, with its value as a tooltip, at every position.
        faint: draw the line thin and pale, as raw data under a smooth line.
        joined: draw the line; without it the dots alone, none of them averaged.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: str = "a"
    points: bool = False
    faint: bool = False
    joined: bool = True


@dataclass(frozen=True)
class Rule:
    """A horizontal line with a label: a value to compare with."""

    name: str
    y: float
    style: str = "b"


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    rules: Sequence[Rule] = (),
    y_limit: float | None = None,
    from_zero: bool = False,
) -> str:
    """Draw series over a common pair of axes.

    Args:
        series: the lines; ones with many points are thinned by averaging neighbours.
        x_label: name and unit of the horizontal axis.
        y_label: name and unit of the vertical axis.
        rules: horizontal lines to compare with.
        y_limit: values above it are cut off, so that a first few large ones do not flatten the rest.
        from_zero: begin the vertical axis at zero.

    Returns:
        An `<svg>` element; one sentence in a `<p>` when there is nothing to draw.
    """
    drawn = [_thin(one) for one in series if len(one.x)]
    if not drawn:
        return '<p class="empty">Nothing was logged yet.</p>'
    xs = _Axis.around([x for one in drawn for x in one.x], _LEFT, _WIDTH - _RIGHT)
    values = [y for one in drawn for y in one.y] + [rule.y for rule in rules]
    ceiling = max(values) if y_limit is None else max(min(max(values), y_limit), min(values))
    ys = _Axis.around([min(y, ceiling) for y in values] + [0.0] * from_zero, _HEIGHT - _BOTTOM, _TOP, pad=0.06)
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(f"{y_label} over {x_label}")}">',
        *_grid(xs, ys, x_label, y_label),
    ]
    parts += [_rule(rule, ys) for rule in rules]
    parts += [_line(one, xs, ys, ceiling) for one in drawn]
    parts.append("</svg>")
    return _legend(drawn) + "".join(parts)


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    begin: float
    end: float

    @classmethod
    def around(cls, values: Sequence[float], begin: float, end: float, pad: float = 0.0) -> _Axis:
        low, high = min(values), max(values)
        spare = (high - low) * pad or (abs(high) * 0.1 or 1.0) * (high == low)
        return cls(low - spare, high + spare, begin, end)

    def at(self, value: float) -> float:
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)

    def ticks(self, wanted: int) -> list[float]:
        rough = (self.high - self.low) / wanted
        size = 10.0 ** math.floor(math.log10(rough))
        step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def _thin(series: Series) -> Series:
    size = math.ceil(len(series.x) / _MOST_POINTS)
    if size <= 1 or not series.joined:
        return series
    starts = range(0, len(series.x), size)
    x = [sum(series.x[i : i + size]) / len(series.x[i : i + size]) for i in starts]
    y = [sum(series.y[i : i + size]) / len(series.y[i : i + size]) for i in starts]
    return Series(series.name, x, y, series.style, series.points, series.faint)


def _grid(xs: _Axis, ys: _Axis, x_label: str, y_label: str) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for tick in ys.ticks(5):
        y = ys.at(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    for tick in xs.ticks(7):
        x = xs.at(tick)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 5}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 19}" text-anchor="middle">{_number(tick)}</text>')
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    middle = (_LEFT + right) / 2
    parts.append(f'<text class="label" x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    centre = (_TOP + bottom) / 2
    turned = f"translate(15 {centre}) rotate(-90)"
    parts.append(f'<text class="label" transform="{turned}" text-anchor="middle">{escape(y_label)}</text>')
    return parts


def _rule(rule: Rule, ys: _Axis) -> str:
    y, right = ys.at(rule.y), _WIDTH - _RIGHT
    return (
        f'<line class="rule {rule.style}" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="mark {rule.style}" x="{right}" y="{y - 6:.1f}" text-anchor="end">{escape(rule.name)}</text>'
    )


def _line(series: Series, xs: _Axis, ys: _Axis, ceiling: float) -> str:
    places = [(xs.at(x), ys.at(min(y, ceiling))) for x, y in zip(series.x, series.y, strict=True)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    faint = " faint" if series.faint else ""
    joined = series.joined and len(places) > 1
    parts = [f'<polyline class="line {series.style}{faint}" points="{path}"/>'] if joined else []
    if series.points or len(places) == 1:
        for (x, y), at, value in zip(places, series.x, series.y, strict=True):
            tooltip = escape(f"{series.name}: {value:.4f} at {_number(at)}")
            circle = f'<circle class="dot {series.style}" cx="{x:.1f}" cy="{y:.1f}" r="3.5">'
            parts.append(f"{circle}<title>{tooltip}</title></circle>")
    return "".join(parts)


def _legend(series: Sequence[Series]) -> str:
    named = [one for one in series if one.name]
    if len(named) < 2:
        return ""
    keys = "".join(
        f'<span class="key {one.style}{" faint" if one.faint else ""}"><i></i>{escape(one.name)}</span>'
        for one in named
    )
    return f'<p class="legend">{keys}</p>'


def _number(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    if value and abs(value) < 1e-3:
        return f"{value:.1e}".replace("e-0", "e-")
    return f"{value:.4g}"
