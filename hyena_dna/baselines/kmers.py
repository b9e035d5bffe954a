"""k-mers of token ids: two binary digits per base with A, C, G, T = 0..3, the first base in the highest digits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hyena_dna.tokenizer import BASE_IDS, PAD, SOFT_MASK, A

__all__ = ["count_kmers", "digits_and_reach", "kmer_codes", "reverse_complement_codes"]

# Bases worked on at a time when counting.
_BLOCK = 1 << 22


def digits_and_reach(ids: NDArray[np.uint8], max_order: int) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """Bases as 0..3, and how far back the known bases reach.

    Args:
        ids: token ids `(n, length)`; rows are independent.
        max_order: where to stop counting.

    Returns:
        Digits `(n, length)`, 0 where there is no base; and the number of known bases directly before each base, at
        most `max_order`, -1 where there is no base.
    """
    digits = (ids & np.uint8(~SOFT_MASK & 0xFF)) - np.uint8(A)
    is_base = digits < len(BASE_IDS)
    digits *= is_base
    reach = is_base.astype(np.int8) - np.int8(1)
    known = is_base.copy()
    for order in range(1, max_order + 1):
        known[:, order:] &= is_base[:, :-order]
        known[:, :order] = False
        reach += known
    return digits, reach


def kmer_codes(digits: NDArray[np.uint8], max_order: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """For every order k, the code of the k + 1 bases that end at each position.

    Args:
        digits: bases as 0..3, `(n, length)`.
        max_order: the last order.

    Yields:
        Order and codes `(n, length)`. The array is updated in place from one order to the next.
    """
    codes = digits.astype(np.int64)
    older = codes.copy()
    yield 0, codes
    for order in range(1, max_order + 1):
        older <<= 2
        codes[:, order:] += older[:, :-order]
        yield order, codes


def reverse_complement_codes(k: int) -> NDArray[np.int64]:
    """Code of the reverse complement of every k-mer, `(4 ** k,)`."""
    codes = np.arange(4**k, dtype=np.int64)
    reverse = np.zeros_like(codes)
    for _ in range(k):
        reverse = reverse * 4 + (3 - codes % 4)
        codes //= 4
    return reverse


def count_kmers(sequences: Sequence[NDArray[np.uint8]], k: int, *, both_strands: bool = False) -> sparse.csr_matrix:
    """Count the k-mers of every sequence; k-mers with anything but A, C, G, T in them do not count.

    Args:
        sequences: token ids, each `(length,)`; the soft-mask bit is ignored.
        k: bases of a k-mer, 1..12.
        both_strands: count a k-mer and its reverse complement as one, under the smaller of their codes.

    Returns:
        float32 `(sequences, 4 ** k)`.
    """
    merged = np.minimum(np.arange(4**k), reverse_complement_codes(k)).astype(np.int32)
    separator = np.array([PAD], np.uint8)
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    block_of = np.cumsum(lengths + 1) // _BLOCK
    blocks = []
    for block in np.unique(block_of):
        rows = np.flatnonzero(block_of == block)
        joined = np.concatenate([piece for row in rows.tolist() for piece in (sequences[row], separator)])
        digits, reach = digits_and_reach(joined[None], k - 1)
        for order, codes in kmer_codes(digits, k - 1):
            if order == k - 1:
                found = codes[0, reach[0] == k - 1]
        places = np.repeat(np.arange(len(rows), dtype=np.int32), lengths[rows] + 1)[reach[0] == k - 1]
        columns = merged[found] if both_strands else found
        ones = np.ones(len(found), np.float32)
        blocks.append(sparse.csr_matrix((ones, (places, columns)), shape=(len(rows), 4**k)))
    return sparse.vstack(blocks, format="csr") if blocks else sparse.csr_matrix((0, 4**k), dtype=np.float32)
