"""The effects of all substitutions of regions: parts of a run that is under way, and the files made of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dna.errors import InputError
from hyena_dna.files import atomic_open, atomic_path
from hyena_dna.genome.regions import Region
from hyena_dna.output.bgzf_blocks import BGZF_EOF, compress_blocks
from hyena_dna.output.npz import open_npz
from hyena_dna.output.parts import Parts
from hyena_dna.output.tracks import Stretch, write_track

__all__ = [
    "BASES",
    "SUFFIXES",
    "MutagenesisTable",
    "RegionEffects",
    "check_matrix",
    "mean_effect",
    "write_effect_track",
    "write_matrix",
    "write_mutagenesis_part",
]

BASES = "ACGT"
"""Alternative bases in the order of every matrix."""

SUFFIXES = (".tsv", ".tsv.gz", ".parquet", ".npz")

_KEYS = ("chrom", "start", "end", "name", "ref", "alt", "status")


class RegionEffects(NamedTuple):
    """A region, or a piece of one.

    Attributes:
        region: the region.
        start: first base of the piece, 0-based.
        bases: its reference bases.
        values: (length, 4, fields), by position, alternative base and score; NaN where there is none.
        statuses: of each position.
    """

    region: Region
    start: int
    bases: str
    values: NDArray[np.float64]
    statuses: list[str]


def write_mutagenesis_part(
    parts: Parts,
    index: int,
    pieces: Sequence[tuple[int, int]],
    bases: Sequence[str],
    values: NDArray[np.float64],
    statuses: Sequence[str],
) -> None:
    """Write the effects of one chunk.

    Args:
        parts: the run's folder.
        index: number of the chunk.
        pieces: number of the region and first base (0-based) of each piece.
        bases: reference bases of each piece.
        values: (positions of all pieces, 4, fields).
        statuses: (positions of all pieces,).
    """
    with parts.write(index) as (handle, record):
        handle.write(np.ascontiguousarray(values, "<f8").data)
        record.update(pieces=[list(piece) for piece in pieces], bases=list(bases), statuses=list(statuses))


@dataclass(frozen=True)
class MutagenesisTable:
    """All finished parts of a run. Only the region being read is in memory.

    Attributes:
        parts: the run's folder.
        n_parts: number of parts, all finished.
        regions: the regions, in the order of the input.
        fields: names of the scores.
        facts: how it was made, for the metadata of outputs.
    """

    parts: Parts
    n_parts: int
    regions: Sequence[Region]
    fields: tuple[str, ...]
    facts: Mapping[str, Any]

    def pieces(self) -> Iterator[RegionEffects]:
        """Pieces of regions, in the order of the input."""
        for index in range(self.n_parts):
            record, done = self.parts.record(index), 0
            values = np.fromfile(self.parts.checked(index), "<f8").reshape(-1, len(BASES), len(self.fields))
            for (number, start), bases in zip(record["pieces"], record["bases"], strict=True):
                here = slice(done, done + len(bases))
                yield RegionEffects(self.regions[number], start, bases, values[here], record["statuses"][here])
                done += len(bases)

    def __iter__(self) -> Iterator[RegionEffects]:
        """Whole regions, in the order of the input."""
        for _, group in groupby(self.pieces(), key=lambda piece: id(piece.region)):
            pieces = list(group)
            yield RegionEffects(
                pieces[0].region,
                pieces[0].start,
                "".join(piece.bases for piece in pieces),
                np.concatenate([piece.values for piece in pieces]),
                [status for piece in pieces for status in piece.statuses],
            )


def check_matrix(path: Path) -> None:
    """Check, before any work, that effects can be written to a file of this name.

    Raises:
        InputError: the suffix is none of `SUFFIXES`.
    """
    if not path.name.endswith(SUFFIXES):
        raise InputError(f"effects are written as one of {', '.join(SUFFIXES)}", file=path)


def write_matrix(table: MutagenesisTable, path: Path) -> None:
    """Write all effects.

    Tables have a row for each substitution: `start` and `end` (0-based) of the base, the region's name, `ref`, `alt`,
    status, scores; bases that are not A, C, G or T have no rows. `.npz` holds a (positions, 4) array for each score,
    NaN for the reference base, with `chrom`, `position` (0-based), `ref` and `name` of each position.

    Raises:
        InputError: it cannot be written.
    """
    check_matrix(path)
    if path.suffix == ".npz":
        with atomic_path(path) as temporary:
            _write_npz(table, temporary)
    elif path.suffix == ".parquet":
        with atomic_path(path) as temporary:
            _write_parquet(table, temporary)
    else:
        with atomic_open(path) as handle:

            def write(text: str) -> None:
                handle.write(compress_blocks(text.encode()) if path.suffix == ".gz" else text.encode())

            write("\t".join((*_KEYS, *table.fields)) + "\n")
            for piece in table.pieces():
                write("".join(_line(row) for row in _rows(piece)))
            if path.suffix == ".gz":
                handle.write(BGZF_EOF)


def _rows(piece: RegionEffects) -> Iterator[list[Any]]:
    place = piece.region.interval
    for offset, (base, status) in enumerate(zip(piece.bases, piece.statuses, strict=True)):
        if base not in BASES:
            continue
        at = piece.start + offset
        for number, alt in enumerate(BASES):
            if alt != base:
                values = piece.values[offset, number].tolist()
                yield [place.chrom, at, at + 1, piece.region.name, base, alt, status, *values]


def _line(row: list[Any]) -> str:
    keys, values = row[: len(_KEYS)], row[len(_KEYS) :]
    return "\t".join([*map(str, keys), *("" if math.isnan(v) else f"{v:.9g}" for v in values)]) + "\n"


def _write_parquet(table: MutagenesisTable, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {name: pa.int64() if name in ("start", "end") else pa.string() for name in _KEYS}
    kinds |= dict.fromkeys(table.fields, pa.float64())
    schema = pa.schema(list(kinds.items()), {"hyena_dna": json.dumps(table.facts)})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for region in table:
            rows = list(_rows(region))
            columns = list(zip(*rows, strict=True)) if rows else [() for _ in kinds]
            arrays = [
                pa.array([None if isinstance(v, float) and math.isnan(v) else v for v in column], kind)
                for column, kind in zip(columns, kinds.values(), strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _write_npz(table: MutagenesisTable, path: Path) -> None:
    positions = sum(region.interval.length for region in table.regions)
    widths = {
        "chrom": max(len(region.interval.chrom) for region in table.regions),
        "name": max(len(region.name) for region in table.regions),
    }
    facts = json.dumps(table.facts)
    with open_npz(path) as write:
        for number, field in enumerate(table.fields):
            write(field, "<f8", (positions, len(BASES)), (piece.values[..., number] for piece in table.pieces()))
        write(
            "position",
            "<i8",
            (positions,),
            (np.arange(piece.start, piece.start + len(piece.bases)) for piece in table.pieces()),
        )
        write("ref", "<U1", (positions,), (np.array(list(piece.bases)) for piece in table.pieces()))
        for name, width in widths.items():
            write(
                name,
                f"<U{width}",
                (positions,),
                (
                    np.full(len(piece.bases), piece.region.name if name == "name" else piece.region.interval.chrom)
                    for piece in table.pieces()
                ),
            )
        write("alt", "<U1", (len(BASES),), [np.array(list(BASES))])
        write("facts", f"<U{len(facts)}", (), [np.array(facts)])


def mean_effect(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(length, 4) effects -> (length,) mean of those that are there; NaN where none is."""
    known = ~np.isnan(values)
    counts = known.sum(1)
    sums = np.where(known, values, 0).sum(1)
    found = np.full(len(values), np.nan)
    np.divide(sums, counts, out=found, where=counts > 0)
    return found


def write_effect_track(table: MutagenesisTable, field: str, path: Path, contigs: Mapping[str, int]) -> None:
    """Write a track of the mean effect of the three substitutions of every base.

    Of bases in several regions the effect is that in the first along the contig.

    Raises:
        InputError: as `hyena_dna.output.tracks.write_track`.
    """
    order = {name: number for number, name in enumerate(contigs)}
    number = table.fields.index(field)
    pieces = [
        (order[p.region.interval.chrom], p.start, p.region.interval.chrom, mean_effect(p.values[..., number]))
        for p in table.pieces()
    ]

    def stretches() -> Iterator[Stretch]:
        chrom, reached = "", 0
        for _, start, name, values in sorted(pieces, key=lambda piece: piece[:2]):
            if name != chrom:
                chrom, reached = name, 0
            skipped = max(0, reached - start)
            if skipped < len(values):
                yield Stretch.per_base(name, start + skipped, values[skipped:])
                reached = start + len(values)

    write_track(path, contigs, stretches())
