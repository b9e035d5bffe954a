"""Points on a plane, coloured by class or value: a PNG, and a self-contained page to move about in."""

from __future__ import annotations

import base64
import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from hyena_dna.files import atomic_open, atomic_path
from hyena_dna.output.page import render_page

__all__ = ["Scatter", "write_scatter_page", "write_scatter_picture"]

_MOST_CLASSES = 12
_OTHER = "other"
_MISSING = "no label"
_GREY = "#9aa3af"
# Okabe and Ito's colours, which most colour-blind readers tell apart, and after them darker kin.
_PALETTE = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9"),
    *("#b8a800", "#5b4bb7", "#7a5230", "#3f7f5f", "#a6325a", "#4d4d4d"),
)
_SCALE = "viridis"


@dataclass(frozen=True)
class Scatter:
    """What a scatter plot shows.

    Attributes:
        points: (points, 2).
        axes: names of the axes.
        names: name of each point, shown under the pointer.
        places: where each point lies, shown beside the name; empty for nothing.
        values: class or number of each point as text, None where it has none; None for a plot of one colour.
        column: what the values are.
        title: heading.
        subtitle: how the points were made.
    """

    points: NDArray[np.float64]
    axes: tuple[str, str]
    names: Sequence[str]
    places: Sequence[str]
    values: Sequence[str | None] | None
    column: str
    title: str
    subtitle: str


@dataclass(frozen=True)
class _Colours:
    """Classes in the order of the legend, with colours, and the class of each point; or numbers on a scale."""

    names: list[str]
    colours: list[str]
    codes: NDArray[np.int64]
    numbers: NDArray[np.float64] | None


def write_scatter_picture(scatter: Scatter, path: Path) -> None:
    """Write a PNG of 1,500 by 1,050 pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    coloured = _colour(scatter)
    figure = Figure(figsize=(10, 7), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    size = max(2.0, min(30.0, 60_000 / max(1, len(scatter.points))))
    # Drawn in a random order, or the class that comes last would hide the others.
    order = np.random.default_rng(0).permutation(len(scatter.points))
    x, y = scatter.points[order].T
    options: dict[str, Any] = {"s": size, "linewidths": 0, "alpha": 0.6, "rasterized": True}
    if coloured.numbers is not None:
        shown = axes.scatter(x, y, c=coloured.numbers[order], cmap=_SCALE, **options)
        figure.colorbar(shown, ax=axes, label=scatter.column, pad=0.01)
    else:
        axes.scatter(x, y, c=np.array(coloured.colours)[coloured.codes[order]], **options)
        if scatter.values is not None:
            counts = np.bincount(coloured.codes, minlength=len(coloured.names))
            for name, colour, count in zip(coloured.names, coloured.colours, counts, strict=True):
                axes.scatter([], [], color=colour, s=40, label=f"{name} ({count:,})")
            axes.legend(title=scatter.column, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.set_xlabel(scatter.axes[0])
    axes.set_ylabel(scatter.axes[1])
    axes.set_title(f"{scatter.title}\n{scatter.subtitle}", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})


def write_scatter_page(scatter: Scatter, path: Path) -> None:
    """Write an HTML page: drag to move, wheel to zoom, names under the pointer, classes to be hidden in the legend."""
    coloured = _colour(scatter)
    counts = np.bincount(coloured.codes, minlength=len(coloured.names))
    data = {
        "names": list(scatter.names),
        "places": list(scatter.places),
        "labels": [value or _MISSING for value in scatter.values] if scatter.values is not None else [],
        "column": scatter.column,
    }
    html = render_page(
        "scatter.html.j2",
        title=scatter.title,
        subtitle=scatter.subtitle,
        axes=scatter.axes,
        column=scatter.column,
        count=f"{len(scatter.points):,}",
        classes=list(zip(coloured.names, coloured.colours, [f"{count:,}" for count in counts], strict=True))
        if scatter.values is not None
        else [],
        data=_script_json(data),
        points=_packed(_unit_square(scatter.points), np.float32),
        colours=_script_json(coloured.colours),
        codes=_packed(coloured.codes, np.uint8),
    )
    with atomic_open(path, "w") as handle:
        handle.write(html)


def _script_json(value: Any) -> Markup:
    """JSON that cannot end the script element it stands in, whatever names a file has."""
    text = json.dumps(value, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _packed(values: NDArray[Any], dtype: type) -> str:
    return base64.b64encode(np.ascontiguousarray(values, np.dtype(dtype).newbyteorder("<")).tobytes()).decode("ascii")


def _unit_square(points: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = points.min(0), points.max(0)
    scaled: NDArray[np.float64] = (points - low) / np.where(high > low, high - low, 1)
    return scaled


def _colour(scatter: Scatter) -> _Colours:
    """The most frequent classes in colours of their own, rarer ones together; many numbers on a scale; none in grey."""
    values = scatter.values
    if values is None:
        return _Colours([""], [_PALETTE[0]], np.zeros(len(scatter.points), np.int64), None)
    counts = Counter(value for value in values if value is not None)
    numbers = _numbers(values, counts)
    if numbers is not None:
        return _on_scale(numbers)
    names = [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    shown = names if len(names) <= _MOST_CLASSES else names[: _MOST_CLASSES - 1]
    colours = list(_PALETTE[: len(shown)])
    known = {name: code for code, name in enumerate(shown)}
    for extra, needed in ((_OTHER, len(shown) < len(names)), (_MISSING, None in values)):
        if needed:
            shown, colours = [*shown, extra], [*colours, _GREY if extra == _MISSING else "#c9ced6"]
    other, missing = len(known), len(shown) - 1
    codes = np.array([missing if value is None else known.get(value, other) for value in values], np.int64)
    return _Colours(shown, colours, codes, None)


def _numbers(values: Sequence[str | None], counts: Counter[str]) -> NDArray[np.float64] | None:
    """The values as numbers, where all that are there are numbers and too many for classes."""
    if len(counts) <= _MOST_CLASSES:
        return None
    try:
        found = np.array([math.nan if value is None else float(value) for value in values])
    except ValueError:
        return None
    return found if not np.isinf(found).any() else None


def _on_scale(numbers: NDArray[np.float64]) -> _Colours:
    """Numbers in steps of a colour scale, named by the range of each step."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    low, high = float(np.nanmin(numbers)), float(np.nanmax(numbers))
    borders = np.linspace(low, high, _MOST_CLASSES)
    codes = np.clip(np.digitize(numbers, borders) - 1, 0, _MOST_CLASSES - 2)
    names = [f"{a:.3g} to {b:.3g}" for a, b in itertools.pairwise(borders)]
    colours = [to_hex(colormaps[_SCALE](step / (_MOST_CLASSES - 2))) for step in range(_MOST_CLASSES - 1)]
    if np.isnan(numbers).any():
        names, colours = [*names, _MISSING], [*colours, _GREY]
        codes = np.where(np.isnan(numbers), len(names) - 1, codes)
    return _Colours(names, colours, codes, numbers)
