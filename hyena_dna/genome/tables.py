"""Labelled sequences or regions from CSV, TSV and Parquet tables with named columns."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hyena_dna.errors import InputError
from hyena_dna.genome.lines import read_lines
from hyena_dna.genome.region_collector import Region, RegionCollector, check_label, find_column
from hyena_dna.genome.sequence import NORMALISE, NORMALISE_RNA

__all__ = ["SequenceRow", "Table", "read_table"]

logger = logging.getLogger("hyena_dna")

_PLACE = ("chrom", "start", "end")
_PARQUET = b"PAR1"


@dataclass(frozen=True, slots=True)
class SequenceRow:
    """One labelled sequence of a table.

    Attributes:
        name: column `name`, or `rowN` counted from 1.
        sequence: upper-case A, C, G, T and N.
        label: class or value as written, None where the table has no labels.
        split: train, validation or test as written, None where the table has no splits.
        line: 1-based line in the file (Parquet: row).
    """

    name: str
    sequence: bytes
    label: str | None
    split: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Table:
    """What a table holds: sequences or regions, in the order of the file; the other list is empty."""

    sequences: list[SequenceRow]
    regions: list[Region]


def read_table(
    path: str | os.PathLike[str],
    *,
    contigs: Mapping[str, int] | None = None,
    label_column: int | str | None = None,
    split_column: int | str | None = None,
    require_labels: bool = False,
    clip: bool = False,
    rna: bool = False,
) -> Table:
    """Read a table with a header line: a column `sequence`, or columns `chrom`, `start`, `end` (0-based, half-open).

    Columns `name`, `strand`, `label` and `split` are used where they are; others are ignored. Comma or tab is decided
    by the header. A quoted field ends on its own line: a lone quote cannot swallow the rows that follow.

    Args:
        path: CSV or TSV (plain, gzip, bgzip, or `-` for standard input), or Parquet.
        contigs: length in bp of every contig of the genome, for a table of regions.
        label_column: 1-based number or name of the label; by default `label`. Giving it implies `require_labels`. Names
            joined by commas are columns of 0 and 1; the label is then the names of those with 1, joined by `;`.
        split_column: 1-based number or name of the split; by default `split`.
        require_labels: the caller learns from labels: each row must have one, finite where it is a number.
        clip: cut regions at the end of their contig instead of refusing them.
        rna: read U as T.

    Raises:
        InputError: with file and line, for a row that is not as said above, and for a table without rows.
    """
    rows = _parquet_rows(path) if _is_parquet(path) else _text_rows(path)
    header = next(rows, (0, []))[1]
    width = len(header)
    for used in ("sequence", *_PLACE, "name", "strand", "label", "split"):
        if header.count(used) > 1:
            raise InputError(f"{header.count(used)} columns are called {used!r}", file=path, line=1)
    is_place = all(name in header for name in _PLACE)
    if not is_place and "sequence" not in header:
        raise InputError(
            "the header names no column 'sequence', nor 'chrom', 'start', 'end'" if header else "the table is empty",
            file=path,
            remedy="the first line must name the columns",
        )
    labels = require_labels or label_column is not None
    if label_column is None and (require_labels or "label" in header):
        label_column = "label"
    if split_column is None and "split" in header:
        split_column = "split"
    several: list[int] = []
    if isinstance(label_column, str) and "," in label_column and label_column not in header:
        several = [find_column(column.strip(), header, width, path) for column in label_column.split(",")]
        label_column, labels = None, False
    label = None if label_column is None else find_column(label_column, header, width, path)
    split = None if split_column is None else find_column(split_column, header, width, path)
    name = header.index("name") if "name" in header else None

    def optional(fields: list[str], index: int | None) -> str | None:
        return None if index is None else fields[index]

    def labelled(line: int, fields: list[str]) -> str | None:
        return _joined(header, fields, several, path, line) if several else optional(fields, label)

    if "sequence" not in header:
        chrom, start, end = (header.index(column) for column in _PLACE)
        strand = header.index("strand") if "strand" in header else None
        collector = RegionCollector(path, contigs=contigs, clip=clip, labels=labels, splits=split is not None)
        for line, fields in rows:
            collector.add(
                line,
                fields[chrom],
                fields[start],
                fields[end],
                strand=optional(fields, strand) or ".",
                name=optional(fields, name) or "",
                label=labelled(line, fields),
                split=optional(fields, split),
            )
        return Table([], collector.finish())

    sequence = header.index("sequence")
    found: list[SequenceRow] = []
    for line, fields in rows:
        value = labelled(line, fields)
        part = optional(fields, split)
        if split is not None and not part:
            raise InputError("the split is missing", file=path, line=line)
        found.append(
            SequenceRow(
                optional(fields, name) or f"row{len(found) + 1}",
                _bases(fields[sequence], path, line, rna=rna),
                check_label(value, path, line) if labels else value or None,
                part,
                line,
            )
        )
    if not found:
        raise InputError("the table has no rows", file=path)
    _warn_of_duplicates(found, path)
    return Table(found, [])


def _joined(header: list[str], fields: list[str], columns: list[int], path: str | os.PathLike[str], line: int) -> str:
    """Names of the columns that hold a 1, joined by `;`."""
    for column in columns:
        if fields[column] not in ("0", "1"):
            raise InputError(
                f"column {header[column]!r} holds {fields[column]!r}; with several label columns each is 0 or 1",
                file=path,
                line=line,
            )
    return ";".join(header[column] for column in columns if fields[column] == "1")


def _bases(text: str, path: str | os.PathLike[str], line: int, *, rna: bool) -> bytes:
    # A character beyond Latin-1 has no place in the table; "?" is forbidden like it and stands at the same position.
    sequence = text.encode("latin-1", "replace").translate(NORMALISE_RNA if rna else NORMALISE)
    if not sequence:
        raise InputError("the sequence is empty", file=path, line=line)
    wrong = sequence.find(0)
    if wrong >= 0:
        remedy = "RNA? give --rna" if text[wrong] in "Uu" else "letters are A, C, G, T, N and the IUPAC codes"
        raise InputError(
            f"{text[wrong]!r} at position {wrong + 1} of the sequence is no base", file=path, line=line, remedy=remedy
        )
    return sequence


def _warn_of_duplicates(rows: list[SequenceRow], path: str | os.PathLike[str]) -> None:
    """Count repeated sequences. Published benchmarks have them, so that they are not an error."""
    labels: dict[bytes, str | None] = {}
    repeated = conflicting = 0
    for row in rows:
        first = labels.setdefault(row.sequence, row.label)
        conflicting += first != row.label
        repeated += 1
    repeated -= len(labels)
    if repeated:
        logger.warning(
            "%s: %d sequences repeat an earlier one, %d of them with another label", path, repeated, conflicting
        )


def _text_rows(path: str | os.PathLike[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, fields) of the header and of every row."""
    delimiter, width = "", 0
    for line, text in read_lines(path):
        if not text.strip():
            continue
        if not width:
            delimiter = "\t" if "\t" in text else ","
        fields = text.split(delimiter)
        if '"' in text:
            try:
                fields = next(csv.reader([text], delimiter=delimiter, strict=True))
            except csv.Error as error:
                raise InputError(
                    f"the quoting is wrong ({error})",
                    file=path,
                    line=line,
                    remedy="a quoted field ends on its own line",
                ) from None
        if not width:
            width = len(fields)
            fields = [field.strip() for field in fields]
        if len(fields) != width:
            raise InputError(f"{len(fields)} columns, but the header names {width}", file=path, line=line)
        yield line, fields


def _is_parquet(path: str | os.PathLike[str]) -> bool:
    if os.fspath(path) == "-" or not os.path.isfile(path):
        return False
    with open(path, "rb") as handle:
        return os.fspath(path).endswith(".parquet") or handle.read(len(_PARQUET)) == _PARQUET


def _parquet_rows(path: str | os.PathLike[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (row, fields as text) of the header (row 0) and of every row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        yield 0, list(file.schema_arrow.names)
        row = 0
        for batch in file.iter_batches(batch_size=4096):
            for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                row += 1
                yield row, [_text(value) for value in values]
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"the Parquet file cannot be read: {str(error).splitlines()[0]}", file=path) from None


def _text(value: Any) -> str:
    # Bytes come from writers that knew no text type; a missing value reads like an empty field.
    if value is None:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
