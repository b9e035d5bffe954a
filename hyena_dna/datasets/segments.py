"""Stretches of a token store: 0-based half-open, contigs back to back, never across the end of a contig."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["NCounter", "Segment", "merge", "subtract"]


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """A stretch of one contig in the coordinates of a token store."""

    start: int
    end: int
    chrom: str

    @property
    def length(self) -> int:
        """Number of bases."""
        return self.end - self.start


def merge(segments: Iterable[Segment]) -> list[Segment]:
    """The same bases as sorted, disjoint segments; segments of one contig that touch become one."""
    merged: list[Segment] = []
    for segment in sorted(segments):
        if merged and segment.chrom == merged[-1].chrom and segment.start <= merged[-1].end:
            merged[-1] = Segment(merged[-1].start, max(merged[-1].end, segment.end), segment.chrom)
        elif segment.length:
            merged.append(segment)
    return merged


def subtract(segments: Iterable[Segment], holes: Iterable[Segment]) -> list[Segment]:
    """The bases of some segments that are in no hole, as sorted, disjoint segments."""
    kept: list[Segment] = []
    cuts = merge(holes)
    first = 0
    for segment in merge(segments):
        while first < len(cuts) and cuts[first].end <= segment.start:
            first += 1
        start, i = segment.start, first
        while i < len(cuts) and cuts[i].start < segment.end:
            if cuts[i].start > start:
                kept.append(Segment(start, cuts[i].start, segment.chrom))
            start = max(start, cuts[i].end)
            i += 1
        if start < segment.end:
            kept.append(Segment(start, segment.end, segment.chrom))
    return kept


class NCounter:
    """Counts N in any stretch of a store, from the runs of N alone.

    Args:
        n_runs: runs of N, `(k, 2)`, sorted, disjoint, half-open.
    """

    def __init__(self, n_runs: NDArray[np.int64]) -> None:
        self._starts = np.ascontiguousarray(n_runs[:, 0], dtype=np.int64)
        self._lengths = np.ascontiguousarray(n_runs[:, 1], dtype=np.int64) - self._starts
        self._before_run = np.concatenate(([0], np.cumsum(self._lengths)))

    def before(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of N before each position of the store."""
        if self._starts.size == 0:
            return np.zeros(positions.shape, dtype=np.int64)
        run = np.searchsorted(self._starts, positions, side="right") - 1
        inside = np.minimum(positions - self._starts[run], self._lengths[run])
        return np.where(run < 0, 0, self._before_run[run] + inside)

    def count(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of N in each stretch `[start, end)`."""
        return self.before(ends) - self.before(starts)
