"""The rules that every list of regions obeys, whatever file it came from."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from hyena_dna.errors import InputError
from hyena_dna.genome.contigs import contig_hint
from hyena_dna.genome.interval import Interval

__all__ = ["Region", "RegionCollector", "check_label", "find_column"]

logger = logging.getLogger("hyena_dna")

# int() takes signs, underscores, spaces and the digits of every script; a coordinate is none of these.
_COORDINATE = re.compile(r"[0-9]{1,18}")
_ONE_BASED = "coordinates are 0-based, half-open; these look 1-based: subtract 1 from the starts"


@dataclass(frozen=True, slots=True)
class Region:
    """One line of a region file.

    Attributes:
        interval: where it is; strand "." where the file gives none.
        name: its name; `chrom:start-end` (0-based, half-open) where the file gives none.
        label: its class or value as written, None where the file gives none.
        split: train, validation or test as written, None where the file gives none.
        line: 1-based line (or row) in the file, for messages.
    """

    interval: Interval
    name: str
    label: str | None = None
    split: str | None = None
    line: int = 0


def find_column(column: int | str, header: list[str] | None, width: int, file: str | os.PathLike[str]) -> int:
    """Turn a user's column, a 1-based number or a name in the header, into a 0-based index.

    Args:
        column: number (also as text) or name.
        header: column names, None where the file has none.
        width: number of columns.
        file: for the message.

    Raises:
        InputError: no such column.
    """
    if isinstance(column, int) or _COORDINATE.fullmatch(column):
        if 1 <= int(column) <= width:
            return int(column) - 1
        raise InputError(f"there is no column {column}: the file has {width}", file=file)
    if header is None:
        raise InputError(f"there is no header to find column {column!r} in", file=file, remedy="give its number")
    if header.count(column) != 1:
        raise InputError(
            f"{header.count(column)} columns are called {column!r}",
            file=file,
            remedy=f"the columns are {', '.join(header)}",
        )
    return header.index(column)


def check_label(label: str | None, file: str | os.PathLike[str], line: int) -> str:
    """Return a label that can be learnt.

    Raises:
        InputError: it is missing, empty, ".", NaN or infinite.
    """
    if label is None or label in ("", "."):
        raise InputError("the label is missing", file=file, line=line)
    try:
        finite = math.isfinite(float(label))
    except ValueError:
        finite = True
    if not finite:
        raise InputError(f"the label {label!r} is not a finite number", file=file, line=line)
    return label


class RegionCollector:
    """Checks regions one by one as they are read, and all together at the end.

    Args:
        file: where they come from, for messages.
        contigs: length in bp of every contig; None leaves contigs and ends unchecked.
        clip: cut regions at the end of their contig instead of refusing them.
        labels: every region must have a label, and the same interval may not have two.
        splits: every region must name a split.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        *,
        contigs: Mapping[str, int] | None,
        clip: bool,
        labels: bool,
        splits: bool,
    ) -> None:
        self._file = file
        self._contigs = contigs
        self._clip = clip
        self._labels = labels
        self._splits = splits
        self._regions: list[Region] = []
        self._first: dict[tuple[str, int, int, str], Region] = {}
        self._duplicates = 0
        self._clipped = 0
        self._unknown = 0
        self._first_unknown: tuple[str, int] | None = None
        self._any_known = False

    def add(
        self,
        line: int,
        chrom: str,
        start: str,
        end: str,
        *,
        strand: str = ".",
        name: str = "",
        label: str | None = None,
        split: str | None = None,
    ) -> None:
        """Take one region, its fields as written in the file.

        Raises:
            InputError: a coordinate is not a plain integer, the interval is empty or beyond its contig, the strand is
                none of "+", "-", ".", or label or split are required and missing.
        """
        if not chrom:
            raise InputError("the contig name is empty", file=self._file, line=line)
        interval = self._interval(line, chrom, start, end, strand)
        if self._labels:
            label = check_label(label, self._file, line)
        if self._splits and (split is None or split in ("", ".")):
            raise InputError("the split is missing", file=self._file, line=line)
        if name in ("", "."):
            name = f"{chrom}:{interval.start}-{interval.end}"
        region = Region(interval, name, None if label in ("", ".") else label, split, line)
        if self._contigs is not None:
            if chrom not in self._contigs:
                self._unknown += 1
                self._first_unknown = self._first_unknown or (chrom, line)
                return
            self._any_known = True
        self._compare(region)
        self._regions.append(region)

    def finish(self) -> list[Region]:
        """All regions, in the order of the file; warns once about duplicates and clipped ends.

        Raises:
            InputError: there are none, or some lie on contigs that the genome does not have.
        """
        if self._first_unknown is not None and self._contigs is not None:
            chrom, line = self._first_unknown
            count = f"{self._unknown} regions lie" if self._unknown > 1 else "1 region lies"
            none_known = "" if self._any_known else ", and no region on a known contig"
            raise InputError(
                f"{chrom!r} is not a contig of the genome: {count} on unknown contigs{none_known}",
                file=self._file,
                line=line,
                remedy=contig_hint(chrom, self._contigs),
            )
        if not self._regions:
            raise InputError("no regions", file=self._file)
        if self._duplicates:
            logger.warning("%s: %d regions are there more than once", self._file, self._duplicates)
        if self._clipped:
            logger.warning("%s: %d regions were cut at the end of their contig", self._file, self._clipped)
        return self._regions

    def _interval(self, line: int, chrom: str, start: str, end: str, strand: str) -> Interval:
        for what, text in (("start", start), ("end", end)):
            if not _COORDINATE.fullmatch(text):
                raise InputError(f"the {what} {text[:40]!r} is not a whole number >= 0", file=self._file, line=line)
        first, last = int(start), int(end)
        if first >= last:
            raise InputError(
                f"the region is empty: start {first} is not before end {last}",
                file=self._file,
                line=line,
                remedy=_ONE_BASED if first == last else None,
            )
        if strand not in ("+", "-", "."):
            raise InputError(f"the strand {strand!r} is none of '+', '-', '.'", file=self._file, line=line)
        length = None if self._contigs is None else self._contigs.get(chrom)
        if length is not None and last > length:
            if not self._clip or first >= length:
                raise InputError(
                    f"end {last} > {chrom} length {length}",
                    file=self._file,
                    line=line,
                    remedy=_ONE_BASED if last == length + 1 else "another assembly? --clip cuts ends at the contig",
                )
            self._clipped += 1
            last = length
        return Interval(chrom, first, last, strand)

    def _compare(self, region: Region) -> None:
        place = region.interval
        # A plain tuple: a file may have millions of regions, and an Interval takes three times as long to hash.
        first = self._first.setdefault((place.chrom, place.start, place.end, place.strand), region)
        if first is region:
            return
        if self._labels and first.label != region.label:
            raise InputError(
                f"the region has label {region.label!r} here and {first.label!r} in line {first.line}",
                file=self._file,
                line=region.line,
            )
        if (first.name, first.label) == (region.name, region.label):
            self._duplicates += 1
