"""The header of a VCF file: what it declares, and the lines that a reader of the output would miss."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hyena_dna.errors import InputError

__all__ = ["FIXED_COLUMNS", "Undeclared", "VcfHeader", "contig_line", "info_line", "parse_header"]

FIXED_COLUMNS = (b"#CHROM", b"POS", b"ID", b"REF", b"ALT", b"QUAL", b"FILTER", b"INFO")

_ID = re.compile(rb"[<,]ID=([^,>]+)")
_LENGTH = re.compile(rb"[<,]length=([0-9]+)")
# Keys that the VCF specification reserves, with the type that it gives them (VCF 4.3, section 1.6.1).
_RESERVED = {
    **dict.fromkeys(("DB", "H2", "H3", "IMPRECISE", "SOMATIC"), ("0", "Flag")),
    **dict.fromkeys(("AN", "DP", "END", "MQ0", "NS"), ("1", "Integer")),
    **dict.fromkeys(("BQ", "MQ"), ("1", "Float")),
    **dict.fromkeys(("AA", "SVTYPE"), ("1", "String")),
    "AC": ("A", "Integer"), "AD": ("R", "Integer"), "AF": ("A", "Float"), "SVLEN": (".", "Integer"),
}  # fmt: skip


@dataclass(frozen=True)
class VcfHeader:
    """A header, kept byte for byte.

    Attributes:
        meta: the `##` lines, without line ends.
        columns: the `#CHROM` line, without its line end.
        contigs: declared length in bp of each declared contig, None where it has none.
        info: declared INFO keys.
        filters: declared FILTER names.
        formats: declared FORMAT keys.
    """

    meta: tuple[bytes, ...]
    columns: bytes
    contigs: Mapping[str, int | None]
    info: frozenset[bytes]
    filters: frozenset[bytes]
    formats: frozenset[bytes]

    @property
    def lines(self) -> int:
        """Number of lines."""
        return len(self.meta) + 1

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.columns.count(b"\t") + 1

    @property
    def samples(self) -> list[str]:
        """Names of the samples."""
        return [name.decode("utf-8", "replace") for name in self.columns.split(b"\t")[9:]]

    def without_info(self, names: Iterable[str]) -> VcfHeader:
        """The header without the declarations of some INFO keys."""
        gone = {name.encode() for name in names}
        kept = tuple(line for line in self.meta if not (line.startswith(b"##INFO=") and _id(line) in gone))
        return VcfHeader(kept, self.columns, self.contigs, self.info - gone, self.filters, self.formats)

    def render(self, added: Iterable[bytes]) -> bytes:
        """The whole header with more `##` lines at the end of those that it has."""
        return b"\n".join([*self.meta, *added, self.columns]) + b"\n"


@dataclass
class Undeclared:
    """What records use and the header does not declare.

    Attributes:
        contigs: contig names, in order of appearance.
        info: INFO keys; False while a key was only seen without a value.
        filters: FILTER names.
        formats: FORMAT keys.
        symbolic: whether symbolic alleles occur, for which htslib wants END declared.
    """

    contigs: dict[str, None] = field(default_factory=dict)
    info: dict[str, bool] = field(default_factory=dict)
    filters: dict[str, None] = field(default_factory=dict)
    formats: dict[str, None] = field(default_factory=dict)
    symbolic: bool = False

    def add(self, header: VcfHeader, fields: list[bytes]) -> None:
        """Look at one record's FILTER, INFO and FORMAT columns."""
        if fields[6] not in header.filters:
            for name in fields[6].split(b";"):
                if name not in header.filters and name not in (b".", b"PASS", b""):
                    self.filters[name.decode("utf-8", "replace")] = None
        if fields[7] != b".":
            for item in fields[7].split(b";"):
                key, equals, _ = item.partition(b"=")
                if key and key not in header.info:
                    text = key.decode("utf-8", "replace")
                    self.info[text] = self.info.get(text, False) or bool(equals)
        if len(fields) > 8:
            end = fields[8].find(b"\t")
            keys = fields[8] if end < 0 else fields[8][:end]
            for key in keys.split(b":"):
                if key not in header.formats and key != b".":
                    self.formats[key.decode("utf-8", "replace")] = None

    def update(self, other: Undeclared) -> None:
        """Add what another part of the file uses."""
        self.contigs |= other.contigs
        for name, valued in other.info.items():
            self.info[name] = self.info.get(name, False) or valued
        self.filters |= other.filters
        self.formats |= other.formats
        self.symbolic |= other.symbolic

    def header_lines(self, header: VcfHeader, lengths: Mapping[str, int | None]) -> list[bytes]:
        """Declarations of all of it.

        Args:
            header: the header of the input.
            lengths: length in bp of contigs that should be declared; None where it is not known.
        """
        lines = [contig_line(name, length) for name, length in lengths.items() if name not in header.contigs]
        lines += [contig_line(name, None) for name in self.contigs if name not in {*header.contigs, *lengths}]
        info = dict(self.info)
        if self.symbolic and b"END" not in header.info:
            info["END"] = True
        for name, valued in info.items():
            number, kind = _RESERVED.get(name, (".", "String") if valued else ("0", "Flag"))
            lines.append(info_line(name, number, kind, "Not declared in the input"))
        lines += [f'##FILTER=<ID={name},Description="Not declared in the input">'.encode() for name in self.filters]
        for name in self.formats:
            lines.append(f'##FORMAT=<ID={name},Number=.,Type=String,Description="Not declared in the input">'.encode())
        return lines


def contig_line(name: str, length: int | None) -> bytes:
    """A `##contig` line."""
    return (f"##contig=<ID={name}>" if length is None else f"##contig=<ID={name},length={length}>").encode()


def info_line(name: str, number: str, kind: str, description: str) -> bytes:
    """An `##INFO` line."""
    return f'##INFO=<ID={name},Number={number},Type={kind},Description="{description}">'.encode()


def _id(line: bytes) -> bytes:
    match = _ID.search(line)
    return match[1] if match else b""


def parse_header(lines: list[bytes], path: str | os.PathLike[str]) -> VcfHeader:
    """Check and read the lines up to and including `#CHROM`, given without their line ends.

    Raises:
        InputError: there is no `##fileformat=VCF` line at the top, no `#CHROM` line at the end, or its columns are
            not those of VCF.
    """
    if not lines:
        raise InputError("the file is empty", file=path, remedy="a VCF file begins with ##fileformat=VCFv4.x")
    if lines[0].startswith(b"\xef\xbb\xbf"):
        raise InputError("a byte order mark stands before the header", file=path, line=1, remedy="remove it")
    if not lines[0].startswith(b"##fileformat=VCFv"):
        raise InputError(
            "this is no VCF: the first line is not ##fileformat=VCFv4.x", file=path, line=1,
            remedy="a table of chrom, pos, ref, alt goes by the suffix .tsv",
        )  # fmt: skip
    columns = lines[-1]
    if not columns.startswith(b"#CHROM"):
        raise InputError("the header has no #CHROM line", file=path, line=len(lines))
    names = columns.split(b"\t")
    if tuple(names[:8]) != FIXED_COLUMNS or (len(names) > 8 and names[8] != b"FORMAT"):
        raise InputError(
            "the #CHROM line does not name the columns of VCF", file=path, line=len(lines),
            remedy="columns are separated by tabs: CHROM POS ID REF ALT QUAL FILTER INFO [FORMAT sample...]",
        )  # fmt: skip
    contigs: dict[str, int | None] = {}
    declared: dict[bytes, set[bytes]] = {b"INFO": set(), b"FILTER": {b"PASS"}, b"FORMAT": set()}
    for line in lines:
        kind = line[2 : line.find(b"=")]
        if kind in declared:
            declared[kind].add(_id(line))
        elif kind == b"contig":
            length = _LENGTH.search(line)
            contigs[_id(line).decode("utf-8", "replace")] = int(length[1]) if length else None
    return VcfHeader(
        tuple(lines[:-1]),
        columns,
        contigs,
        frozenset(declared[b"INFO"]),
        frozenset(declared[b"FILTER"] | {b"."}),
        frozenset(declared[b"FORMAT"]),
    )
