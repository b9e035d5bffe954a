"""Likelihood files of every format, written part by part: memory does not grow with the number of records or bases."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena_dna.errors import InputError, missing_extra
from hyena_dna.files import atomic_directory, atomic_open, atomic_path
from hyena_dna.output.bgzf_blocks import BGZF_EOF, compress_blocks
from hyena_dna.output.embedding_parts import COLUMNS, TEXT_COLUMNS
from hyena_dna.output.likelihood_parts import LikelihoodTable, RecordLikelihood
from hyena_dna.output.npz import open_npz
from hyena_dna.output.tracks import TRACK_SUFFIXES, check_track, write_track

__all__ = ["check_bases_file", "check_table", "likelihood_columns", "track_paths", "write_bases", "write_table",
           "write_tracks"]  # fmt: skip

TABLE_SUFFIXES = (".tsv", ".tsv.gz", ".parquet")
BASES_SUFFIXES = (".npz", ".parquet", ".zarr")

_ROWS = 1 << 16


def check_table(path: Path) -> None:
    """Check, before any work, that a table can be written to a file of this name.

    Raises:
        InputError: the suffix is none of those that are known.
    """
    if not path.name.endswith(TABLE_SUFFIXES):
        raise InputError(f"a table is written as one of {', '.join(TABLE_SUFFIXES)}", file=path)


def check_bases_file(path: Path) -> None:
    """Check, before any work, that values of every base can be written to a file of this name here.

    Raises:
        InputError: the suffix is none of those that are known, or what writes it is not installed.
    """
    if path.suffix not in BASES_SUFFIXES:
        raise InputError(f"values of every base are written as one of {', '.join(BASES_SUFFIXES)}", file=path)
    if path.suffix == ".zarr":
        _zarr()


def _zarr() -> Any:
    try:
        return importlib.import_module("zarr")
    except ImportError:
        raise missing_extra(".zarr output", "zarr") from None


def track_paths(path: Path, quantities: tuple[str, ...], strands: str) -> dict[tuple[str, str], Path]:
    """The tracks that a run writes, by quantity and strand: `x.bw` becomes `x.log_prob_mean.bw` and so on.

    Raises:
        InputError: the suffix is not one of a track, or what writes it is not installed.
    """
    check_track(path)
    suffix = max((end for end in TRACK_SUFFIXES if path.name.lower().endswith(end)), key=len)
    stem, end = path.name[: -len(suffix)], path.name[-len(suffix) :]
    wanted = ("mean", "fwd", "rev") if strands == "all" else (strands,)
    return {(q, s): path.with_name(f"{stem}.{q}_{s}{end}") for q in quantities for s in wanted}


def write_tracks(table: LikelihoodTable, paths: dict[tuple[str, str], Path]) -> None:
    """Write every track; each appears whole or not at all.

    Raises:
        InputError: as `write_track`; two sequences have the same name.
    """
    for (quantity, strand), path in paths.items():
        write_track(path, table.track_contigs, table.stretches(quantity, strand))


def likelihood_columns(signs: tuple[str, ...]) -> tuple[str, ...]:
    """Columns of the table after `COLUMNS`."""
    strands = [name for sign in signs for name in (f"log_likelihood_{sign}", f"scored_{sign}")]
    return ("bases", "log_likelihood", "perplexity", "bits_per_base", *strands)


def _values(record: RecordLikelihood) -> list[int | float]:
    strands = [value for pair in zip(record.log_likelihood, record.scored, strict=True) for value in pair]
    return [record.bases, record.mean_log_likelihood, record.perplexity, record.bits_per_base, *strands]


def write_table(table: LikelihoodTable, path: Path) -> None:
    """Write one row per record; a number that a record does not have is empty, or null.

    Raises:
        InputError: it cannot be written.
    """
    if path.suffix == ".parquet":
        with atomic_path(path) as temporary:
            _write_parquet_table(table, temporary)
        return
    names = (*COLUMNS, *likelihood_columns(table.signs))
    with atomic_open(path) as handle:

        def write(text: str) -> None:
            data = text.encode()
            handle.write(compress_blocks(data) if path.suffix == ".gz" else data)

        write("\t".join(names) + "\n")
        records = table.records()
        while block := list(islice(records, _ROWS)):
            write("".join(_line(record) for record in block))
        if path.suffix == ".gz":
            handle.write(BGZF_EOF)


def _line(record: RecordLikelihood) -> str:
    numbers = ("" if math.isnan(v) else str(v) if isinstance(v, int) else f"{v:.10g}" for v in _values(record))
    return "\t".join([*("" if v is None else str(v) for v in record.columns), *numbers]) + "\n"


def _write_parquet_table(table: LikelihoodTable, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {name: pa.string() if name in TEXT_COLUMNS else pa.int64() for name in COLUMNS}
    for name in likelihood_columns(table.signs):
        kinds[name] = pa.int64() if name.startswith(("bases", "scored")) else pa.float64()
    schema = pa.schema(list(kinds.items()), {"hyena_dna": json.dumps(table.facts)})
    records = table.records()
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while block := list(islice(records, _ROWS)):
            rows = [[*record.columns, *_values(record)] for record in block]
            arrays = [
                pa.array([None if isinstance(v, float) and math.isnan(v) else v for v in column], kind)
                for column, kind in zip(zip(*rows, strict=True), kinds.values(), strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def write_bases(table: LikelihoodTable, path: Path, strands: str, *, force: bool = False) -> None:
    """Write the values of every base of every record, in the order of the input; NaN where a base has no score.

    `.npz` and `.zarr` hold one float32 array for each value, such as `log_prob_mean`, of the bases of all records one
    after the other; `offsets` (records + 1,) says where each begins, and the columns of the records stand beside.
    `.parquet` has a row for each base: number of the record, contig (null for a sequence), name, position (0-based).

    Raises:
        InputError: it cannot be written.
    """
    check_bases_file(path)
    if path.suffix == ".zarr":
        with atomic_directory(path, force=force) as folder:
            _write_zarr_bases(table, folder, strands)
        return
    with atomic_path(path) as temporary:
        (_write_npz_bases if path.suffix == ".npz" else _write_parquet_bases)(table, temporary, strands)


def _columns(table: LikelihoodTable) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """Columns of the records as arrays, and the offsets of their bases."""
    records = list(table.records())
    offsets = np.cumsum([0, *(record.bases for record in records)])
    columns: dict[str, NDArray[Any]] = {}
    for name, values in zip(COLUMNS, zip(*(record.columns for record in records), strict=True), strict=True):
        columns[name] = (
            np.array(["" if value is None else value for value in values], np.str_)
            if name in TEXT_COLUMNS
            else np.array(values, np.int64)
        )
    return columns, offsets


def _write_npz_bases(table: LikelihoodTable, path: Path, strands: str) -> None:
    columns, offsets = _columns(table)
    facts = json.dumps(table.facts)
    with open_npz(path) as write:
        for quantity, strand in table.channels(strands):
            write(f"{quantity}_{strand}", "<f4", (int(offsets[-1]),), table.bases(quantity, strand))
        for name, values in {**columns, "offsets": offsets, "facts": np.array(facts)}.items():
            write(name, values.dtype.newbyteorder("<").str, values.shape, [values])


def _write_zarr_bases(table: LikelihoodTable, folder: Path, strands: str) -> None:
    columns, offsets = _columns(table)
    root = _zarr().open_group(folder, mode="w", zarr_format=3)
    root.attrs.update(table.facts)
    for quantity, strand in table.channels(strands):
        array = root.create_array(
            f"{quantity}_{strand}", shape=(int(offsets[-1]),), chunks=(1 << 20,), dtype="float32", fill_value=np.nan
        )
        done = 0
        for values in table.bases(quantity, strand):
            array[done : done + len(values)] = values
            done += len(values)
    for name, values in {**columns, "offsets": offsets}.items():
        text = values.dtype.kind == "U"
        array = root.create_array(name, shape=values.shape, chunks=(1 << 16,), dtype="string" if text else "int64")
        array[:] = values.astype(np.dtypes.StringDType()) if text else values


def _write_parquet_bases(table: LikelihoodTable, path: Path, strands: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    channels = table.channels(strands)
    kinds = {"record": pa.int64(), "chrom": pa.string(), "name": pa.string(), "position": pa.int64()}
    kinds |= {f"{quantity}_{strand}": pa.float32() for quantity, strand in channels}
    schema = pa.schema(list(kinds.items()), {"hyena_dna": json.dumps(table.facts)})
    values = zip(*(table.bases(*channel) for channel in channels), strict=True)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for index, found in enumerate(values):
            known = table.parts.record(index)
            numbers, firsts, lengths = np.array(known["pieces"], np.int64).T
            size = int(lengths.sum())
            piece = np.repeat(np.arange(len(lengths)), lengths)
            position = np.arange(size) - np.repeat(np.cumsum(lengths) - lengths, lengths) + firsts[piece]
            chrom, name = (
                pa.DictionaryArray.from_arrays(pa.array(piece, pa.int32()), pa.array(texts, pa.string())).cast(
                    pa.string()
                )
                for texts in _texts(known["rows"])
            )
            arrays = [
                pa.array(numbers[piece]),
                chrom,
                name,
                pa.array(position),
                *(pa.array(column) for column in found),
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _texts(rows: list[list[Any]]) -> Iterator[list[str | None]]:
    yield [row[COLUMNS.index("chrom")] for row in rows]
    yield [row[COLUMNS.index("name")] for row in rows]
