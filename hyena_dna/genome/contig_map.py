"""Translating contig names between files: only on request, and said aloud."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from hyena_dna.errors import InputError
from hyena_dna.genome.lines import read_lines

__all__ = ["ContigMap", "load_contig_map"]

# An accession as GRC and Ensembl write it, and as UCSC builds it into names: chr1_KI270706v1_random, chrUn_gl000220.
_ACCESSION = re.compile(r"([A-Z]{2}[0-9]{6})\.([0-9]+)")
_UCSC_ACCESSION = re.compile(r"chr[^_]+_([A-Za-z]{2}[0-9]{6})(?:v([0-9]+))?(?:_(?:random|alt|fix|hap[0-9]+))?")


class ContigMap:
    """Names of another file's contigs in a genome.

    Args:
        rule: `ucsc` (the genome says chr1, chrM, chrUn_KI270302v1), `ensembl` (it says 1, MT, KI270302.1), or a
            mapping from the other file's names to the genome's.
        contigs: the genome's contig names.
    """

    def __init__(self, rule: str | Mapping[str, str], contigs: Iterable[str]) -> None:
        self._rule = rule
        self._contigs = frozenset(contigs)
        self._accessions = {key: name for name in self._contigs for key in _accession_keys(name)}
        self._found: dict[str, str | None] = {}

    def __call__(self, name: str) -> str | None:
        """The genome's name of a contig; None where it has none. A name that the genome has stays as it is."""
        if name not in self._found:
            self._found[name] = self._translate(name)
        return self._found[name]

    @property
    def changed(self) -> dict[str, str]:
        """Every translation made so far that changed a name."""
        return {name: found for name, found in self._found.items() if found not in (None, name)}

    def _translate(self, name: str) -> str | None:
        if isinstance(self._rule, str):
            if name in self._contigs:
                return name
            if self._rule == "ucsc":
                other = "chrM" if name in ("MT", "M") else f"chr{name}"
            else:
                other = "MT" if name in ("chrM", "M") else name.removeprefix("chr")
            if other in self._contigs:
                return other
            return next((self._accessions[key] for key in _accession_keys(name) if key in self._accessions), None)
        # A file that says how a name is to be read wins over a contig of that name.
        other = self._rule.get(name, name)
        return other if other in self._contigs else None


def _accession_keys(name: str) -> list[tuple[str, str]]:
    match = _ACCESSION.fullmatch(name) or _UCSC_ACCESSION.fullmatch(name)
    if match is None:
        return []
    # hg19 leaves the version out; it had only first versions.
    return [(match[1].upper(), match[2] or "1")]


def load_contig_map(rule: str | os.PathLike[str], contigs: Iterable[str]) -> ContigMap:
    """Make a contig map.

    Args:
        rule: `ucsc`, `ensembl`, or a file with two columns separated by tabs: name in the variants, name in the genome.
        contigs: the genome's contig names.

    Raises:
        InputError: the file cannot be read, a line has not two names, a name is given twice, or a target is no contig
            of the genome.
    """
    contigs = list(contigs)
    if rule in ("ucsc", "ensembl"):
        return ContigMap(str(rule), contigs)
    known = set(contigs)
    names: dict[str, str] = {}
    for number, text in read_lines(rule):
        if not text.strip() or text.startswith("#"):
            continue
        fields = text.split("\t")
        if len(fields) != 2 or not all(field.strip() for field in fields):
            remedy = "name in the variants, name in the genome"
            raise InputError("not two names separated by a tab", file=rule, line=number, remedy=remedy)
        name, target = (field.strip() for field in fields)
        if name in names:
            raise InputError(f"{name!r} is given twice", file=rule, line=number)
        if target not in known:
            raise InputError(f"the genome has no contig {target!r}", file=rule, line=number)
        names[name] = target
    if not names:
        raise InputError("the map is empty", file=rule)
    return ContigMap(names, contigs)
