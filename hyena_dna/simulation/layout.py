"""Which features a genome has and where they stand: nothing overlaps, and spacers of random length lie between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from hyena_dna.errors import InputError
from hyena_dna.simulation.genes import GenePlan, plan_gene
from hyena_dna.simulation.grammar import ENHANCER, PROMOTER, Grammar
from hyena_dna.simulation.repeats import Repeat, RepeatFamily, tandem_repeat
from hyena_dna.simulation.streams import Part, stream

__all__ = ["ELEMENT_LENGTH", "FLANK", "WINDOW", "Feature", "Gap", "Placed", "Site", "contig_lengths", "lay_out"]

ELEMENT_LENGTH = 160
FLANK = 48
WINDOW = ELEMENT_LENGTH + 2 * FLANK
"""Windows of this length, centred on an element, touch no other element."""

# Features per Mb.
DENSITIES = {"promoter": 1_000, "enhancer": 150, "gene": 130, "tandem": 60, "small_gap": 6, "long_gap": 2}
REPEAT_SHARE = 0.09

SHORTEST_CONTIG = 20_000
MOST_CONTIGS = 24
_SHORTEST_SPACER = 64
_SIZE_RATIO = 0.82
_SIZE_JITTER = 0.03
_LONGEST_END_GAP = 500
_SMALL_GAP = (20, 300)
_LONG_GAP = (4_000, 9_000)


@dataclass(frozen=True)
class Gap:
    """A run of N."""

    length: int


@dataclass(frozen=True)
class Site:
    """Where an element or a decoy is planted, with the gene downstream of it, if any.

    Args:
        grammar: the grammar whose motifs it carries.
        obeys: whether it satisfies the grammar or is a decoy.
        strand: "+" or "-".
        gene: the gene whose promoter it is.
    """

    grammar: Grammar
    obeys: bool
    strand: str
    gene: GenePlan | None = None

    @property
    def length(self) -> int:
        """Length of element and gene in bp."""
        return ELEMENT_LENGTH + (self.gene.length if self.gene else 0)

    @property
    def offset(self) -> int:
        """Offset of the element from the feature's start: a gene on the - strand lies left of its promoter."""
        return self.gene.length if self.gene and self.strand == "-" else 0


Feature: TypeAlias = Gap | Site | Repeat


@dataclass(frozen=True)
class Placed:
    """A feature at a 0-based start on its contig."""

    start: int
    feature: Feature

    @property
    def end(self) -> int:
        """One past the feature's last base."""
        return self.start + self.feature.length


def contig_lengths(seed: int, length: int, contigs: int) -> list[int]:
    """Share a genome's length out to contigs, each about 0.82 of the one before.

    Args:
        seed: the simulation's seed.
        length: total length in bp.
        contigs: number of contigs; three at least, so that a split has a training, a validation and a test part, and
            24 at most.

    Raises:
        InputError: fewer than three or more than 24 contigs, or a contig would be shorter than 20 kb.
    """
    if contigs < 3:
        raise InputError(f"{contigs} contigs cannot be split into train, valid and test", remedy="--contigs 3 or more")
    if contigs > MOST_CONTIGS:
        raise InputError(f"{contigs} contigs are too many", remedy=f"--contigs {MOST_CONTIGS} or fewer")
    weights = _SIZE_RATIO ** np.arange(contigs) * (1 + _SIZE_JITTER * stream(seed, Part.SIZES).uniform(-1, 1, contigs))
    shares = weights / weights.sum()
    lengths = [int(share * length) for share in shares]
    lengths[0] += length - sum(lengths)
    if min(lengths) < SHORTEST_CONTIG:
        needed = int(np.ceil(SHORTEST_CONTIG / shares.min() / 10_000)) * 10_000
        raise InputError(
            f"{length} bp on {contigs} contigs makes a contig of {max(min(lengths), 0)} bp, shorter than 20 kb",
            remedy=f"--length {needed} or more, or fewer --contigs",
        )
    return lengths


def lay_out(seed: int, contig: int, length: int, families: tuple[RepeatFamily, ...]) -> list[Placed]:
    """Choose a contig's features and their places.

    Obeying elements and decoys are shuffled over the same sites, so that neither composition nor surroundings tell one
    from the other.

    Args:
        seed: the simulation's seed.
        contig: index of the contig.
        length: its length in bp.
        families: families of dispersed repeats.

    Returns:
        Features in order of position; the first and the last are the gaps at the contig's ends.
    """
    features = [
        *_sites(seed, contig, length),
        *_repeats(stream(seed, Part.REPEATS, contig), length, families),
        *_gaps(stream(seed, Part.LAYOUT, contig), length),
    ]
    rng = stream(seed, Part.LAYOUT, contig).spawn(1)[0]
    ends = Gap(min(_LONGEST_END_GAP, length // 100))
    shuffled = [ends, *(features[i] for i in rng.permutation(len(features))), ends]
    spacers = len(shuffled) - 1
    spare = length - sum(feature.length for feature in shuffled) - spacers * _SHORTEST_SPACER
    assert spare >= 0, "the densities fill every contig of the shortest length with room to spare"
    extra = rng.multinomial(spare, rng.dirichlet(np.ones(spacers)))
    placed, start = [], 0
    for feature, spacer in zip(shuffled, (*extra, -_SHORTEST_SPACER), strict=True):
        placed.append(Placed(start, feature))
        start += feature.length + _SHORTEST_SPACER + int(spacer)
    assert start == length
    return placed


def _count(name: str, length: int) -> int:
    return round(DENSITIES[name] * length / 1e6)


def _sites(seed: int, contig: int, length: int) -> list[Site]:
    rng = stream(seed, Part.GENES, contig)
    genes = [plan_gene(rng) for _ in range(_count("gene", length))]
    plans: list[GenePlan | None] = [*genes, *[None] * (_count("promoter", length) - len(genes))]
    kinds = [(PROMOTER, True, plan) for plan in plans]
    kinds += [(PROMOTER, False, None)] * len(plans)
    kinds += [(ENHANCER, obeys, None) for obeys in (True, False) for _ in range(_count("enhancer", length))]
    return [Site(grammar, obeys, "+-"[int(rng.integers(2))], plan) for grammar, obeys, plan in kinds]


def _repeats(rng: np.random.Generator, length: int, families: tuple[RepeatFamily, ...]) -> list[Repeat]:
    repeats = [tandem_repeat(rng) for _ in range(_count("tandem", length))]
    shares = [family.share for family in families]
    room = int(REPEAT_SHARE * length)
    while True:
        repeat = families[int(rng.choice(len(families), p=shares))].copy(rng)
        if repeat.length > room:
            return repeats
        room -= repeat.length
        repeats.append(repeat)


def _gaps(rng: np.random.Generator, length: int) -> list[Gap]:
    bounds = [_SMALL_GAP] * _count("small_gap", length) + [_LONG_GAP] * _count("long_gap", length)
    return [Gap(int(rng.integers(low, high + 1))) for low, high in bounds]
