"""The contigs of a run's genomes by name: several genomes may each have a `chrIII`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hyena_dna.errors import InputError
from hyena_dna.genome.contigs import contig_hint
from hyena_dna.genome.interval import Interval

__all__ = ["GenomeContigs", "genome_names"]

_SUFFIXES = (".gz", ".bgz", ".fa", ".fasta", ".fna", ".fas")


def genome_names(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """A name for each FASTA file: its own without suffixes, and `.2`, `.3` after a name that is taken."""
    names: list[str] = []
    for path in paths:
        name = os.path.basename(path)
        while name.endswith(_SUFFIXES):
            name = name[: name.rindex(".")]
        repeats = sum(other == name or other.rpartition(".")[0] == name for other in names)
        names.append(f"{name}.{repeats + 1}" if repeats else name)
    return names


@dataclass(frozen=True)
class GenomeContigs:
    """Contigs of every genome, by the name of the genome.

    Wherever a contig, a glob or a place is asked for, `GENOME:CONTIG` means that genome alone, and a bare name means
    every genome that has it. Names that exist as they are written come first: some contigs have a colon in theirs.
    """

    contigs: Mapping[str, Sequence[str]]

    def patterns(self, patterns: Iterable[str], genome: str) -> list[str]:
        """The patterns that concern one genome of several, without the name of the genome.

        A pattern that fits no contig of this genome but one of another is dropped; one that fits nowhere is kept, so
        that whoever uses it reports it.
        """
        found = []
        for pattern in patterns:
            owner, bare = self._split(pattern)
            if owner not in (None, genome):
                continue
            if owner == genome or _fits(bare, self.contigs[genome]) or not self._fits_any(bare):
                found.append(bare)
        return found

    def places(self, intervals: Iterable[Interval], genome: str, path: str) -> list[Interval | None]:
        """Each interval on the contigs of one genome, or None where it lies in another.

        Raises:
            InputError: no genome has the contig, or several have and the interval does not say which.
        """
        return [self._place(interval, genome, path) for interval in intervals]

    def _place(self, interval: Interval, genome: str, path: str) -> Interval | None:
        owner, contig = self._split(interval.chrom)
        owners = [name for name, contigs in self.contigs.items() if contig in contigs and owner in (None, name)]
        if not owners:
            known = [name for contigs in self.contigs.values() for name in contigs]
            remedy = contig_hint(contig, known)
            raise InputError(f"there is no contig {interval.chrom!r}", file=path, remedy=remedy)
        if len(owners) > 1:
            remedy = " or ".join(f"{name}:{contig}" for name in owners)
            raise InputError(f"{contig!r} is a contig of {len(owners)} genomes", file=path, remedy=f"write {remedy}")
        return Interval(contig, interval.start, interval.end, interval.strand) if owners == [genome] else None

    def _split(self, text: str) -> tuple[str | None, str]:
        owner, colon, bare = text.partition(":")
        if not colon or owner not in self.contigs or any(text in contigs for contigs in self.contigs.values()):
            return None, text
        return owner, bare

    def _fits_any(self, pattern: str) -> bool:
        return any(_fits(pattern, contigs) for contigs in self.contigs.values())


def _fits(pattern: str, names: Sequence[str]) -> bool:
    return any(name == pattern or fnmatchcase(name, pattern) for name in names)
