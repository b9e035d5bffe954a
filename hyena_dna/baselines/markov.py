"""Markov models of DNA: how well the last few bases predict the next one.

The probability of base b after a context of k bases is interpolated with that after the last k - 1 of them,

    p_k(b | context) = (count(context b) + c * p_(k-1)(b | shorter context)) / (count(context) + c)

down to p_(-1) = 1/4: the mean of a Dirichlet posterior whose prior is the shorter model, with one concentration c for
all orders (MacKay and Peto 1995, "A hierarchical Dirichlet language model"). One pass over the sequence fills the table
of the highest order; the lower ones are its sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dna.baselines.kmers import digits_and_reach, kmer_codes, reverse_complement_codes
from hyena_dna.errors import InputError
from hyena_dna.tokenizer import PAD

__all__ = ["MAX_ORDER", "MarkovModel", "MarkovScore"]

MAX_ORDER = 12
"""Highest order: its 4^13 counters take 268 MB."""

# Positions worked on at a time: 8-byte k-mer codes of a block should stay in the level-2 cache.
_BLOCK = 1 << 17


class MarkovScore(NamedTuple):
    """Code lengths of scored bases.

    Attributes:
        bits: float64 `(max_order + 1,)`, total code length in bits under the model of every order.
        bases: number of bases scored.
    """

    bits: NDArray[np.float64]
    bases: int


class MarkovModel:
    """Interpolated Markov models of every order from 0 to `max_order`, fitted together.

    Bits per base of held-out sequence with the default concentration, both strands and one model per species: human
    1.900 (best order 9; the second half of hg38 chr2:1-2,333,275, trained on 15 Mb of other contigs), worm 1.786 (best
    order 12; the last 3 Mb of ce10 chrII, trained on chrI and the rest of chrII), yeast 1.930 (best order 9; sacCer3
    chrIV, trained on the other chromosomes). Larger concentrations give stronger models at orders of ten and above.

    Args:
        bits: for every order k, float32 `(4 ** (k + 1),)` code lengths `-log2 p_k` in bits, indexed by the context and
            then the base, two binary digits per base with A, C, G, T = 0..3.
    """

    def __init__(self, bits: tuple[NDArray[np.float32], ...]) -> None:
        self._bits = bits

    @property
    def max_order(self) -> int:
        """The highest order fitted, in bases of context."""
        return len(self._bits) - 1

    @classmethod
    def fit(
        cls,
        sequences: Iterable[NDArray[np.uint8]],
        max_order: int = MAX_ORDER,
        both_strands: bool = True,
        concentration: float = 20.0,
    ) -> MarkovModel:
        """Count k-mers in a stream of sequences and turn the counts into probabilities.

        Only runs of A, C, G, T are counted; nothing spans an N or two sequences. Order 12 needs about 0.7 GB while it
        is fitted and 0.36 GB afterwards, however long the sequences are.

        Args:
            sequences: token ids, each `(length,)`; the soft-mask bit is ignored.
            max_order: longest context in bases, 0..12.
            both_strands: count every k-mer and its reverse complement, as a model trained with that augmentation sees.
            concentration: weight of the shorter context, in counts (of both strands, where both are counted).

        Raises:
            InputError: the order or concentration is out of range, or there is no base to count.
        """
        if not 0 <= max_order <= MAX_ORDER:
            raise InputError(f"the order of a Markov model must lie in 0..{MAX_ORDER}, got {max_order}")
        if not 0 < concentration < float("inf"):
            raise InputError(f"the concentration of a Markov model must be positive, got {concentration}")
        counts = _count(sequences, max_order)
        if both_strands:
            for order in range(max_order + 1):
                counts[order] = _with_reverse_complements(counts[order], order + 1)
        if not counts[0].any():
            raise InputError("there is no A, C, G or T to fit a Markov model to")
        return cls(_code_lengths(counts, concentration))

    def score(self, windows: NDArray[np.uint8]) -> MarkovScore:
        """Code lengths of the bases of some windows, each base given only the bases before it in its window.

        The first base of a window is not scored, as a causal network cannot predict it. Targets that are not A, C, G or
        T are skipped, and contexts reach back to the start of the window or the last such token at most.

        Args:
            windows: token ids `(n, length)`, or `(length,)` for one long sequence; the soft-mask bit is ignored.
        """
        bits = np.zeros(self.max_order + 1)
        bases = 0
        for block, context in _blocks_of_windows(np.atleast_2d(windows), self.max_order):
            # The first base of a window is context too: it is not scored.
            context = max(context, 1)
            digits, reach = digits_and_reach(block, self.max_order)
            current = np.zeros(block.shape, dtype=np.float32)
            for order, codes in kmer_codes(digits, self.max_order):
                np.copyto(current, self._bits[order].take(codes), where=reach >= order)
                bits[order] += current[:, context:].sum(dtype=np.float64)
            bases += int(np.count_nonzero(reach[:, context:] >= 0))
        return MarkovScore(bits, bases)

    def bits_per_base(self, windows: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Mean code length of every order; see `score`.

        Args:
            windows: token ids `(n, length)`, or `(length,)` for one long sequence.

        Returns:
            float64 `(max_order + 1,)`, bits per base.

        Raises:
            InputError: no base can be scored.
        """
        score = self.score(windows)
        if score.bases == 0:
            raise InputError("the windows hold no base that a Markov model could score")
        return score.bits / score.bases


def _blocks_of_windows(windows: NDArray[np.uint8], context: int) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Cut windows `(n, length)` into blocks of about `_BLOCK` positions, many short windows or a part of a long one.

    Yields:
        A block `(rows, columns)`, and how many of its first columns only repeat the end of the block before.
    """
    n, length = windows.shape
    rows = max(1, _BLOCK // max(length, 1))
    for row in range(0, n, rows):
        for start in range(0, length, _BLOCK):
            overlap = min(start, context)
            yield windows[row : row + rows, start - overlap : start + _BLOCK], overlap


def _blocks_of_stream(sequences: Iterable[NDArray[np.uint8]], context: int) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Join sequences, with a pad between two of them, into blocks of at least `_BLOCK` positions.

    Yields:
        A block `(1, columns)`, and how many of its first columns only repeat the end of the block before.
    """
    overlap = np.empty(0, dtype=np.uint8)
    waiting: list[NDArray[np.uint8]] = []
    for piece in _pieces(sequences):
        waiting.append(piece)
        # Counted in pieces too: a million short reads must not wait as a million small arrays.
        if piece.size == _BLOCK or len(waiting) > _BLOCK // 64:
            block = np.concatenate((overlap, *waiting))
            yield block[None], overlap.size
            overlap = block[max(block.size - context, 0) :]
            waiting = []
    if waiting:
        yield np.concatenate((overlap, *waiting))[None], overlap.size


def _pieces(sequences: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Pieces of at most `_BLOCK` positions, and a pad after each sequence."""
    separator = np.array([PAD], dtype=np.uint8)
    for sequence in sequences:
        for start in range(0, sequence.size, _BLOCK):
            yield sequence[start : start + _BLOCK]
        yield separator


def _count(sequences: Iterable[NDArray[np.uint8]], max_order: int) -> list[NDArray[np.unsignedinteger]]:
    """Count the k-mers of 1 to `max_order` + 1 bases on the strand given.

    Returns:
        For every order k, counts `(4 ** (k + 1),)`.
    """
    # No 12-mer is frequent enough to need more than 32 bits, but the single bases of a large plant genome are.
    counts: list[NDArray[np.unsignedinteger]] = [
        np.zeros(4 ** (order + 1), dtype=np.uint32 if order > 10 else np.uint64) for order in range(max_order + 1)
    ]
    for block, context in _blocks_of_stream(sequences, max_order):
        digits, reach = digits_and_reach(block, max_order)
        reach[:, :context] = -1
        # Each base counts once, with the longest context that it has; the sums below add it to the shorter ones.
        for order, codes in kmer_codes(digits, max_order):
            table = counts[order]
            np.add.at(table, codes[reach == order], table.dtype.type(1))
    for order in range(max_order - 1, -1, -1):
        shorter = counts[order]
        shorter += counts[order + 1].reshape(4, -1).sum(axis=0, dtype=shorter.dtype)
    return counts


def _with_reverse_complements(counts: NDArray[np.unsignedinteger], k: int) -> NDArray[np.unsignedinteger]:
    """Counts of k-mers on both strands, `(4 ** k,)`, from those on one."""
    # A k-mer is a head and a tail; its reverse complement is that of the tail, then that of the head. So the other
    # strand's table is this one as a matrix, permuted along both axes and transposed, which a few rows at a time allow.
    head, tail = k // 2, k - k // 2
    of_head, of_tail = reverse_complement_codes(head), reverse_complement_codes(tail)
    matrix = counts.reshape(4**tail, 4**head)
    both = counts.reshape(4**head, 4**tail).copy()
    for start in range(0, 4**head, 256):
        rows = slice(start, start + 256)
        both[rows] += matrix[np.ix_(of_tail, of_head[rows])].T
    return both.reshape(-1)


def _code_lengths(counts: list[NDArray[np.unsignedinteger]], concentration: float) -> tuple[NDArray[np.float32], ...]:
    """Interpolate every order with the one below and take -log2; empties `counts` to free its memory on the way."""
    lengths: list[NDArray[np.float32]] = []
    shorter = np.full((1, 4), 0.25, dtype=np.float32)
    counts.reverse()
    for order in range(len(counts)):
        # (first base of the context, its other bases, the base after it); order 0 has no context.
        table = counts.pop().reshape(4 if order else 1, -1, 4)
        probabilities = np.empty(table.shape, dtype=np.float32)
        for part, part_counts in zip(probabilities, table, strict=True):
            np.multiply(shorter, np.float32(concentration), out=part)
            part += part_counts
            part /= part_counts.sum(axis=1, dtype=np.float32, keepdims=True) + np.float32(concentration)
        if order:
            lengths.append(_minus_log2(shorter))
        shorter = probabilities.reshape(-1, 4)
    lengths.append(_minus_log2(shorter))
    return tuple(lengths)


def _minus_log2(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Code lengths in bits, flat; overwrites the probabilities."""
    np.log2(probabilities, out=probabilities)
    np.negative(probabilities, out=probabilities)
    return probabilities.reshape(-1)
