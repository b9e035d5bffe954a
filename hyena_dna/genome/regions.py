"""Regions from BED and narrowPeak files: 0-based, half-open, tab-separated."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from hyena_dna.errors import InputError
from hyena_dna.genome.lines import read_lines
from hyena_dna.genome.region_collector import Region, RegionCollector, find_column

__all__ = ["Region", "read_regions"]

_NAME, _STRAND = 3, 5
_PLACE = re.compile(r"[^\t]+:[0-9,]+-[0-9,]+")
_STARTS = ("start", "chromstart", "chrom_start")
_ENDS = ("end", "stop", "chromend", "chrom_end")


def read_regions(
    path: str | os.PathLike[str],
    *,
    contigs: Mapping[str, int] | None = None,
    label_column: int | str | None = None,
    split_column: int | str | None = None,
    require_labels: bool = False,
    clip: bool = False,
) -> list[Region]:
    """Read a BED file of three or more columns, or a narrowPeak file.

    Column 4 is the name and, unless said otherwise, the label; column 6 is the strand, unless a header or one of the
    arguments gives it another meaning. `#`, `track` and `browser` lines are skipped; the first line, with or without
    `#`, may be a header that names the columns (chrom, start, end, ...), of which `label` and `split` are then used.

    Args:
        path: plain, gzip or bgzip file, or `-` for standard input.
        contigs: length in bp of every contig of the genome; None leaves names and ends unchecked.
        label_column: 1-based number or header name of the label; giving it implies `require_labels`.
        split_column: 1-based number or header name of the split.
        require_labels: the caller learns from labels: each region must have one (finite, where it is a number), and an
            interval that is there twice must have the same one.
        clip: cut regions at the end of their contig instead of refusing them.

    Returns:
        The regions, in the order of the file. Repeated regions stay and are counted in a warning.

    Raises:
        InputError: with file and line, for whatever is not as said above, and for a file without regions.
    """
    labels = require_labels or label_column is not None
    collector = RegionCollector(path, contigs=contigs, clip=clip, labels=labels, splits=split_column is not None)
    header: list[str] | None = None
    columns: _Columns | None = None
    for line, text in read_lines(path):
        if text.startswith("#"):
            _refuse_other_formats(text, path, line)
            if columns is None and _is_header(text.removeprefix("#").split("\t")):
                header = text.removeprefix("#").split("\t")
            continue
        if not text.strip() or text.split(maxsplit=1)[0] in ("track", "browser"):
            continue
        fields = text.split("\t")
        if columns is None:
            if header is None and _is_header(fields):
                header = fields
                continue
            _refuse_other_formats(text, path, line)
            columns = _Columns(fields, header, label_column, split_column, path, line)
        if len(fields) != columns.width:
            raise InputError(f"{len(fields)} columns where there were {columns.width} before", file=path, line=line)
        collector.add(
            line,
            *fields[:3],
            strand=fields[_STRAND] if columns.stranded else ".",
            name=fields[_NAME] if columns.width > _NAME else "",
            label=None if columns.label is None else fields[columns.label],
            split=None if columns.split is None else fields[columns.split],
        )
    return collector.finish()


class _Columns:
    """What the columns of this file mean, decided at its first line of data."""

    def __init__(
        self,
        fields: list[str],
        header: list[str] | None,
        label: int | str | None,
        split: int | str | None,
        path: str | os.PathLike[str],
        line: int,
    ) -> None:
        self.width = len(fields)
        if header is not None and len(header) != self.width:
            raise InputError(f"{self.width} columns, but the header names {len(header)}", file=path, line=line)
        names = header or []
        if label is None:
            label = "label" if "label" in names else _NAME + 1 if self.width > _NAME else None
        if split is None and "split" in names:
            split = "split"
        self.label = None if label is None else find_column(label, header, self.width, path)
        self.split = None if split is None else find_column(split, header, self.width, path)
        named = header is None or (self.width > _STRAND and header[_STRAND].lower() == "strand")
        self.stranded = self.width > _STRAND and named and _STRAND not in (self.label, self.split)


def _is_header(fields: list[str]) -> bool:
    return len(fields) >= 3 and fields[1].strip().lower() in _STARTS and fields[2].strip().lower() in _ENDS


def _refuse_other_formats(text: str, path: str | os.PathLike[str], line: int) -> None:
    """Say what the file is, where it is a well-known format other than BED."""
    fields = text.split("\t")
    columns = "BED has tab-separated columns: contig, start (0-based), end"
    gff = len(fields) >= 8 and fields[3].isdecimal() and fields[4].isdecimal() and not fields[1].isdecimal()
    if text.startswith(("##gff", "##gtf")) or gff:
        reason, remedy = "this looks like GFF or GTF, which is 1-based", "convert it: subtract 1 from the starts"
    elif text.startswith("##fileformat=VCF"):
        reason, remedy = "this looks like a VCF file", columns
    elif text.startswith("#"):
        return
    elif text.startswith(">"):
        reason, remedy = "this looks like a FASTA file", columns
    elif _PLACE.fullmatch(text.strip()):
        reason, remedy = "this looks like CONTIG:START-END, which is 1-based", columns
    elif len(fields) >= 3:
        return
    elif len(text.split()) >= 3:
        reason, remedy = "the columns are separated by blanks, not by tabs", columns
    elif text.count(",") >= 2:
        reason, remedy = "the columns are separated by commas, not by tabs", columns
    else:
        reason, remedy = f"{len(fields)} columns, but a region has at least 3", columns
    raise InputError(reason, file=path, line=line, remedy=remedy)
