"""The planted regulatory grammar: which motifs stand together, in which order, how far apart.

A grammar is a set of motif pairs. A pair is satisfied where its first motif is followed, on the same strand, by its
second motif at one of the allowed distances. An element that obeys a grammar satisfies every pair; a decoy carries the
same motifs, drawn in the same way, and satisfies none. So composition says nothing and spacing says everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hyena_dna.genome.sequence import reverse_complement
from hyena_dna.simulation.motifs import AP1, CAAT_BOX, CRE, E_BOX, ETS, GC_BOX, INITIATOR, NF_KB, TATA_BOX, Motif

__all__ = [
    "ENHANCER",
    "GRAMMARS",
    "PROMOTER",
    "Grammar",
    "MotifPair",
    "Placement",
    "arrange",
    "pair_sites",
    "satisfied",
]

# Decoys stay this far from the allowed distances, so that a model need not resolve a single base to tell them apart.
_MARGIN = 3
_SEPARATION = 3


@dataclass(frozen=True)
class MotifPair:
    """Two motifs in a fixed order on one strand.

    Args:
        first: the upstream motif.
        second: the downstream motif.
        nearest: smallest allowed distance in bp from the start of `first` to the start of `second`.
        farthest: largest allowed distance in bp.
    """

    first: Motif
    second: Motif
    nearest: int
    farthest: int


@dataclass(frozen=True)
class Grammar:
    """The rule of one class of elements.

    Args:
        label: class name of the elements that obey.
        pairs: the motif pairs, all of which an obeying element satisfies.
        ordered: whether the pairs follow one another in the given order.
        accessory: motifs that stand anywhere, in elements and decoys alike.
    """

    label: str
    pairs: tuple[MotifPair, ...]
    ordered: bool
    accessory: tuple[Motif, ...] = ()


@dataclass(frozen=True)
class Placement:
    """A motif at an offset from the 5' end of its element."""

    offset: int
    motif: Motif

    @property
    def end(self) -> int:
        """Offset one past the motif's last base."""
        return self.offset + self.motif.length


# The T of a TATA box lies 31 bp upstream of the A of the initiator (index 2 of its consensus) in a typical promoter.
PROMOTER = Grammar(
    "promoter", (MotifPair(CAAT_BOX, GC_BOX, 20, 24), MotifPair(TATA_BOX, INITIATOR, 27, 31)), ordered=True
)
ENHANCER = Grammar(
    "enhancer", (MotifPair(AP1, ETS, 16, 20), MotifPair(NF_KB, CRE, 24, 28)), ordered=False, accessory=(E_BOX,)
)
GRAMMARS = (PROMOTER, ENHANCER)


def arrange(rng: np.random.Generator, grammar: Grammar, length: int, *, obey: bool) -> list[Placement]:
    """Draw where the motifs of an element stand.

    Args:
        rng: source of randomness.
        grammar: the grammar whose motifs are placed.
        length: length of the element in bp.
        obey: satisfy every pair; otherwise none.

    Returns:
        Placements in order of offset, which do not touch one another.
    """
    while True:
        placements = _ordered_pairs(rng, grammar, length) if obey else _scattered(rng, grammar, length)
        placements += [_anywhere(rng, motif, length) for motif in grammar.accessory]
        placements.sort(key=lambda placement: placement.offset)
        if all(a.end + _SEPARATION <= b.offset for a, b in pairwise(placements)):
            return placements


def _anywhere(rng: np.random.Generator, motif: Motif, length: int) -> Placement:
    return Placement(int(rng.integers(length - motif.length + 1)), motif)


def _ordered_pairs(rng: np.random.Generator, grammar: Grammar, length: int) -> list[Placement]:
    order = range(len(grammar.pairs)) if grammar.ordered else rng.permutation(len(grammar.pairs)).tolist()
    pairs = [grammar.pairs[i] for i in order]
    distances = [int(rng.integers(pair.nearest, pair.farthest + 1)) for pair in pairs]
    spans = [distance + pair.second.length + _SEPARATION for distance, pair in zip(distances, pairs, strict=True)]
    shifts = np.sort(rng.integers(0, length - sum(spans) + _SEPARATION + 1, len(pairs))).tolist()
    placements, before = [], 0
    for pair, distance, span, shift in zip(pairs, distances, spans, shifts, strict=True):
        placements += [Placement(before + shift, pair.first), Placement(before + shift + distance, pair.second)]
        before += span
    return placements


def _scattered(rng: np.random.Generator, grammar: Grammar, length: int) -> list[Placement]:
    placements: list[Placement] = []
    for pair in grammar.pairs:
        while True:
            first, second = _anywhere(rng, pair.first, length), _anywhere(rng, pair.second, length)
            distance = second.offset - first.offset
            if not pair.nearest - _MARGIN <= distance <= pair.farthest + _MARGIN:
                break
        placements += [first, second]
    return placements


def pair_sites(sequence: bytes, pair: MotifPair) -> list[tuple[int, int]]:
    """Where a sequence satisfies a pair on the strand as given: starts of the first and of the second motif."""
    seconds = set(pair.second.starts(sequence))
    return [
        (first, first + distance)
        for first in pair.first.starts(sequence)
        for distance in range(pair.nearest, pair.farthest + 1)
        if first + distance in seconds
    ]


def satisfied(sequence: bytes, grammar: Grammar) -> int:
    """How many pairs of a grammar an upper-case sequence satisfies, on the better of its two strands."""
    strands = (sequence, reverse_complement(sequence))
    return max(sum(bool(pair_sites(strand, pair)) for pair in grammar.pairs) for strand in strands)
