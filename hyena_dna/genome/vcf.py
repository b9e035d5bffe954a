"""Variants from VCF, BCF, a table or the command line: one header, then records as VCF lines, in bounded memory.

VCF text is read without htslib, because it must come out byte for byte and with the true number of a faulty line.
BCF goes through pysam, which writes each record as the line of VCF that it stands for.
"""

from __future__ import annotations

import gzip
import io
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hyena_dna.errors import InputError
from hyena_dna.genome.lines import open_source, read_lines
from hyena_dna.genome.vcf_header import FIXED_COLUMNS, VcfHeader, parse_header

__all__ = ["LINE_LIMIT", "VariantSource", "open_variants", "split_record", "variants_from_rows"]

LINE_LIMIT = 64 << 20
"""Longest line of a VCF, in bytes: half a million samples take about 15 MB."""

_PATIENCE = 10.0
_BCF = b"BCF\2"
_TABLE_COLUMNS = ("chrom", "pos", "ref", "alt")
_TABLE_SUFFIXES = (".tsv", ".tsv.gz", ".txt", ".txt.gz")

Line = tuple[int, bytes]
"""1-based line number (of a BCF: record number) and the line without its end."""


@dataclass
class VariantSource:
    """Where variants come from.

    Attributes:
        name: path or description, for messages.
        header: the VCF header; made up for sources that have none.
        lines: yields the records, once; see `Line`.
        notes: warnings found while reading; complete when `lines` is used up.
    """

    name: str
    header: VcfHeader
    lines: Iterator[Line]
    notes: list[str]


def open_variants(path: str | os.PathLike[str]) -> VariantSource:
    """Open VCF, gzipped or bgzipped VCF, BCF, or a table with the columns chrom, pos, ref and alt.

    VCF and BCF are told apart by content; a table goes by its suffix (.tsv, .txt, also with .gz).

    Args:
        path: the file, or `-` for VCF or BCF on standard input.

    Raises:
        InputError: the file cannot be read or its header is no VCF header; while reading records: a malformed,
            damaged or truncated file, with the line.
    """
    name = os.fspath(path)
    if name.endswith(_TABLE_SUFFIXES):
        return variants_from_rows(_table_rows(name), name)
    source = open_source(path)
    try:
        is_bcf = source.peek(8).startswith(_BCF)
    except InputError as error:
        raise InputError(error.reason, file=name, line=1, remedy=error.remedy) from None
    except (EOFError, OSError, zlib.error):
        raise InputError("the gzip data are damaged or truncated", file=name, line=1) from None
    if is_bcf:
        return _open_bcf(name, source)
    notes: list[str] = []
    lines = _text_lines(source, name, notes)
    head: list[bytes] = []
    for number, line in lines:
        if not line.startswith(b"#"):
            reason = "the header has no #CHROM line" if head else "this is no VCF: it has no header"
            remedy = "a VCF begins with ##fileformat=VCFv4.x; a table of chrom, pos, ref, alt has the suffix .tsv"
            raise InputError(reason, file=name, line=number, remedy=remedy)
        head.append(line)
        if line.startswith(b"#CHROM"):
            break
    return VariantSource(name, parse_header(head, name), lines, notes)


def split_record(line: bytes, number: int, width: int, path: str | os.PathLike[str]) -> list[bytes]:
    """Check a record and split it into CHROM, POS, ID, REF, ALT, QUAL, FILTER, INFO and, where there is more, the rest.

    Args:
        line: the record without its line end.
        number: its line number, for messages.
        width: number of columns that the header names.
        path: the file, for messages.

    Raises:
        InputError: another number of columns, or a position that is no number.
    """
    fields = line.split(b"\t", 8)
    found = len(fields) if len(fields) < 9 else 9 + fields[8].count(b"\t")
    if found != width:
        if line.startswith(b"#"):
            raise InputError("a header line after the header", file=path, line=number)
        remedy = "columns are separated by tabs, not spaces" if found < 8 and b" " in line else None
        raise InputError(f"{found} columns, but the header names {width}", file=path, line=number, remedy=remedy)
    if not fields[1].isdigit() or len(fields[1]) > 12:
        text = fields[1][:40].decode("latin-1")
        raise InputError(f"POS is {text!r}, which is no position", file=path, line=number)
    if not fields[0] or b" " in fields[0]:
        raise InputError("CHROM is empty or holds a space", file=path, line=number)
    return fields


def variants_from_rows(rows: Iterator[tuple[int, str, int, str, str]], name: str) -> VariantSource:
    """A source of variants that come without a header.

    Args:
        rows: line number, contig, 1-based position, reference and alternative allele.
        name: what to call it in messages.
    """
    lines = ((number, f"{chrom}\t{pos}\t.\t{ref}\t{alt}\t.\t.\t.".encode()) for number, chrom, pos, ref, alt in rows)
    header = parse_header([b"##fileformat=VCFv4.3", b"\t".join(FIXED_COLUMNS)], name)
    return VariantSource(name, header, lines, [])


def _text_lines(source: io.BufferedReader, name: str, notes: list[str]) -> Iterator[Line]:
    number = 0
    readline: Callable[[int], bytes] = source.readline
    with source:
        while True:
            number += 1
            try:
                line = readline(LINE_LIMIT)
            except (EOFError, gzip.BadGzipFile, zlib.error):
                raise InputError("the gzip data are damaged or truncated", file=name, line=number) from None
            except InputError as error:
                raise InputError(error.reason, file=name, line=number, remedy=error.remedy) from None
            except OSError as error:
                raise InputError(f"cannot be read: {os.strerror(error.errno or 0)}", file=name, line=number) from None
            if line.endswith(b"\n"):
                yield number, line[:-2] if line.endswith(b"\r\n") else line[:-1]
            elif not line:
                return
            elif len(line) >= LINE_LIMIT:
                raise InputError(f"the line is longer than {LINE_LIMIT:,} bytes", file=name, line=number)
            else:
                notes.append(f"{name}:{number}: the last line has no line end: was the file cut off?")
                yield number, line


def _table_rows(path: str) -> Iterator[tuple[int, str, int, str, str]]:
    places: list[int] | None = None
    for number, text in read_lines(path):
        if not text.strip() or text.startswith("##"):
            continue
        fields = text.split("\t")
        if places is None:
            names = [field.strip().lstrip("#").lower() for field in fields]
            named = all(column in names for column in _TABLE_COLUMNS)
            places = [names.index(column) for column in _TABLE_COLUMNS] if named else [0, 1, 2, 3]
            if named:
                continue
        if len(fields) <= max(places):
            raise InputError(
                f"{len(fields)} columns", file=path, line=number, remedy="a table has chrom, pos, ref, alt, with tabs"
            )
        chrom, pos, ref, alt = (fields[place].strip() for place in places)
        if not (pos.isascii() and pos.isdigit()):
            raise InputError(f"pos is {pos[:40]!r}, which is no position", file=path, line=number)
        yield number, chrom, int(pos), ref, alt


def _open_bcf(name: str, source: io.BufferedReader) -> VariantSource:
    """Let pysam read the decompressed stream: what it is given was checked block by block."""
    import pysam

    faults: list[Exception] = []
    reading, writing = os.pipe()
    pump = threading.Thread(target=_pump, args=(source, writing, faults), daemon=True)
    pump.start()
    try:
        with os.fdopen(reading, "rb") as pipe:
            file = pysam.VariantFile(pipe)
    except (OSError, ValueError) as error:
        pump.join(_PATIENCE)
        raise _bcf_fault(name, 0, faults, error) from None
    header = parse_header(str(file.header).rstrip("\n").encode().split(b"\n"), name)

    def lines() -> Iterator[Line]:
        number = 0
        with file:
            try:
                for number, record in enumerate(file, 1):
                    yield number, str(record).rstrip("\n").encode()
            except (OSError, ValueError) as error:
                pump.join(_PATIENCE)
                raise _bcf_fault(name, number + 1, faults, error) from None
        # A stream that ended early may look whole to htslib; the pump knows better once it has ended.
        pump.join(_PATIENCE)
        if faults:
            raise _bcf_fault(name, number + 1, faults, faults[0])

    return VariantSource(name, header, lines(), [])


def _bcf_fault(name: str, record: int, faults: list[Exception], error: Exception) -> InputError:
    """The stream's own fault explains more than what htslib says when the stream ends."""
    fault = faults[0] if faults else error
    reason = fault.reason if isinstance(fault, InputError) else str(fault)
    return InputError(f"record {record}: {reason}" if record else reason, file=name)


def _pump(source: io.BufferedReader, writing: int, faults: list[Exception]) -> None:
    try:
        with source, open(writing, "wb", buffering=0) as pipe:
            while data := source.read1(1 << 16):
                view = memoryview(data)
                while view:
                    view = view[pipe.write(view) :]
    except BrokenPipeError:
        # The reader has what it wants, or has found a fault of its own.
        return
    except (InputError, EOFError, OSError, zlib.error) as error:
        faults.append(error)
