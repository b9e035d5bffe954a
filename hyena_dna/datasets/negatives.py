"""Background for tasks that come with positives only: random regions of the genome with the same GC content."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hyena_dna.datasets.store import TokenStore
from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval
from hyena_dna.tokenizer import SOFT_MASK, C, G, N

__all__ = ["gc_matched_regions"]

_log = logging.getLogger("hyena_dna")

# Places looked at per round, over all regions that are still wanted, and rounds.
_DRAWS = 1 << 20
_ROUNDS = 40
_MOST_N = 0.05


def gc_matched_regions(
    store: TokenStore,
    positives: Sequence[Interval],
    avoid: Sequence[Interval],
    *,
    per_positive: int = 1,
    tolerance: float = 0.02,
    seed: int = 0,
) -> list[Interval]:
    """Draw regions that match positives one by one in contig, length, strand and GC content.

    Each lies on the contig of its positive, so that a split by contig splits both alike; touches none of `avoid` and
    none of the other drawn ones; and holds at most 5 % N.

    Args:
        store: the genome.
        positives: windows, 0-based half-open; what lies outside their contigs does not count.
        avoid: regions to stay away from: the elements themselves, whose windows may be wider.
        per_positive: regions to draw for each.
        tolerance: largest difference of GC fractions.
        seed: of the draws.

    Returns:
        The regions, sorted by contig in the order of the store, then in that of the positives. Positives for which none
        was found are counted in a warning.

    Raises:
        InputError: no region was found for more than half of the positives.
    """
    drawn: list[Interval] = []
    wanted = 0
    for index, (chrom, length) in enumerate(store.contigs.items()):
        mine = [interval for interval in positives if interval.chrom == chrom]
        if not mine:
            continue
        wanted += len(mine) * per_positive
        near = [interval for interval in avoid if interval.chrom == chrom]
        start = store.offsets[chrom]
        tokens = np.asarray(store.tokens[start : start + length]) & np.uint8(SOFT_MASK - 1)
        contig = _Contig(tokens, near, np.random.default_rng([seed, index]))
        drawn += contig.match([mine[i // per_positive] for i in range(len(mine) * per_positive)], tolerance)
    missing = wanted - len(drawn)
    if 2 * missing > wanted:
        raise InputError(
            f"no region of like GC content is free for {missing:,} of {wanted:,} negatives",
            remedy="give a shorter --window or a smaller data.max_per_class",
        )
    if missing:
        _log.warning("no region of like GC content was free for %d of %d negatives", missing, wanted)
    return drawn


class _Contig:
    """One contig, on which places are taken one after the other."""

    def __init__(self, tokens: NDArray[np.uint8], taken: Sequence[Interval], rng: np.random.Generator) -> None:
        self._length = len(tokens)
        self._gc = _running_sum((tokens == G) | (tokens == C))
        self._n = _running_sum(tokens == N)
        self._taken = np.zeros(self._length, np.bool_)
        self._rng = rng
        for interval in taken:
            part = interval.clip(self._length)
            self._taken[part.start : part.end] = True

    def match(self, positives: Sequence[Interval], tolerance: float) -> list[Interval]:
        """A free region for each positive, as far as there are any, in their order."""
        inside = [interval.clip(self._length) for interval in positives]
        sizes = np.array([interval.length for interval in positives], np.int64)
        low, high = (np.array([getattr(part, name) for part in inside], np.int64) for name in ("start", "end"))
        wanted = self._fraction(low, high)
        found: dict[int, Interval] = {}
        open_rows = np.flatnonzero((sizes <= self._length) & (high > low))
        for _ in range(_ROUNDS):
            if not len(open_rows):
                break
            size = sizes[open_rows, None]
            tries = min(max(_DRAWS // len(open_rows), 16), 1 << 14)
            start = self._rng.integers(0, self._length - size + 1, (len(open_rows), tries))
            end = start + size
            busy = _running_sum(self._taken)
            fits = (busy[end] == busy[start]) & (self._n[end] - self._n[start] <= _MOST_N * size)
            fits &= abs(self._fraction(start, end) - wanted[open_rows, None]) <= tolerance
            for position in np.flatnonzero(fits.any(1)):
                row = int(open_rows[position])
                first = int(start[position, fits[position].argmax()])
                # Another one of this round may have taken the place.
                if not self._taken[first : first + sizes[row]].any():
                    self._taken[first : first + sizes[row]] = True
                    found[row] = Interval(positives[row].chrom, first, first + int(sizes[row]), positives[row].strand)
            open_rows = np.array([row for row in open_rows.tolist() if row not in found], np.int64)
        return [found[row] for row in sorted(found)]

    def _fraction(self, start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.float64]:
        """GC fraction of the known bases of stretches."""
        known = end - start - (self._n[end] - self._n[start])
        fraction: NDArray[np.float64] = (self._gc[end] - self._gc[start]) / np.maximum(1, known)
        return fraction


def _running_sum(flags: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Number of true flags before each position, (length + 1,)."""
    sums = np.zeros(len(flags) + 1, np.int32)
    np.cumsum(flags, out=sums[1:])
    return sums
