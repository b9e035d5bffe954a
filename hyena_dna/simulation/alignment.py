"""True alignments: where a stretch of a haplotype lies on the reference, as start, CIGAR and edit distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyena_dna.simulation.haplotypes import Haplotype

__all__ = ["DELETION", "HARD_CLIP", "INSERTION", "MATCH", "SOFT_CLIP", "Alignment", "align", "cigar_text"]

MATCH, INSERTION, DELETION, SOFT_CLIP, HARD_CLIP = 0, 1, 2, 4, 5
_LETTERS = "MIDNSHP=X"


@dataclass(frozen=True)
class Alignment:
    """A stretch of a haplotype on the reference.

    Args:
        start: reference position of the first aligned base, 0-based.
        cigar: operations as (code, length); inserted bases at either end are soft-clipped.
        places: reference position of every base of the stretch, -1 where it is inserted or clipped, (length,) int64.
        clipped: number of inserted bases clipped at the left and at the right end.
    """

    start: int
    cigar: tuple[tuple[int, int], ...]
    places: NDArray[np.int64]
    clipped: tuple[int, int]

    @property
    def gap_bases(self) -> int:
        """Inserted and deleted bases, in bp."""
        return sum(length for code, length in self.cigar if code in (INSERTION, DELETION))


def align(haplotype: Haplotype, start: int, end: int) -> Alignment:
    """Align the bases [start, end) of a haplotype, at least one of which stands on the reference."""
    places = haplotype.reference[start:end]
    aligned = np.flatnonzero(places >= 0)
    left, right = int(aligned[0]), len(places) - 1 - int(aligned[-1])
    cigar = [(SOFT_CLIP, left)] if left else []
    before = -1
    for index in aligned.tolist():
        place = int(places[index])
        if before >= 0:
            inserted = index - before - 1
            deleted = place - int(places[before]) - 1
            cigar += [(INSERTION, inserted)] if inserted else []
            cigar += [(DELETION, deleted)] if deleted else []
        if cigar and cigar[-1][0] == MATCH:
            cigar[-1] = (MATCH, cigar[-1][1] + 1)
        else:
            cigar.append((MATCH, 1))
        before = index
    cigar += [(SOFT_CLIP, right)] if right else []
    return Alignment(int(places[left]), tuple(cigar), places, (left, right))


def cigar_text(cigar: tuple[tuple[int, int], ...]) -> str:
    """A CIGAR as SAM writes it."""
    return "".join(f"{length}{_LETTERS[code]}" for code, length in cigar)
