"""Bases as bytes: the one alphabet rule, reverse complement, GC content.

The rule, for every source of sequence: A, C, G and T count, in either case; N and the IUPAC ambiguity codes
(NC-IUB 1984: R Y S W K M B D H V) become N; U becomes T where RNA was announced; every other byte is forbidden.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CLEAN",
    "CLEAN_RNA",
    "NORMALISE",
    "NORMALISE_RNA",
    "gc_fraction",
    "n_runs",
    "reverse_complement",
]

_AMBIGUOUS = "NRYSWKMBDHV"


def _table(*, rna: bool, keep_case: bool) -> bytes:
    table = bytearray(256)
    letters = dict.fromkeys(_AMBIGUOUS, "N") | {base: base for base in "ACGT"}
    if rna:
        letters["U"] = "T"
    for letter, base in letters.items():
        table[ord(letter)] = ord(base)
        table[ord(letter.lower())] = ord(base.lower() if keep_case else base)
    return bytes(table)


NORMALISE = _table(rna=False, keep_case=False)
"""Table for `bytes.translate` that applies the alphabet rule: upper-case ACGTN, 0x00 where the byte is forbidden."""

NORMALISE_RNA = _table(rna=True, keep_case=False)
"""`NORMALISE` that also reads U as T."""

CLEAN = _table(rna=False, keep_case=True)
"""The alphabet rule with the case kept: ACGTNacgtn, 0x00 where the byte is forbidden."""

CLEAN_RNA = _table(rna=True, keep_case=True)
"""`CLEAN` that also reads U as T."""

# U pairs with A, and stands on the left only: the complement of A is written as T.
_COMPLEMENT = bytes.maketrans(b"ACGTURYSWKMBDHVNacgturyswkmbdhvn", b"TGCAAYRSWMKVHDBNtgcaayrswmkvhdbn")


def reverse_complement(sequence: bytes) -> bytes:
    """The opposite strand, read in its own direction; IUPAC codes are complemented and case is kept.

    Args:
        sequence: bases; bytes that are not nucleotide letters stay as they are.
    """
    return sequence.translate(_COMPLEMENT)[::-1]


def gc_fraction(sequence: bytes) -> float:
    """Share of G and C among the A, C, G and T of a sequence, in either case; NaN where it has none of them."""
    counts = np.bincount(np.frombuffer(sequence, np.uint8), minlength=256)
    a, c, g, t = (int(counts[ord(base)] + counts[ord(base.lower())]) for base in "ACGT")
    return (g + c) / (a + c + g + t) if a + c + g + t else float("nan")


def n_runs(is_n: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The maximal runs of True.

    Args:
        is_n: where a sequence is N, (length,).

    Returns:
        (runs, 2) int64: start and end of each run, 0-based half-open, in order.
    """
    padded = np.zeros(len(is_n) + 2, np.bool_)
    padded[1:-1] = is_n
    return np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2)
