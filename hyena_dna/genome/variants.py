"""Variants as VCF writes them, and what remains of their alleles when the shared bases are taken away."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

from hyena_dna.errors import InputError
from hyena_dna.genome.contigs import contig_hint
from hyena_dna.genome.interval import Interval

__all__ = ["STATUSES", "Trimmed", "Variant", "classify", "left_align", "trim"]

STATUSES = (
    "ok",
    "ref_mismatch",
    "symbolic",
    "breakend",
    "spanning_deletion",
    "gvcf_block",
    "no_alt",
    "bad_allele",
    "ref_not_acgt",
    "too_long",
    "out_of_range",
    "contig_unknown",
    "n_fraction",
)
"""What can be said of an allele: `ok`, or why it has no score."""

_ACGT = re.compile(r"[ACGT]+")
_IUPAC = re.compile(r"[ACGTRYSWKMBDHVN]+")
_REFERENCE_BLOCKS = ("<*>", "<NON_REF>")
_MOST_SHIFT = 1000


class Trimmed(NamedTuple):
    """An allele pair without the bases that both share at their ends.

    Attributes:
        start: first base of what remains of the reference allele, 0-based; where that is empty, the base before which
            the alternative is inserted.
        ref: what remains of the reference allele, perhaps nothing.
        alt: what remains of the alternative allele, perhaps nothing.
    """

    start: int
    ref: str
    alt: str

    @property
    def end(self) -> int:
        """One past the last reference base that is replaced, 0-based."""
        return self.start + len(self.ref)


@dataclass(frozen=True, slots=True)
class Variant:
    """One alternative allele at one place.

    Args:
        chrom: contig name.
        pos: position of the first base of `ref`, 1-based as in VCF.
        ref: reference allele, upper-case A, C, G, T.
        alt: alternative allele, upper-case A, C, G, T.
    """

    chrom: str
    pos: int
    ref: str
    alt: str

    @property
    def start(self) -> int:
        """First base of `ref`, 0-based."""
        return self.pos - 1

    @property
    def end(self) -> int:
        """One past the last base of `ref`, 0-based; never taken from an END field."""
        return self.start + len(self.ref)

    def trimmed(self) -> Trimmed:
        """The allele pair without the prefix and then the suffix that both alleles share."""
        return trim(self.start, self.ref, self.alt)

    def __str__(self) -> str:
        return f"{self.chrom}:{self.pos}:{self.ref}:{self.alt}"

    @classmethod
    def parse(cls, text: str, contigs: Collection[str]) -> Variant:
        """Read `CONTIG:POS:REF:ALT`; the contig name may hold colons.

        Args:
            text: what a person wrote; POS is 1-based, alleles in either case.
            contigs: names of the genome's contigs.

        Raises:
            InputError: the text is of another form, the contig is unknown, or an allele has other letters than ACGT.
        """
        fields = text.rsplit(":", 3)
        if len(fields) != 4 or not (fields[1].isascii() and fields[1].isdigit()):
            raise InputError(f"{text!r} is not a variant", remedy="write CONTIG:POS:REF:ALT, POS 1-based")
        chrom, pos, ref, alt = fields[0], int(fields[1]), fields[2].upper(), fields[3].upper()
        if chrom not in contigs:
            raise InputError(f"the genome has no contig {chrom!r}", remedy=contig_hint(chrom, contigs))
        for allele in (ref, alt):
            if not _ACGT.fullmatch(allele):
                raise InputError(f"allele {allele!r} of {text!r} is not made of A, C, G and T")
        return cls(chrom, pos, ref, alt)


def trim(start: int, ref: str, alt: str) -> Trimmed:
    """Take away the prefix and then the suffix that two alleles share.

    Args:
        start: first base of `ref`, 0-based.
        ref: reference allele.
        alt: alternative allele.
    """
    shorter = min(len(ref), len(alt))
    prefix = 0
    while prefix < shorter and ref[prefix] == alt[prefix]:
        prefix += 1
    suffix = 0
    while suffix < shorter - prefix and ref[-1 - suffix] == alt[-1 - suffix]:
        suffix += 1
    return Trimmed(start + prefix, ref[prefix : len(ref) - suffix], alt[prefix : len(alt) - suffix])


def left_align(trimmed: Trimmed, fetch: Callable[[Interval], bytes], chrom: str) -> Trimmed:
    """Move a pure insertion or deletion to its leftmost equal place (Tan et al. 2015, bioinformatics 31:2202).

    Args:
        trimmed: an allele pair; one that replaces bases by bases has one place only and comes back as it is.
        fetch: gives upper-case bases of an interval.
        chrom: contig name.

    Returns:
        The same change of the same sequence. A repeat is followed for at most 1,000 bp.
    """
    start, ref, alt = trimmed
    if bool(ref) == bool(alt):
        return trimmed
    allele = ref or alt
    before = fetch(Interval(chrom, max(0, start - _MOST_SHIFT), start)).decode("ascii")
    shift = 0
    while shift < len(before) and before[-1 - shift] == allele[-1 - shift % len(allele)] != "N":
        shift += 1
    turn = shift % len(allele)
    rolled = allele[len(allele) - turn :] + allele[: len(allele) - turn]
    return Trimmed(start - shift, rolled if ref else "", rolled if alt else "")


def classify(ref: str, alt: str) -> str:
    """Whether an allele pair can be scored at all, from its two texts alone.

    Args:
        ref: the REF column, in any case.
        alt: one entry of the ALT column, in any case.

    Returns:
        `ok`, or one of `no_alt`, `spanning_deletion`, `gvcf_block`, `symbolic`, `breakend`, `ref_not_acgt`,
        `bad_allele`.
    """
    ref, alt = ref.upper(), alt.upper()
    if alt in ("", "."):
        return "no_alt"
    if alt == "*":
        return "spanning_deletion"
    if alt in _REFERENCE_BLOCKS:
        return "gvcf_block"
    if alt.startswith("<") and alt.endswith(">"):
        return "symbolic"
    # A dot at one end is a breakend without a mate.
    if "[" in alt or "]" in alt or (alt[0] == ".") != (alt[-1] == "."):
        return "breakend"
    if not _ACGT.fullmatch(ref):
        return "ref_not_acgt" if _IUPAC.fullmatch(ref) else "bad_allele"
    if not _ACGT.fullmatch(alt):
        return "bad_allele"
    return "no_alt" if ref == alt else "ok"
