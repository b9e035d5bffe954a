"""Pictures of what mixes positions: filters, matrices, influence maps, receptive fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hyena_dna.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Curve",
    "Panel",
    "Track",
    "draw_distances",
    "draw_filters",
    "draw_maps",
    "draw_matrices",
    "save_picture",
]

Array = NDArray[np.floating]

_MOST_PIXELS = 512
_ZOOM = 48
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


@dataclass(frozen=True)
class Track:
    """The sequence under a picture.

    Attributes:
        name: of its contig or record.
        start: 0-based position of the first base; for a region on "-" of the last, and positions fall.
        bases: as the model reads them.
        reverse: whether it is read from the "-" strand.
    """

    name: str
    start: int
    bases: str
    reverse: bool = False

    def position(self, index: float) -> float:
        """The 1-based position of a base."""
        return self.start + len(self.bases) - index if self.reverse else self.start + 1 + index

    @property
    def title(self) -> str:
        """Place as people write it, 1-based inclusive."""
        strand = " (-)" if self.reverse else ""
        return f"{self.name}:{self.start + 1:,}-{self.start + len(self.bases):,}{strand}"


@dataclass(frozen=True)
class Panel:
    """One map over output (rows) and input positions (columns).

    Attributes:
        values: (rows, length), not negative; entries above the diagonal are not drawn.
        rows: (rows,) output position of each row, rising.
        title: what it is.
        label: name and unit of the values.
    """

    values: Array
    rows: NDArray[np.int64]
    title: str
    label: str
    limits: tuple[float, float] | None = None
    """Ends of the colour scale; None for what the values span."""


@dataclass(frozen=True)
class Curve:
    """One line over distance: values at 0, 1, 2 ... bp, NaN where there is none, with a band if both are given."""

    name: str
    values: Array
    low: Array | None = None
    high: Array | None = None


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(w_pad=0.12, h_pad=0.06)  # type: ignore[call-arg]
    return figure


def save_picture(figure: Figure, path: Path) -> None:
    """Write a picture as PNG or SVG, by the suffix; the same figure gives the same bytes."""
    import matplotlib

    svg = path.suffix == ".svg"
    metadata = {"Date": None} if svg else {"Software": None}
    options: dict[str, Any] = {} if svg else {"pil_kwargs": {"optimize": True}}
    with matplotlib.rc_context({"svg.hashsalt": "hyena-dna"}), atomic_path(path) as temporary:
        figure.savefig(temporary, metadata=metadata, **options)


def _tidy(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def draw_filters(
    filters: Array, windows: Array, channels: Sequence[int], *, layer: int, max_length: int, subtitle: str
) -> Figure:
    """Long filters h^n(t) of some channels with their windows, and all channels as an image.

    Args:
        filters: (n_filters, d_model, length).
        windows: the same shape.
        channels: drawn as lines, one colour each.
        layer: number of the block, from 1.
        max_length: of the model, in bp.
        subtitle: whose they are.
    """
    from matplotlib.colors import SymLogNorm

    count, width, length = filters.shape
    figure = _figure(12, 3.2 * count + 0.9)
    figure.suptitle(
        f"Long filters of block {layer}: h(t) = window(t) x network(t)\n{subtitle}", fontsize=12, ha="center"
    )
    grid = figure.subplots(count, 2, squeeze=False)
    time = np.arange(length)
    for n in range(count):
        left, right = grid[n]
        for colour, channel in zip(_COLOURS, channels, strict=False):
            left.plot(time, filters[n, channel], color=colour, lw=1.1, label=f"channel {channel}")
            # The window in the scale of its filter: the envelope that touches it.
            scale = np.abs(filters[n, channel] / windows[n, channel]).max()
            for sign in (-1, 1):
                left.plot(time, sign * scale * windows[n, channel], color=colour, lw=0.9, ls=":", alpha=0.8)
        left.plot([], [], color="black", lw=0.9, ls=":", label="window, scaled to touch its filter")
        left.axhline(0, color="black", lw=0.5)
        left.set_xscale("symlog", linthresh=10)
        left.set_xlim(0, length - 1)
        left.set_xlabel("distance t back from the output (bp)")
        left.set_ylabel(f"$h^{n + 1}(t)$")
        low, high = left.get_ylim()
        left.set_ylim(low, high + 0.25 * (high - low))
        left.legend(frameon=False, fontsize=8, ncols=2, loc="upper right")
        _tidy(left, "Filters (lines) within their windows (dotted)")
        limit = float(np.abs(filters[n]).max()) or 1.0
        norm = SymLogNorm(limit / 100, vmin=-limit, vmax=limit)
        shown = right.pcolormesh(
            np.append(time, length), np.arange(width + 1), filters[n], cmap="RdBu_r", norm=norm, rasterized=True
        )
        right.set_xscale("symlog", linthresh=10)
        right.set_xlim(0, length)
        right.set_xlabel("distance t back from the output (bp)")
        right.set_ylabel("channel (slow to fast decay)")
        _tidy(right, f"All {width} channels; the model's context is {max_length:,} bp")
        figure.colorbar(shown, ax=right, label=f"$h^{n + 1}(t)$", pad=0.01)
    return figure


def draw_matrices(matrices: Sequence[Array], titles: Sequence[str], track: Track, *, title: str, label: str) -> Figure:
    """Matrices of channels or heads: sizes of all entries, and the last bases with their signs and letters.

    Args:
        matrices: (length, length) each, zero above the diagonal.
        titles: of each.
        track: the sequence.
        title: of the whole.
        label: what an entry is.
    """
    from matplotlib.colors import TwoSlopeNorm

    length = len(track.bases)
    zoom = slice(max(0, length - _ZOOM), length)
    figure = _figure(13, 5.3 * len(matrices) + 0.6)
    figure.suptitle(f"{title}\n{track.title}", fontsize=12)
    grid = figure.subplots(len(matrices), 2, squeeze=False)
    for (left, right), matrix, name in zip(grid, matrices, titles, strict=True):
        _map(left, Panel(np.abs(matrix), np.arange(length), f"{name}: sizes", f"|{label}|"), track)
        part = np.where(np.tri(len(track.bases[zoom]), dtype=bool), matrix[zoom, zoom], np.nan)
        limit = float(np.nanpercentile(np.abs(part), 99.5)) or 1.0
        shown = right.imshow(part, cmap="RdBu_r", norm=TwoSlopeNorm(0, -limit, limit), interpolation="nearest")
        letters = list(track.bases[zoom])
        size = 8 if len(letters) <= 32 else 6.5
        right.set_xticks(range(len(letters)), letters, fontsize=size, family="monospace")
        right.set_yticks(range(len(letters)), letters, fontsize=size, family="monospace")
        right.tick_params(length=0)
        right.set_xlabel("input base j")
        right.set_ylabel("output base i")
        _tidy(right, f"{name}: the last {len(letters)} bp, with signs")
        right.figure.colorbar(shown, ax=right, label=label, pad=0.01, shrink=0.85, extend="both")
    return figure


def draw_maps(panels: Sequence[Panel], track: Track, *, title: str) -> Figure:
    """Maps side by side, each on a logarithmic colour scale of its own."""
    figure = _figure(7 * len(panels), 6.2)
    figure.suptitle(f"{title}\n{track.title}", fontsize=12)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _map(axes, panel, track)
    return figure


def _map(axes: Axes, panel: Panel, track: Track) -> None:
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    length = len(track.bases)
    values, rows = _shrink(panel.values.astype(np.float64), panel.rows)
    values[values <= 0] = np.nan
    if panel.limits is None:
        found = values[np.isfinite(values)] if np.isfinite(values).any() else np.ones(1)
        bottom, top = (float(end) for end in np.percentile(found, [2, 99.9]))
        norm = LogNorm(min(max(bottom, top / 1e4), top / 10), top)
    else:
        norm = LogNorm(*panel.limits)
    edges = np.append(rows, length)
    across = np.linspace(0, length, values.shape[1] + 1)
    shown = axes.pcolormesh(across, edges, values, cmap="magma_r", norm=norm, rasterized=True)
    axes.set_facecolor("#f4f4f6")
    axes.set_xlim(0, length)
    axes.set_ylim(length, 0)
    axes.set_aspect("equal")
    short = FuncFormatter(lambda index, _: f"{track.position(index):,.0f}" if index < length else "")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(short)
    axes.set_xlabel(f"input position j ({track.name}, bp)")
    axes.set_ylabel(f"output position i ({track.name}, bp)")
    axes.text(0.97, 0.97, "the future:\nnever read", transform=axes.transAxes, ha="right", va="top", color="#777777")
    _tidy(axes, panel.title)
    axes.figure.colorbar(shown, ax=axes, label=panel.label, pad=0.01, shrink=0.85, extend="both")


def _shrink(values: Array, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Means over squares of neighbours, where there are more than a picture has pixels; rows by their first."""
    step, across = (-(-size // _MOST_PIXELS) for size in values.shape)
    first = np.arange(0, len(values), step)
    # Each row of the picture begins where the one above it ends.
    starts = np.concatenate([[0], rows[first[1:] - 1] + 1])
    columns = np.arange(0, values.shape[1], across)
    sums = np.add.reduceat(np.add.reduceat(values, first, axis=0), columns, axis=1)
    counts = np.outer(*(np.diff(np.append(at, size)) for at, size in zip((first, columns), values.shape, strict=True)))
    return sums / counts, starts


def draw_distances(
    curves: Sequence[Curve], shares: Sequence[Curve], *, title: str, subtitle: str, label: str
) -> Figure:
    """Values by distance on logarithmic axes, and the share of their sum that lies within a distance.

    Args:
        curves: by distance in bp.
        shares: rising to 1, in the order of `curves`.
        title: of the whole.
        subtitle: of what.
        label: name and unit of the values.
    """
    figure = _figure(12, 4.8)
    figure.suptitle(f"{title}\n{subtitle}", fontsize=12)
    left, right = figure.subplots(1, 2)
    for colour, curve in zip(_COLOURS, curves, strict=False):
        x, y = _bins(curve.values)
        left.plot(x, y, color=colour, lw=1.6, marker="o", ms=2.5, label=curve.name)
        if curve.low is not None and curve.high is not None:
            left.fill_between(x, _bins(curve.low)[1], _bins(curve.high)[1], color=colour, alpha=0.18, lw=0,
                              label="10th to 90th percentile")  # fmt: skip
    left.set_yscale("log")
    left.set_ylabel(label)
    left.legend(frameon=False, fontsize=9)
    _tidy(left, "By distance")
    for colour, share in zip(_COLOURS, shares, strict=False):
        right.plot(np.arange(1, len(share.values) + 1), share.values, color=colour, lw=1.6, label=share.name)
        half = int(np.searchsorted(share.values, 0.5))
        most = int(np.searchsorted(share.values, 0.9))
        right.plot([half + 1, most + 1], [share.values[half], share.values[most]], "o", color=colour, ms=5,
                   label=f"half within {half + 1:,} bp, 90 % within {most + 1:,} bp")  # fmt: skip
    right.set_ylim(0, 1.02)
    right.set_ylabel("share of the total within this distance")
    right.legend(frameon=False, fontsize=9, loc="lower right")
    _tidy(right, "Added up from the nearest base on")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlabel("distance from the predicted base (bp)")
        axes.grid(alpha=0.25, lw=0.5)
    return figure


def _bins(values: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means in bins that grow with distance, at the mean of distance + 1."""
    size = len(values)
    borders = np.unique(np.geomspace(1, size + 1, 60).round().astype(int))
    x, y = [], []
    for low, high in zip(borders[:-1] - 1, borders[1:] - 1, strict=True):
        part = values[low:high]
        if np.isfinite(part).any():
            x.append((low + high + 1) / 2)
            y.append(float(np.nanmean(part)))
    return np.array(x), np.array(y)
