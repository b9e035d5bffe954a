"""The genome itself: background sequence with repeats, gaps, genes and elements planted in it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hyena_dna.genome.interval import Interval
from hyena_dna.genome.sequence import reverse_complement
from hyena_dna.simulation.composition import background, isochores
from hyena_dna.simulation.genes import Gene, place_gene, write_gene
from hyena_dna.simulation.grammar import Grammar, Placement, arrange, pair_sites
from hyena_dna.simulation.layout import ELEMENT_LENGTH, FLANK, Gap, Placed, Site, contig_lengths, lay_out
from hyena_dna.simulation.motifs import INITIATOR
from hyena_dna.simulation.repeats import Repeat, RepeatFamily, make_families
from hyena_dna.simulation.streams import Part, stream

__all__ = ["BACKGROUND", "Contig", "Element", "Genome", "assemble"]

BACKGROUND = "background"
"""Label of decoys."""

_ISLAND_SHARE = 0.35
_ISLAND_GC = 0.62
_ISLAND_REACH = (40, 160)
_CPG_SURVIVAL = 0.22
_ISLAND_CPG_SURVIVAL = 0.9
# The A of TCAKTY is the transcription start.
_TSS_IN_INITIATOR = 2


@dataclass(frozen=True)
class Element:
    """A planted element or decoy.

    Args:
        name: unique name.
        interval: its place and strand.
        grammar: the grammar whose motifs it carries.
        obeys: whether it satisfies the grammar; otherwise it is a decoy.
        placements: its motifs, at offsets from the element's own 5' end.
        tss: transcription start site, 0-based, of a promoter.
        gene: name of the gene it drives, if any.
    """

    name: str
    interval: Interval
    grammar: Grammar
    obeys: bool
    placements: tuple[Placement, ...]
    tss: int | None = None
    gene: str | None = None

    @property
    def label(self) -> str:
        """Class of the element: its grammar's label, or background."""
        return self.grammar.label if self.obeys else BACKGROUND

    def motif_interval(self, placement: Placement) -> Interval:
        """Where one of its motifs lies in the genome."""
        start, end = placement.offset, placement.end
        if self.interval.strand == "-":
            start, end = ELEMENT_LENGTH - end, ELEMENT_LENGTH - start
        place = self.interval
        return Interval(place.chrom, place.start + start, place.start + end, place.strand)


@dataclass
class Contig:
    """One contig and what is planted in it.

    Args:
        name: contig name.
        bases: upper-case bases, (length,) uint8; N in gaps.
        soft: whether a base is soft-masked, (length,) bool.
        spacer: whether a base belongs to no feature, (length,) bool.
        elements: elements and decoys in order of position.
        genes: genes in order of position.
        repeats: repeats in order of position, with their families' names.
    """

    name: str
    bases: NDArray[np.uint8]
    soft: NDArray[np.bool_]
    spacer: NDArray[np.bool_]
    elements: list[Element] = field(default_factory=list)
    genes: list[Gene] = field(default_factory=list)
    repeats: list[tuple[Interval, str]] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Length in bp."""
        return len(self.bases)

    def read(self, interval: Interval) -> bytes:
        """Upper-case bases of an interval inside the contig, on its strand."""
        forward = self.bases[interval.start : interval.end].tobytes()
        return reverse_complement(forward) if interval.strand == "-" else forward

    def write(self, interval: Interval, bases: bytes) -> None:
        """Replace the bases of an interval, given on its strand."""
        forward = reverse_complement(bases) if interval.strand == "-" else bases
        self.bases[interval.start : interval.end] = np.frombuffer(forward, np.uint8)


@dataclass(frozen=True)
class Genome:
    """A simulated genome.

    Args:
        contigs: contigs, longest first.
        families: the families of dispersed repeats.
    """

    contigs: tuple[Contig, ...]
    families: tuple[RepeatFamily, ...]

    @property
    def elements(self) -> list[Element]:
        """Elements and decoys of all contigs."""
        return [element for contig in self.contigs for element in contig.elements]

    @property
    def genes(self) -> list[Gene]:
        """Genes of all contigs."""
        return [gene for contig in self.contigs for gene in contig.genes]

    @property
    def splits(self) -> dict[str, list[str]]:
        """Folds by contig: the last contig for testing, the one before for validation, the others for training."""
        names = [contig.name for contig in self.contigs]
        return {"train": names[:-2], "valid": names[-2:-1], "test": names[-1:]}


def assemble(seed: int, length: int, contigs: int) -> Genome:
    """Simulate a genome.

    Args:
        seed: the simulation's seed.
        length: total length in bp.
        contigs: number of contigs.

    Raises:
        InputError: too few or too many contigs, or contigs too short.
    """
    families = make_families(stream(seed, Part.FAMILIES))
    parts = [
        _assemble_contig(seed, index, size, families)
        for index, size in enumerate(contig_lengths(seed, length, contigs))
    ]
    return Genome(tuple(parts), families)


def _assemble_contig(seed: int, index: int, length: int, families: tuple[RepeatFamily, ...]) -> Contig:
    layout = lay_out(seed, index, length, families)
    bases = _background(stream(seed, Part.COMPOSITION, index), length, layout)
    contig = Contig(f"chr{index + 1}", bases, np.zeros(length, np.bool_), np.ones(length, np.bool_))
    sites: list[tuple[Interval, Site]] = []
    for placed in layout:
        contig.spacer[placed.start : placed.end] = False
        match placed.feature:
            case Gap():
                contig.bases[placed.start : placed.end] = ord("N")
            case Repeat() as repeat:
                interval = Interval(contig.name, placed.start, placed.end, repeat.strand)
                # The copy is kept as it stands on the forward strand.
                contig.bases[placed.start : placed.end] = np.frombuffer(repeat.sequence, np.uint8)
                contig.soft[placed.start : placed.end] = True
                contig.repeats.append((interval, repeat.name))
            case Site() as site:
                start = placed.start + site.offset
                sites.append((Interval(contig.name, start, start + ELEMENT_LENGTH, site.strand), site))
    _plant_genes(stream(seed, Part.CODING, index), contig, sites)
    rng = stream(seed, Part.ELEMENTS, index)
    for interval, site in sites:
        _plant_site(rng, contig, interval, site)
    return contig


def _background(rng: np.random.Generator, length: int, layout: list[Placed]) -> NDArray[np.uint8]:
    gc = isochores(rng, length)
    survival = np.full(length, _CPG_SURVIVAL)
    for placed in layout:
        # Islands lie at elements and decoys alike: if they marked promoters, GC content would give the answer away.
        if isinstance(placed.feature, Site) and rng.random() < _ISLAND_SHARE:
            left, right = rng.integers(_ISLAND_REACH[0], _ISLAND_REACH[1] + 1, 2).tolist()
            start = placed.start + placed.feature.offset
            island = slice(max(start - left, 0), start + ELEMENT_LENGTH + right)
            gc[island], survival[island] = _ISLAND_GC, _ISLAND_CPG_SURVIVAL
    return background(rng, gc, survival)


def _downstream(interval: Interval, length: int) -> Interval:
    if interval.strand == "+":
        return Interval(interval.chrom, interval.end, interval.end + length, "+")
    return Interval(interval.chrom, interval.start - length, interval.start, "-")


def _plant_genes(rng: np.random.Generator, contig: Contig, sites: list[tuple[Interval, Site]]) -> None:
    for interval, site in sites:
        if site.gene:
            body = _downstream(interval, site.gene.length)
            contig.write(body, write_gene(rng, site.gene, contig.read(body)))


def _plant_site(rng: np.random.Generator, contig: Contig, interval: Interval, site: Site) -> None:
    placements = _plant_motifs(rng, contig, interval, site)
    number = len(contig.elements) + 1
    name = f"{contig.name}_e{number:04d}"
    tss, gene = None, None
    if site.obeys:
        offset = next((p.offset + _TSS_IN_INITIATOR for p in placements if p.motif == INITIATOR), None)
        if offset is not None:
            tss = interval.start + offset if interval.strand == "+" else interval.end - 1 - offset
    if site.gene and tss is not None:
        gene = f"{contig.name}_g{len(contig.genes) + 1:03d}"
        contig.genes.append(place_gene(gene, site.gene, interval, tss))
    contig.elements.append(Element(name, interval, site.grammar, site.obeys, tuple(placements), tss, gene))


def _plant_motifs(rng: np.random.Generator, contig: Contig, interval: Interval, site: Site) -> list[Placement]:
    """Write the motifs of a site over the background, again until chance has added no site and broken none."""
    plain = contig.read(interval)
    window = Interval(interval.chrom, interval.start - FLANK, interval.end + FLANK, interval.strand)
    while True:
        placements = arrange(rng, site.grammar, ELEMENT_LENGTH, obey=site.obeys)
        bases = bytearray(plain)
        for placement in placements:
            bases[placement.offset : placement.end] = placement.motif.instance(rng)
        contig.write(interval, bytes(bases))
        seen = contig.read(window)
        own = [len(pair_sites(seen, pair)) for pair in site.grammar.pairs]
        opposite = [len(pair_sites(reverse_complement(seen), pair)) for pair in site.grammar.pairs]
        if set(own) == {int(site.obeys)} and set(opposite) == {0}:
            return placements
