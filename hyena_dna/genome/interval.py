"""Where something is: a stretch of one strand of one contig.

Coordinates are 0-based and half-open everywhere inside the project, as in BED. The 1-based inclusive form
`chr1:1001-2000(+)` is for people: `str` writes it and `Interval.parse` reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from hyena_dna.errors import InputError

__all__ = ["Interval"]

_RANGE = re.compile(r":(\d[\d,]*)-(\d[\d,]*)", re.ASCII)
_STRAND = re.compile(r"\(([-+.])\)$")


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """A stretch of a contig, 0-based half-open, with a strand.

    A window around a place near a contig's end reaches beyond it, so `start` may be negative and `end` may exceed the
    contig's length; `Reference.fetch` fills what lies outside with N.

    Args:
        chrom: contig name, opaque.
        start: first base, 0-based.
        end: one past the last base; not before `start`.
        strand: "+", "-", or "." for unstranded, which reads as "+".

    Raises:
        ValueError: `end` lies before `start`, or the strand is none of the three.
    """

    chrom: str
    start: int
    end: int
    strand: str = "+"

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError(f"interval on {self.chrom} ends at {self.end}, before its start {self.start}")
        if self.strand not in ("+", "-", "."):
            raise ValueError(f"strand {self.strand!r} is none of '+', '-', '.'")

    @property
    def length(self) -> int:
        """Number of bases."""
        return self.end - self.start

    def shift(self, n: int) -> Interval:
        """The interval moved by `n` bp along the forward strand, whatever its own strand."""
        return replace(self, start=self.start + n, end=self.end + n)

    def resize(self, length: int) -> Interval:
        """The interval of `length` bp with the same centre.

        The centre is the base at index `length // 2` on the forward strand, in the old interval and in the new one, so
        where the lengths differ by an odd number the rule is still exact, and resizing there and back is the identity.

        Args:
            length: new length in bp, not negative.

        Raises:
            ValueError: `length` is negative.
        """
        if length < 0:
            raise ValueError(f"an interval cannot be {length} bp long")
        start = self.start + self.length // 2 - length // 2
        return replace(self, start=start, end=start + length)

    def overlaps(self, other: Interval) -> bool:
        """Whether the two share at least one base; strands are not compared."""
        return self.chrom == other.chrom and max(self.start, other.start) < min(self.end, other.end)

    def contains(self, other: Interval) -> bool:
        """Whether every position of `other` lies inside; strands are not compared."""
        return self.chrom == other.chrom and self.start <= other.start and other.end <= self.end

    def clip(self, contig_length: int) -> Interval:
        """The part that lies on a contig of `contig_length` bp; empty, at the nearer end, where none does."""
        start = min(max(self.start, 0), contig_length)
        return replace(self, start=start, end=max(start, min(self.end, contig_length)))

    def __str__(self) -> str:
        return f"{self.chrom}:{self.start + 1}-{self.end}({self.strand})"

    @classmethod
    def parse(cls, text: str, contigs: Mapping[str, int]) -> Interval:
        """Read `CONTIG`, `CONTIG:START-END` or either with `(STRAND)`: 1-based, both ends included.

        Contig names may hold colons (`HLA-A*01:01`), so the longest contig name that fits is tried first.

        Args:
            text: what a person wrote; thousands separators are allowed.
            contigs: length in bp of every contig.

        Raises:
            InputError: no contig fits, or the range is not of the form START-END with 1 <= START <= END.
        """
        strand = _STRAND.search(text)
        place = text[: strand.start()] if strand else text
        # Every prefix before a colon is looked up instead of every contig: assemblies have 100,000 of them.
        ends = [len(place), *(i for i in range(len(place) - 1, -1, -1) if place[i] == ":")]
        for end in ends:
            name, rest = place[:end], place[end:]
            if name not in contigs:
                continue
            if not rest:
                return cls(name, 0, contigs[name], strand[1] if strand else "+")
            match = _RANGE.fullmatch(rest)
            if match:
                start, stop = (int(number.replace(",", "")) for number in match.groups())
                if 1 <= start <= stop:
                    return cls(name, start - 1, stop, strand[1] if strand else "+")
            raise InputError(f"{text!r} is not a range of contig {name!r}", remedy="write CONTIG:START-END, 1-based")
        raise InputError(f"{text!r} names no contig of the genome", remedy="write CONTIG or CONTIG:START-END, 1-based")
