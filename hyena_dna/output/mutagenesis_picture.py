"""A heat map of all substitutions of a region under a sequence logo of how much each of its bases matters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena_dna.errors import InputError
from hyena_dna.files import atomic_path
from hyena_dna.output.mutagenesis_files import BASES, mean_effect

__all__ = ["MOST_DRAWN", "PICTURE_SUFFIXES", "check_picture", "draw_logo", "write_mutagenesis_picture"]

PICTURE_SUFFIXES = (".png", ".svg", ".pdf")

MOST_DRAWN = 2000
"""bp of the longest region that a picture can show."""

_PER_ROW = 100
_COLOURS = {"A": "#109648", "C": "#255c99", "G": "#f7b32b", "T": "#d62839"}


def check_picture(path: Path, length: int) -> None:
    """Check, before any work, that a region can be drawn to a file of this name.

    Args:
        path: the file.
        length: bp of the longest region.

    Raises:
        InputError: the suffix is none of `PICTURE_SUFFIXES`, or the region is longer than `MOST_DRAWN`.
    """
    if path.suffix not in PICTURE_SUFFIXES:
        raise InputError(f"a picture is written as one of {', '.join(PICTURE_SUFFIXES)}", file=path)
    if length > MOST_DRAWN:
        reason = f"a picture shows at most {MOST_DRAWN:,} bp, not {length:,}"
        raise InputError(reason, file=path, remedy="give a shorter region, or leave --plot out")


def draw_logo(axes: Any, letters: str, heights: NDArray[np.float64]) -> None:
    """Draw letters as high as numbers, below the line where these are negative; bar i is centred on i.

    Args:
        axes: matplotlib axes.
        letters: (length,) bases; others are drawn in grey.
        heights: (length,); NaN leaves a place empty.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import PathPatch
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    font = FontProperties(family="DejaVu Sans", weight="bold")
    paths = {letter: TextPath((0, 0), letter, size=1, prop=font) for letter in set(letters)}
    for at, (letter, height) in enumerate(zip(letters, heights.tolist(), strict=True)):
        if np.isnan(height) or not height:
            continue
        box = paths[letter].get_extents()
        fitted = (
            Affine2D()
            .translate(-box.x0, -box.y0)
            .scale(0.9 / box.width, abs(height) / box.height)
            .translate(at - 0.45, min(0.0, height))
        )
        axes.add_patch(
            PathPatch(fitted.transform_path(paths[letter]), color=_COLOURS.get(letter, "#888888"), linewidth=0)
        )
    known = heights[~np.isnan(heights)]
    low, high = (min(0.0, known.min()), max(0.0, known.max())) if len(known) else (0.0, 1.0)
    margin = 0.05 * (high - low) or 1.0
    axes.set_xlim(-0.5, len(letters) - 0.5)
    axes.set_ylim(low - margin, high + margin)
    axes.axhline(0, color="#444444", linewidth=0.6)


def write_mutagenesis_picture(
    path: Path,
    *,
    chrom: str,
    start: int,
    bases: str,
    effects: NDArray[np.float64],
    unit: str,
    title: str,
    subtitle: str,
    marked: tuple[int, int] | None = None,
) -> None:
    """Write a picture in rows of 100 bp: a logo of minus the mean effect of each base, and the effects in colours.

    Args:
        path: `.png`, `.svg` or `.pdf`.
        chrom: contig.
        start: first base, 0-based; the axis counts from 1.
        bases: reference bases.
        effects: (length, 4), by position and alternative base A, C, G, T; NaN for the reference base.
        unit: what an effect is.
        title: heading.
        subtitle: how the effects were made.
        marked: first base and one past the last, 0-based, of a part to be marked with a bar.

    Raises:
        InputError: the region is too long, or the file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_picture(path, len(bases))
    rows = -(-len(bases) // _PER_ROW)
    width = min(len(bases), _PER_ROW)
    figure = Figure(figsize=(max(6.0, 1.6 + 0.14 * width), 0.9 + 2.5 * rows), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2 * rows, 1, height_ratios=[1.3, 1.0] * rows)
    importance = -mean_effect(effects)
    known = np.abs(effects[~np.isnan(effects)])
    limit = float(np.quantile(known, 0.995)) if len(known) else 0.0
    limit = limit or 1.0
    known = importance[~np.isnan(importance)]
    span = (min(0.0, known.min()), max(0.0, known.max())) if len(known) else (0.0, 1.0)
    maps, shown = [], None
    for row in range(rows):
        here = slice(row * _PER_ROW, min(len(bases), (row + 1) * _PER_ROW))
        logo, heat = figure.add_subplot(grid[2 * row]), figure.add_subplot(grid[2 * row + 1])
        size = here.stop - here.start
        draw_logo(logo, bases[here], importance[here])
        margin = 0.05 * (span[1] - span[0]) or 1.0
        logo.set_ylim(span[0] - margin, span[1] + margin)
        logo.set_ylabel("minus mean\neffect", fontsize=8)
        logo.tick_params(labelbottom=False, bottom=False, labelsize=7)
        logo.spines[["top", "right", "bottom"]].set_visible(False)
        shown = heat.imshow(
            effects[here].T, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest"
        )
        heat.set_facecolor("#d9d9d9")
        reference = [(at, BASES.index(base)) for at, base in enumerate(bases[here]) if base in BASES]
        if reference:
            x, y = zip(*reference, strict=True)
            heat.scatter(x, y, s=4, color="#222222", linewidths=0)
        heat.set_yticks(range(len(BASES)), list(BASES), fontsize=8)
        first = start + here.start
        ticks = [at for at in range(size) if (first + at + 1) % 10 == 0] or [0]
        heat.set_xticks(ticks, [f"{first + at + 1:,}" for at in ticks], fontsize=7)
        heat.tick_params(axis="y", length=0)
        if marked is not None and max(marked[0], first) < min(marked[1], first + size):
            low, high = max(marked[0], first) - first - 0.5, min(marked[1], first + size) - first - 0.5
            logo.plot([low, high], [1.03, 1.03], transform=logo.get_xaxis_transform(), color="#222222", linewidth=3,
                      solid_capstyle="butt", clip_on=False)  # fmt: skip
        # The last row keeps the width of a base.
        for axes in (logo, heat):
            axes.set_xlim(-0.5, width - 0.5)
        maps.append(heat)
    maps[-1].set_xlabel(f"{chrom}, 1-based position; dots mark the reference base", fontsize=8)
    assert shown is not None
    figure.colorbar(shown, ax=maps, label=unit, pad=0.01, fraction=0.03)
    figure.suptitle(f"{title}\n{subtitle}", x=0.01, ha="left", fontsize=10)
    # Ids of SVG elements are random otherwise: the same effects give the same bytes.
    with atomic_path(path) as temporary, mpl.rc_context({"svg.hashsalt": "hyena-dna"}):
        dated: dict[str, Any] = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
        figure.savefig(temporary, metadata=dated[path.suffix])
