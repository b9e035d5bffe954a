"""Which contigs of an assembly take part, and what to say about one that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hyena_dna.errors import InputError

__all__ = ["DEFAULT_EXCLUDED", "ContigSelection", "contig_hint", "select_contigs"]

DEFAULT_EXCLUDED = (
    # UCSC: hg19 haplotypes, hg38 alternate loci and fix patches, the decoys of the 1000 Genomes analysis set.
    "*_hap[0-9]*",
    "*_alt",
    "*_fix",
    "*_decoy",
    # Ensembl and GRC: alternate loci and patches.
    "HSCHR*",
    "HG*_PATCH",
    "CHR_HSCHR*",
    "CHR_HG*",
    "CHR_MMCHR*",
    "CHR_MG*",
    # Alleles of the HLA genes, hs37d5 and hs38d1 decoys, the Epstein-Barr virus under its three usual names.
    "HLA*",
    "hs3[78]d*",
    "chrEBV",
    "EBV",
    "NC_007605*",
)
"""Contigs that repeat what the primary assembly holds, or are not of the species; random and unplaced ones stay."""


@dataclass(frozen=True, slots=True)
class ContigSelection:
    """What `select_contigs` decided, both in the order of the assembly.

    Attributes:
        kept: contigs to use.
        dropped: contigs left out, for the log.
    """

    kept: list[str]
    dropped: list[str]


def select_contigs(names: Iterable[str], include: Sequence[str] = (), exclude: Sequence[str] = ()) -> ContigSelection:
    """Choose contigs by exact name or shell pattern (`*`, `?`, `[...]`, case matters).

    `DEFAULT_EXCLUDED` is left out unless `include` asks for it: by exact name, or by a pattern that fits nothing but
    such contigs. So `chr6*` means chr6 without its alternate loci, and `chr6_*_alt` means those loci.

    Args:
        names: contigs of the assembly.
        include: what to keep; empty keeps everything that is not excluded.
        exclude: what to leave out; wins over `include`.

    Raises:
        InputError: a pattern fits no contig, or nothing is kept.
    """
    names = list(names)
    redundant = {name for name in names if any(fnmatchcase(name, pattern) for pattern in DEFAULT_EXCLUDED)}
    kept: set[str] = set()
    for pattern in include:
        found = _matches(pattern, names)
        kept |= found if pattern in found or found <= redundant else found - redundant
    if not include:
        kept = set(names) - redundant
    for pattern in exclude:
        kept -= _matches(pattern, names)
    if not kept:
        raise InputError(
            f"no contig of {len(names)} is left",
            remedy="alternate loci, patches and decoys are left out by default: include them by name",
        )
    return ContigSelection([n for n in names if n in kept], [n for n in names if n not in kept])


def _matches(pattern: str, names: list[str]) -> set[str]:
    # HLA contigs have '*' in their names: a name that exists is that name, not a pattern.
    found = {pattern} if pattern in names else {name for name in names if fnmatchcase(name, pattern)}
    if not found:
        raise InputError(f"no contig fits {pattern!r}", remedy=contig_hint(pattern, names))
    return found


def contig_hint(name: str, known: Collection[str]) -> str:
    """What to tell a user whose contig is not among the known ones: the same contig by another custom, or the nearest.

    Args:
        name: the unknown contig.
        known: contigs of the genome.
    """
    bare = name.removeprefix("chr")
    bare = {"M": "MT", "MT": "M"}.get(bare, bare)
    for other in (f"chr{name}", name.removeprefix("chr"), bare, f"chr{bare}"):
        if other != name and other in known:
            return f"the genome calls it {other!r}: use the same naming in both files"
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    listed = ", ".join(repr(other) for other in (near or list(known)[:3]))
    return f"the nearest names are {listed}" if near else f"the genome has {listed or 'no contigs'}"
