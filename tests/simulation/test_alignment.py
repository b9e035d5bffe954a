from __future__ import annotations

import numpy as np

from hyena_dna.simulation.alignment import DELETION, INSERTION, MATCH, SOFT_CLIP, align, cigar_text
from hyena_dna.simulation.haplotypes import Haplotype

# Reference positions 0-3, two inserted bases, 4-5, 6-8 deleted, 9-11.
_PLACES = np.array([0, 1, 2, 3, -1, -1, 4, 5, 9, 10, 11])
_HAPLOTYPE = Haplotype(np.frombuffer(b"ACGTTTACGTA", np.uint8), _PLACES)


def test_insertions_and_deletions_have_their_operations() -> None:
    alignment = align(_HAPLOTYPE, 0, 11)
    assert alignment.cigar == ((MATCH, 4), (INSERTION, 2), (MATCH, 2), (DELETION, 3), (MATCH, 3))
    assert (alignment.start, alignment.gap_bases, alignment.clipped) == (0, 5, (0, 0))
    assert cigar_text(alignment.cigar) == "4M2I2M3D3M"


def test_inserted_bases_at_an_end_are_clipped() -> None:
    left = align(_HAPLOTYPE, 5, 9)
    assert (left.start, left.cigar) == (4, ((SOFT_CLIP, 1), (MATCH, 2), (DELETION, 3), (MATCH, 1)))
    right = align(_HAPLOTYPE, 1, 6)
    assert (right.start, right.cigar) == (1, ((MATCH, 3), (SOFT_CLIP, 2)))
    assert right.clipped == (0, 2)


def test_reads_between_variants_match_throughout() -> None:
    assert align(_HAPLOTYPE, 0, 4).cigar == ((MATCH, 4),)
    assert align(_HAPLOTYPE, 8, 11).start == 9
