"""The validation set of a genome when the user names none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hyena_dna.datasets.segments import NCounter, Segment
from hyena_dna.errors import InputError

__all__ = ["choose_validation"]

_LEAST, _AIM, _MOST = 0.05, 0.075, 0.15
_TAIL = 0.1


def choose_validation(contigs: Sequence[Segment], n_runs: NDArray[np.int64]) -> tuple[list[Segment], str]:
    """Choose what to hold out, about 5 to 15 % of the genome, from the sizes of its contigs alone.

    Sizes are numbers of bases that are not N, and the first rule that applies is taken:

    1. the contig of 5 to 15 % of the genome whose size is nearest to 7.5 %;
    2. contigs below 5 %, from the largest down, until they hold at least 5 %;
    3. the last 10 % of the largest contig, for genomes of one or a few contigs.

    Args:
        contigs: whole contigs, sorted, disjoint.
        n_runs: runs of N in the same coordinates, `(k, 2)`, sorted, half-open.

    Returns:
        The segments held out, sorted, and in words which they are and why.

    Raises:
        InputError: there is nothing but N.
    """
    counter = NCounter(n_runs)
    starts = np.array([contig.start for contig in contigs], dtype=np.int64)
    ends = np.array([contig.end for contig in contigs], dtype=np.int64)
    known = ends - starts - counter.count(starts, ends)
    total = int(known.sum())
    if total == 0:
        raise InputError("the contigs in use hold no base but N")
    share = known / total
    single = np.flatnonzero((share >= _LEAST) & (share <= _MOST))
    if single.size:
        best = int(single[np.argmin(np.abs(share[single] - _AIM))])
        name = contigs[best].chrom
        return [contigs[best]], f"{name}, the contig nearest to {_AIM:.1%} of the genome ({share[best]:.1%})"
    small = np.flatnonzero(share < _LEAST)
    small = small[np.argsort(-share[small], kind="stable")]
    reached = np.cumsum(share[small])
    if reached.size and reached[-1] >= _LEAST:
        count = int(np.searchsorted(reached, _LEAST)) + 1
        which = "largest" if small.size == share.size else f"largest below {_LEAST:.0%} of the genome"
        return sorted(contigs[i] for i in small[:count]), f"the {count} {which} contigs ({reached[count - 1]:.1%})"
    largest = contigs[int(np.argmax(known))]
    tail = Segment(_start_of_tail(counter, largest), largest.end, largest.chrom)
    return [tail], f"the last {_TAIL:.0%} of {largest.chrom} ({tail.length:,} bp)"


def _start_of_tail(counter: NCounter, segment: Segment) -> int:
    """The first position from which on no more than a tenth of the segment's known bases are left."""

    def known_from(position: int) -> int:
        return segment.end - position - int(counter.count(np.array([position]), np.array([segment.end]))[0])

    most = known_from(segment.start) * _TAIL
    low, high = segment.start, segment.end
    while low < high:
        middle = (low + high) // 2
        if known_from(middle) > most:
            low = middle + 1
        else:
            high = middle
    return low
