"""The most frequent base of aligned reads at every reference position."""

from __future__ import annotations

import numpy as np
import pysam
from numpy.typing import NDArray

from hyena_dna.genome.interval import Interval
from hyena_dna.genome.read_flags import skip_reason

__all__ = ["covered_consensus", "majority"]

_PIECE = 1 << 18
_BASES = np.frombuffer(b"ACGT", np.uint8)


def covered_consensus(
    handle: pysam.AlignmentFile,
    interval: Interval,
    *,
    min_depth: int,
    min_base_quality: int,
    min_mapping_quality: int,
    exclude_flags: int,
) -> bytes:
    """The consensus of an interval that lies inside its contig; see `AlignedReads.consensus`.

    Works in pieces of 262,144 bp (8 MiB of counts). pysam's own choice of reads is replaced by `skip_reason`: its
    default counts supplementary alignments and knows no mapping quality.

    Raises:
        OSError: the data are damaged.
    """

    def counted(read: pysam.AlignedSegment) -> bool:
        return skip_reason(read, exclude_flags, min_mapping_quality) is None

    pieces = []
    for start in range(interval.start, interval.end, _PIECE):
        end = min(start + _PIECE, interval.end)
        coverage = handle.count_coverage(
            interval.chrom, start, end, quality_threshold=min_base_quality, read_callback=counted
        )
        pieces.append(majority(np.stack([np.asarray(base, np.int64) for base in coverage]), min_depth))
    return b"".join(pieces)


def majority(counts: NDArray[np.int64], min_depth: int) -> bytes:
    """The most frequent base of each position; N where it is not the only one, or the depth is too low.

    Args:
        counts: (4, length), how often A, C, G and T were read.
        min_depth: smallest sum over the four.
    """
    single = (counts == counts.max(axis=0)).sum(axis=0) == 1
    called = single & (counts.sum(axis=0) >= min_depth)
    return np.where(called, _BASES[counts.argmax(axis=0)], np.uint8(ord("N"))).tobytes()
