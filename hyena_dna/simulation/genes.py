"""Protein-coding genes: start to stop codon with human codon usage, spliced, with untranslated ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyena_dna.genome.interval import Interval

__all__ = ["Gene", "GenePlan", "place_gene", "plan_gene", "write_gene"]

# Human codon usage per thousand codons (Kazusa codon usage database, Homo sapiens), in the order TCAG.
_USAGE = dict(
    zip(
        (a + b + c for a in "TCAG" for b in "TCAG" for c in "TCAG"),
        (
            17.6, 20.3, 7.7, 12.9, 15.2, 17.7, 12.2, 4.4, 12.2, 15.3, 1.0, 0.8, 10.6, 12.6, 1.6, 13.2,
            13.2, 19.6, 7.2, 39.6, 17.5, 19.8, 16.9, 6.9, 10.9, 15.1, 12.3, 34.2, 4.5, 10.4, 6.2, 11.4,
            16.0, 20.8, 7.5, 22.0, 13.1, 18.9, 15.1, 6.1, 17.0, 19.1, 24.4, 31.9, 12.1, 19.5, 12.2, 12.0,
            11.0, 14.5, 7.1, 28.1, 18.4, 27.7, 15.8, 7.4, 21.8, 25.1, 29.0, 39.6, 10.8, 22.2, 16.5, 16.5,
        ),
        strict=True,
    )
)  # fmt: skip
_STOPS = ("TAA", "TAG", "TGA")
_SENSE = tuple(codon for codon in _USAGE if codon not in _STOPS)

_CODONS = (90, 250)
_UTR5 = (60, 150)
_UTR3 = (80, 200)
_INTRON = (70, 180)
_EXONS = (1, 4)
_SHORTEST_PIECE = 40
_POLY_A_TO_END = 20


@dataclass(frozen=True)
class GenePlan:
    """The lengths of a gene's parts, 5' to 3', downstream of its promoter element.

    Args:
        utr5: untranslated bases between the promoter element and the start codon, in bp.
        pieces: coding bases in each exon, stop codon included.
        introns: intron lengths in bp, one fewer than pieces.
        utr3: untranslated bases after the stop codon, in bp.
    """

    utr5: int
    pieces: tuple[int, ...]
    introns: tuple[int, ...]
    utr3: int

    @property
    def length(self) -> int:
        """Bases downstream of the promoter element, in bp."""
        return self.utr5 + sum(self.pieces) + sum(self.introns) + self.utr3

    @property
    def coding(self) -> list[tuple[int, int]]:
        """Half-open spans of the coding pieces, from the end of the promoter element."""
        spans, start = [], self.utr5
        for piece, intron in zip(self.pieces, (*self.introns, 0), strict=True):
            spans.append((start, start + piece))
            start += piece + intron
        return spans


@dataclass(frozen=True)
class Gene:
    """A gene in the genome.

    Args:
        name: unique name.
        interval: transcript, from transcription start to polyadenylation site, with its strand.
        exons: intervals of the exons in forward order.
        coding_start: first coding base on the forward strand, 0-based.
        coding_end: one past the last coding base on the forward strand; the stop codon is included.
    """

    name: str
    interval: Interval
    exons: tuple[Interval, ...]
    coding_start: int
    coding_end: int


def plan_gene(rng: np.random.Generator) -> GenePlan:
    """Draw the lengths of a gene's parts."""
    bases = 3 * int(rng.integers(_CODONS[0], _CODONS[1] + 1))
    exons = int(rng.integers(_EXONS[0], _EXONS[1] + 1))
    spare = bases - exons * _SHORTEST_PIECE
    cuts = np.sort(rng.integers(0, spare + 1, exons - 1))
    pieces = np.diff(cuts, prepend=0, append=spare) + _SHORTEST_PIECE
    return GenePlan(
        utr5=int(rng.integers(_UTR5[0], _UTR5[1] + 1)),
        pieces=tuple(pieces.tolist()),
        introns=tuple(rng.integers(_INTRON[0], _INTRON[1] + 1, exons - 1).tolist()),
        utr3=int(rng.integers(_UTR3[0], _UTR3[1] + 1)),
    )


def write_gene(rng: np.random.Generator, plan: GenePlan, body: bytes) -> bytes:
    """Write coding sequence, splice sites and polyadenylation signal over background sequence.

    Args:
        rng: source of randomness.
        plan: lengths of the gene's parts.
        body: background bases of the gene's own strand downstream of its promoter element, `plan.length` bp.

    Returns:
        The bases with the gene in them, of the same length.
    """
    bases = bytearray(body)
    coding = _coding_sequence(rng, sum(plan.pieces) // 3)
    done = 0
    for start, end in plan.coding:
        bases[start:end] = coding[done : done + end - start]
        done += end - start
    for (_, start), intron in zip(plan.coding, plan.introns, strict=False):
        end = start + intron
        bases[start : start + 6] = (b"GTAAGT", b"GTGAGT")[int(rng.integers(2))]
        bases[end - 35 : end - 30] = b"CTAAC"
        bases[end - 16 : end - 4] = rng.choice(np.frombuffer(b"CTTT", np.uint8), 12).astype(np.uint8).tobytes()
        bases[end - 3 : end] = b"CAG"
    signal = len(bases) - _POLY_A_TO_END
    bases[signal - 6 : signal] = b"AATAAA"
    return bytes(bases)


def _coding_sequence(rng: np.random.Generator, codons: int) -> bytes:
    usage = np.array([_USAGE[codon] for codon in _SENSE])
    stops = np.array([_USAGE[codon] for codon in _STOPS])
    inner = rng.choice(len(_SENSE), codons - 2, p=usage / usage.sum())
    stop = int(rng.choice(len(_STOPS), p=stops / stops.sum()))
    return ("ATG" + "".join(_SENSE[i] for i in inner) + _STOPS[stop]).encode()


def place_gene(name: str, plan: GenePlan, promoter: Interval, tss: int) -> Gene:
    """Turn a plan into genome coordinates.

    Args:
        name: the gene's name.
        plan: lengths of its parts.
        promoter: its promoter element, with the gene's strand.
        tss: transcription start site, 0-based, inside the promoter element.
    """
    forward = promoter.strand == "+"
    coding = plan.coding
    first = tss - promoter.end if forward else promoter.start - 1 - tss
    spans = list(coding)
    spans[0] = (first, spans[0][1])
    spans[-1] = (spans[-1][0], plan.length)

    def genomic(start: int, end: int) -> Interval:
        if forward:
            return Interval(promoter.chrom, promoter.end + start, promoter.end + end, "+")
        return Interval(promoter.chrom, promoter.start - end, promoter.start - start, "-")

    exons = tuple(sorted(genomic(*span) for span in spans))
    translated = genomic(coding[0][0], coding[-1][1])
    return Gene(name, genomic(first, plan.length), exons, translated.start, translated.end)
