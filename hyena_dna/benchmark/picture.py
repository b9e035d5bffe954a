"""Time and memory against length, as a picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hyena_dna.benchmark.run import Cell
from hyena_dna.files import atomic_path

__all__ = ["write_picture"]

# Okabe and Ito's colours, which most colour-blind readers tell apart.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d", "#7a5230")
# A panel spans at least this factor, or noise would look like growth.
_LEAST_SPAN = 6.0
_SWEEPS = {"tokens": "constant tokens", "batch-1": "batch 1"}


def write_picture(path: Path, title: str, cells: Sequence[Cell]) -> bool:
    """Write a PNG: a row of two panels, time and memory, for every kind of work and sweep with two lengths or more.

    Axes are logarithmic. Measured points are joined by solid lines, extrapolated ones by dotted lines with hollow
    marks; every line carries its contender's name.

    Returns:
        Whether there was anything to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.median is not None:
            groups[cell.workload.title, cell.workload.sweep].append(cell)
    groups = {key: group for key, group in groups.items() if len({cell.workload.length for cell in group}) > 1}
    if not groups:
        return False
    names = list(dict.fromkeys(cell.contender.name for group in groups.values() for cell in group))
    colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(names)}
    figure = Figure(figsize=(13, 4.2 * len(groups) + 0.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(groups), 2, squeeze=False)
    for row, ((work, sweep), group) in zip(axes, groups.items(), strict=True):
        _panel(row[0], group, colours, f"{work}, {_SWEEPS[sweep]}: milliseconds", memory=False)
        _panel(row[1], group, colours, f"{work}, {_SWEEPS[sweep]}: peak memory, GiB", memory=True)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})
    return True


def _panel(axes: Any, cells: Sequence[Cell], colours: dict[str, str], title: str, *, memory: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ends = []
    for name in dict.fromkeys(cell.contender.name for cell in cells):
        points = sorted(
            (cell.workload.length, value, cell.status == "ok")
            for cell in cells
            if cell.contender.name == name
            and (value := (cell.peak_bytes or 0) / 2**30 if memory else cell.median or 0.0) > 0
        )
        if not points:
            continue
        measured = [(length, value) for length, value, real in points if real]
        beyond = [(length, value) for length, value, real in points if not real]
        if measured:
            axes.plot(*zip(*measured, strict=True), color=colours[name], marker="o", markersize=3.5, linewidth=1.6)
        if beyond:
            joined = [*measured[-1:], *beyond]
            axes.plot(*zip(*joined, strict=True), color=colours[name], linestyle=":", linewidth=1.2)
            axes.plot(
                *zip(*beyond, strict=True), color=colours[name], linestyle="", marker="o", markersize=4,
                markerfacecolor="white",
            )  # fmt: skip
        ends.append((*points[-1][:2], name))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(_length))
    low, high = axes.get_ylim()
    if high < _LEAST_SPAN * low:
        middle = (low * high) ** 0.5
        axes.set_ylim(middle / _LEAST_SPAN**0.5, middle * _LEAST_SPAN**0.5)
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("length, bp")
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, which="major", color="#e3e6ea", linewidth=0.7)
    _label_ends(axes, ends, colours)


def _label_ends(axes: Any, ends: list[tuple[int, float, str]], colours: dict[str, str]) -> None:
    """Names at the right ends of lines, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    # Room for the names.
    axes.set_xlim(left, right * (right / left) ** 0.22)
    step = (high / low) ** 0.06
    place = 0.0
    for length, value, name in sorted(ends, key=lambda end: end[1]):
        place = max(value, place * step)
        axes.text(length * (right / left) ** 0.02, place, name, fontsize=8.5, color=colours[name], va="center")


def _length(value: float, _: object) -> str:
    for size, letter in ((1 << 20, "M"), (1 << 10, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
