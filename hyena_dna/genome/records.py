"""Sequences from FASTA, FASTQ and GenBank files, one record at a time, without an index."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from hyena_dna.errors import InputError
from hyena_dna.genome.lines import read_lines
from hyena_dna.genome.sequence import NORMALISE, NORMALISE_RNA

__all__ = ["Record", "read_records"]

_RECORD_LINE_LIMIT = 1 << 30
_GENBANK_SUFFIXES = (".gb", ".gbk", ".gbff", ".genbank", ".seq")
_BLANK = re.compile(r"\s")
_SAM_HEADERS = ("@HD\t", "@SQ\t", "@RG\t", "@PG\t", "@CO\t")


@dataclass(frozen=True, slots=True)
class Record:
    """One sequence of a file.

    Attributes:
        name: first word of the header line; in GenBank the accession with its version.
        sequence: upper-case A, C, G, T and N.
        description: the rest of the header line; in GenBank the definition.
    """

    name: str
    sequence: bytes
    description: str = ""


def read_records(path: str | os.PathLike[str], *, rna: bool = False) -> Iterator[Record]:
    """Read FASTA, FASTQ (qualities are not kept) or GenBank.

    The first character decides the format: `>`, `@` or `LOCUS`; the suffix only where it does not (a GenBank
    release file begins with a banner). Memory is bounded by the longest record.

    Args:
        path: plain, gzip or bgzip file, or `-` for standard input.
        rna: read U as T.

    Yields:
        Records, in the order of the file. Names may repeat, as they do in FASTQ.

    Raises:
        InputError: an empty file, another format, a header without a name, a record without sequence, a byte that is
            no nucleotide letter (blanks and digits inside a sequence too), or a damaged or truncated file.
    """
    table = NORMALISE_RNA if rna else NORMALISE
    lines = _Lines(path)
    try:
        for name, text, description in _PARSERS[_format(lines, path)](lines, path):
            if not name:
                raise InputError("the header has no name", file=path, line=lines.number)
            # Beyond Latin-1 nothing is a base: "?" is as forbidden, and stands at the same position.
            sequence = text.encode("latin-1", "replace").translate(table)
            if not sequence:
                raise InputError("the record has no sequence", file=path, contig=name, remedy="seqkit seq -m 1")
            wrong = sequence.find(0)
            if wrong >= 0:
                remedy = "RNA? give --rna" if text[wrong] in "Uu" else "letters are A, C, G, T, N and the IUPAC codes"
                raise InputError(
                    f"{text[wrong]!r} is no base", file=path, contig=name, position=wrong + 1, remedy=remedy
                )
            yield Record(name, sequence, description)
    except InputError:
        raise
    except ValueError as error:
        # Biopython's parsers say what is wrong, with ValueError and its subclasses, but not where.
        raise InputError(str(error).rstrip("."), file=path, line=lines.number) from None


class _Lines:
    """The lines of a file as Biopython's parsers take them, with the number of the last one and a look ahead."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._lines = read_lines(path, limit=_RECORD_LINE_LIMIT)
        self.number = 0
        self.first = next((text for self.number, text in self._lines if text.strip()), "")
        self.last = ""
        self._ahead = [self.first] if self.first else []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self._ahead:
            self.last = self._ahead.pop()
        else:
            self.number, self.last = next(self._lines)
        return f"{self.last}\n"

    def readline(self) -> str:
        return next(self, "")

    def read(self, size: int = -1) -> str:
        # The parsers ask for zero characters, to learn whether the stream is text.
        assert size == 0, "parsers read this stream line by line"
        return ""


def _format(lines: _Lines, path: str | os.PathLike[str]) -> str:
    first = lines.first
    if not first:
        raise InputError("the file has no sequences: it is empty", file=path)
    if first.startswith(">"):
        return "FASTA"
    if first.startswith(_SAM_HEADERS):
        raise InputError("this looks like a SAM file", file=path, line=1, remedy="give aligned reads with --bam")
    if first.startswith("@"):
        return "FASTQ"
    if first.startswith("LOCUS"):
        return "GenBank"
    suffixes = [suffix.lower() for suffix in PurePath(path).suffixes if suffix.lower() not in (".gz", ".bgz")]
    if suffixes and suffixes[-1] in _GENBANK_SUFFIXES:
        return "GenBank"
    raise InputError("this is not FASTA, FASTQ or GenBank", file=path, line=lines.number)


def _split(title: str) -> tuple[str, str]:
    # A name is the first word, and there is none where the title begins with a blank: as samtools reads it.
    name = re.split(r"\s", title, maxsplit=1)[0]
    return name, title[len(name) :].strip()


def _fasta(lines: _Lines, path: str | os.PathLike[str]) -> Iterator[tuple[str, str, str]]:
    from Bio.SeqIO.FastaIO import SimpleFastaParser

    def checked() -> Iterator[str]:
        # The parser drops blanks inside a sequence without a word, which shifts every coordinate behind them.
        for line in lines:
            if not line.startswith(">") and _BLANK.search(line, 0, len(line) - 1):
                raise InputError("a blank inside a sequence", file=path, line=lines.number)
            yield line

    for title, sequence in SimpleFastaParser(checked()):  # type: ignore[no-untyped-call]
        name, description = _split(title)
        yield name, sequence, description


def _fastq(lines: _Lines, path: str | os.PathLike[str]) -> Iterator[tuple[str, str, str]]:
    from Bio.SeqIO.QualityIO import FastqGeneralIterator

    for title, sequence, _ in FastqGeneralIterator(lines):  # type: ignore[arg-type]  # it reads lines only
        name, description = _split(title)
        yield name, sequence, description


def _genbank(lines: _Lines, path: str | os.PathLike[str]) -> Iterator[tuple[str, str, str]]:
    from Bio import SeqIO
    from Bio.Seq import UndefinedSequenceError

    for record in SeqIO.parse(lines, "genbank"):  # type: ignore[no-untyped-call]
        # The parser takes the end of the file for the end of the record.
        if lines.last.strip() != "//":
            raise InputError("the record is truncated: its end '//' is missing", file=path, contig=record.id)
        try:
            sequence = str(record.seq)
        except UndefinedSequenceError:
            raise InputError("the record has no sequence (no ORIGIN)", file=path, contig=record.id) from None
        yield record.id, sequence, record.description


_PARSERS = {"FASTA": _fasta, "FASTQ": _fastq, "GenBank": _genbank}
