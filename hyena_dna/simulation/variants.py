"""Planted variants and the record of where they are, so that no two come near one another."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hyena_dna.simulation.assembly import Contig, Element

__all__ = ["APART", "EFFECTS", "Plan", "Variant", "allele_type"]

EFFECTS = {
    "neutral": "no motif is touched and no pair of motifs made or lost",
    "motif_preserving": "a motif is changed to another instance of its consensus",
    "motif_breaking": "a motif no longer fits its consensus and its pair is lost",
    "motif_making": "a motif arises in a decoy, at an allowed distance from its partner: a pair is made",
    "spacing_breaking": "both motifs of a pair stay, at a distance that is not allowed: the pair is lost",
}
APART = 10
"""Smallest number of bases between two variants."""


@dataclass(frozen=True)
class Variant:
    """A planted variant, spelt as VCF spells it: parsimonious and left-aligned.

    Args:
        chrom: contig name.
        start: first base of `ref`, 0-based (POS - 1).
        ref: reference allele.
        alts: alternative alleles.
        effects: planted effect of each alternative allele, a key of `EFFECTS`.
        element: name of the element or decoy that it lies in, if any.
        name: unique name.
        match: name of the neutral control of this variant, or of the variant that this one is the control of.
        genotypes: allele index on the first and on the second haplotype of each sample.
    """

    chrom: str
    start: int
    ref: str
    alts: tuple[str, ...]
    effects: tuple[str, ...]
    element: str | None = None
    name: str = ""
    match: str | None = None
    genotypes: tuple[tuple[int, int], ...] = ()

    @property
    def end(self) -> int:
        """One past the last base of `ref`, 0-based."""
        return self.start + len(self.ref)

    @property
    def types(self) -> tuple[str, ...]:
        """Type of each alternative allele."""
        return tuple(allele_type(self.ref, alt) for alt in self.alts)


def allele_type(ref: str, alt: str) -> str:
    """snv, mnv, insertion, deletion or delins, judged after the bases that both alleles share are trimmed."""
    while ref and alt and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    while ref and alt and ref[0] == alt[0]:
        ref, alt = ref[1:], alt[1:]
    if not ref or not alt:
        return "deletion" if ref else "insertion"
    if len(ref) == len(alt):
        return "snv" if len(ref) == 1 else "mnv"
    return "delins"


class Plan:
    """The variants chosen so far on one contig: at least 10 bp apart, at most one in an element.

    Args:
        contig: the contig they are planted in.
    """

    def __init__(self, contig: Contig) -> None:
        self.contig = contig
        self.used: set[str] = set()
        self.planned: list[Variant] = []
        self._taken = np.zeros(contig.length, np.bool_)
        self._partners: dict[int, int] = {}

    def bases(self, start: int, end: int) -> str:
        """Reference bases of a stretch of the contig."""
        return self.contig.bases[start:end].tobytes().decode()

    def variant(
        self, start: int, ref: int, alts: tuple[str, ...], effects: tuple[str, ...], element: Element | None = None
    ) -> Variant:
        """A variant of `ref` reference bases; it is not part of the plan yet."""
        name = element.name if element else None
        return Variant(self.contig.name, start, self.bases(start, start + ref), alts, effects, name)

    def add(self, variant: Variant) -> bool:
        """Take a variant into the plan unless another is too near; says whether it was taken."""
        if self._taken[max(variant.start - APART, 0) : variant.end + APART].any():
            return False
        self._taken[variant.start : variant.end] = True
        if variant.element:
            self.used.add(variant.element)
        self.planned.append(variant)
        return True

    def match(self, first: int, second: int) -> None:
        """Make two planned variants, given by index, one another's match."""
        self._partners |= {first: second, second: first}

    def named(self) -> list[Variant]:
        """The variants in order of position, with names."""
        order = sorted(range(len(self.planned)), key=lambda i: self.planned[i].start)
        names: dict[int | None, str] = {i: f"{self.contig.name}_v{rank:04d}" for rank, i in enumerate(order, start=1)}
        return [replace(self.planned[i], name=names[i], match=names.get(self._partners.get(i))) for i in order]
