"""What a track says of places: its mean inside regions against the same regions shifted away, and around points.

    hyena-dna likelihood --model M --genome ce10.fa.gz --region chrIII --tracks chrIII.bw
    python tests/benchmarks/track_profile.py chrIII.log_prob_mean.bw --regions elements.bed --points tss.bed -o tss.png

Regions and points on contigs that the track does not cover are left out. Background: the same regions moved by
`--shift` bp to either side, where they overlap no region; so lengths and neighbourhood are alike. The composition is
not: the GC content of both is printed where `--genome` is given, and a difference of log-probability that GC explains
says nothing about function. The profile is in the direction of each point's strand. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pybigtools
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hyena_dna.genome.interval import Interval
from hyena_dna.genome.reference import Reference
from hyena_dna.genome.regions import read_regions

_SMOOTH = 25


class Track:
    """Values of a bigWig, whole contigs at a time."""

    def __init__(self, path: Path) -> None:
        self._file = pybigtools.open(str(path))
        self._values: dict[str, NDArray[np.float64]] = {}
        self.contigs: dict[str, int] = dict(self._file.chroms())

    def contig(self, name: str) -> NDArray[np.float64]:
        """(length,) NaN where there is none."""
        if name not in self._values:
            self._values[name] = self._file.values(name, fillna=None)
        return self._values[name]

    def mean(self, place: Interval) -> float:
        """Mean over an interval; NaN where a tenth or more of it has no value."""
        values = self.contig(place.chrom)[place.start : place.end]
        known = values[~np.isnan(values)]
        return float(known.mean()) if len(known) > 0.9 * place.length else np.nan


def compare(track: Track, regions: list[Interval], shift: int, genome: Reference | None) -> list[str]:
    """Rows of the table: inside, background, and their difference with its standard error over regions."""
    covered = {name: np.zeros(size + 1, np.int64) for name, size in track.contigs.items()}
    for place in regions:
        covered[place.chrom][place.start] += 1
        covered[place.chrom][place.end] -= 1
    taken = {name: np.cumsum(np.cumsum(steps) > 0) for name, steps in covered.items()}
    pairs: list[tuple[float, float]] = []
    gc: list[tuple[float, float]] = []
    for place in regions:
        for moved in (place.shift(-shift), place.shift(shift)):
            if moved.start < 1 or moved.end > track.contigs[place.chrom]:
                continue
            if taken[place.chrom][moved.end - 1] > taken[place.chrom][moved.start - 1]:
                continue
            pairs.append((track.mean(place), track.mean(moved)))
            if genome is not None:
                gc.append((_gc(genome, place), _gc(genome, moved)))
    found = np.array(pairs).reshape(-1, 2)
    kept = ~np.isnan(found).any(1)
    found = found[kept]
    difference = found[:, 0] - found[:, 1]
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    rows = [
        f"| mean inside {len(found):,} pairs of region and background | {found[:, 0].mean():.4f} |",
        f"| mean of the background, {shift:,} bp away | {found[:, 1].mean():.4f} |",
        f"| difference | {difference.mean():+.4f} +- {error:.4f} (standard error) |",
    ]
    if genome is not None:
        inside, outside = np.array(gc)[kept].T
        slope, offset = np.polyfit(inside - outside, difference, 1)
        rows += [
            f"| GC inside, background | {inside.mean():.3f}, {outside.mean():.3f} |",
            f"| difference at equal GC (linear fit) | {offset:+.4f} (slope {slope:+.3f}) |",
        ]
    return rows


def _gc(genome: Reference, place: Interval) -> float:
    bases = genome.fetch(Interval(place.chrom, place.start, place.end))
    return (bases.count(b"G") + bases.count(b"C")) / max(1, place.length)


def profile(track: Track, points: list[Interval], flank: int) -> NDArray[np.float64]:
    """(points, 2 flank + 1) values around the centre of each point, in the direction of its strand."""
    rows = []
    for point in points:
        centre = point.start + point.length // 2
        if centre - flank < 0 or centre + flank + 1 > track.contigs[point.chrom]:
            continue
        values = track.contig(point.chrom)[centre - flank : centre + flank + 1]
        rows.append(values[::-1] if point.strand == "-" else values)
    return np.array(rows).reshape(-1, 2 * flank + 1)


def draw(rows: NDArray[np.float64], flank: int, label: str, path: Path) -> None:
    """The mean of a profile with two standard errors, smoothed over 25 bp."""
    # Smoothed first, so that the band is that of the means of 25 bp.
    filled = np.where(np.isnan(rows), np.nanmean(rows, 1, keepdims=True), rows)
    smoothed = np.lib.stride_tricks.sliding_window_view(filled, _SMOOTH, 1).mean(-1)
    smooth, spread = smoothed.mean(0), smoothed.std(0, ddof=1) / np.sqrt(len(rows))
    x = np.arange(-flank, flank + 1)[_SMOOTH // 2 : -(_SMOOTH // 2)]
    figure = Figure(figsize=(8, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.fill_between(x, smooth - 2 * spread, smooth + 2 * spread, color="#0072b2", alpha=0.25, linewidth=0)
    axes.plot(x, smooth, color="#0072b2", linewidth=1.5)
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.set_xlabel("bp from the point, in the direction of its strand")
    axes.set_ylabel(label)
    axes.set_title(
        f"mean of {len(rows):,} points, {_SMOOTH} bp at a time, +- 2 standard errors", loc="left", fontsize=10
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    """Compare, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("track", type=Path, help="bigWig")
    parser.add_argument("--regions", type=Path, help="BED of regions to compare with their neighbourhood")
    parser.add_argument("--points", type=Path, help="BED of points with strands, such as transcription start sites")
    parser.add_argument("--genome", type=Path, help="FASTA, for GC content")
    parser.add_argument("--shift", type=int, default=3000, help="bp to the background (default 3,000)")
    parser.add_argument("--flank", type=int, default=1000, help="bp around points (default 1,000)")
    parser.add_argument("-o", "--output", type=Path, help="PNG of the profile around points")
    options = parser.parse_args()
    track = Track(options.track)
    lines = ["| what | figure |", "|---|---|"]
    if options.regions:
        regions = [region.interval for region in read_regions(options.regions)]
        genome = Reference(options.genome) if options.genome else None
        lines += compare(track, [place for place in regions if place.chrom in track.contigs], options.shift, genome)
    if options.points:
        points = [point.interval for point in read_regions(options.points) if point.interval.chrom in track.contigs]
        rows = profile(track, points, options.flank)
        rows = rows[~np.isnan(rows).all(1)]
        centre = slice(options.flank - 50, options.flank + 51)
        lines.append(
            f"| mean within 50 bp of {len(rows):,} points, and over {options.flank:,} bp around | "
            f"{np.nanmean(rows[:, centre]):.4f}, {np.nanmean(rows):.4f} |"
        )
        if options.output:
            draw(rows, options.flank, options.track.stem, options.output)
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
