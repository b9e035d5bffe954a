"""Scored records as tables with keys: one row for each alternative allele, in the order of the input."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from hyena_dna.output.score_fields import ScoredRecord, ScoreField

__all__ = ["COLUMNS", "ParquetRows", "arrow_batch", "is_table_header", "read_arrow", "table_header", "table_lines"]

COLUMNS = (
    "chrom", "pos", "id", "ref", "alt", "status", "llr", "llr_fwd", "llr_rev", "llr_norm", "dist", "n_fraction",
)  # fmt: skip
"""Keys as in the VCF (`pos` 1-based), then the status and the scores of `AlleleScore`; what a run adds comes after."""

_ROW_GROUP = 1 << 17


def _columns(extras: Sequence[ScoreField]) -> list[str]:
    return [*COLUMNS, *(field.column for field in extras)]


def table_header(extras: Sequence[ScoreField] = ()) -> bytes:
    """The header line of a TSV."""
    return "\t".join(_columns(extras)).encode() + b"\n"


def is_table_header(line: bytes) -> bool:
    """Whether a line, with or without its end, is the header line of a TSV of scores."""
    return line.rstrip(b"\n").split(b"\t")[: len(COLUMNS)] == [name.encode() for name in COLUMNS]


def table_lines(records: Iterable[ScoredRecord], extras: Sequence[ScoreField] = ()) -> bytes:
    """Rows as tab-separated lines; a missing score is an empty field."""
    lines: list[str] = []
    missing = (math.nan,) * len(extras)
    for record in records:
        chrom, pos, name, ref = (column.decode("utf-8", "replace") for column in record.fields[:4])
        key = f"{chrom}\t{pos}\t{name}\t{ref}"
        for alt, score in zip(record.alts, record.scores, strict=True):
            numbers = _numbers((*score[1:7], *(score.extra or missing)))
            lines.append(f"{key}\t{alt}\t{score.status}\t{numbers}\n")
    return "".join(lines).encode()


def _numbers(values: Iterable[float]) -> str:
    return "\t".join(["" if math.isnan(value) else f"{value:.9g}" for value in values])


def _schema(columns: Sequence[str], metadata: dict[str, str] | None = None) -> Any:
    import pyarrow as pa

    kinds = {"pos": pa.int64(), **dict.fromkeys(columns[6:], pa.float64())}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in columns], metadata=metadata)


def arrow_batch(records: Iterable[ScoredRecord], extras: Sequence[ScoreField] = ()) -> bytes:
    """Rows as one Arrow IPC stream; such streams can follow each other in a file."""
    import pyarrow as pa

    names = _columns(extras)
    columns: dict[str, list[Any]] = {name: [] for name in names}
    missing = (math.nan,) * len(extras)
    for record in records:
        chrom, pos, name, ref = (column.decode("utf-8", "replace") for column in record.fields[:4])
        for alt, score in zip(record.alts, record.scores, strict=True):
            values = (*score[1:7], *(score.extra or missing))
            numbers = [None if math.isnan(value) else value for value in values]
            for column, value in zip(names, (chrom, int(pos), name, ref, alt, score.status, *numbers), strict=True):
                columns[column].append(value)
    sink = pa.BufferOutputStream()
    schema = _schema(names)
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_batch(pa.RecordBatch.from_pydict(columns, schema=schema))
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read_arrow(handle: IO[bytes]) -> Iterator[Any]:
    """Yield the tables of the Arrow streams of a file."""
    import pyarrow as pa

    while handle.peek(1):  # type: ignore[attr-defined]  # a buffered reader
        with pa.ipc.open_stream(handle) as stream:
            yield stream.read_all()


class ParquetRows:
    """Writes rows into a Parquet file in groups whose borders depend on the row number alone.

    Args:
        path: the file.
        metadata: key-value metadata of the file.
        extras: names of the columns after `COLUMNS`.
    """

    def __init__(self, path: Any, metadata: dict[str, str], extras: Sequence[str] = ()) -> None:
        import pyarrow.parquet as pq

        self._writer = pq.ParquetWriter(path, _schema([*COLUMNS, *extras], metadata), compression="zstd")
        self._waiting: list[Any] = []
        self._rows = 0

    def add(self, table: Any) -> None:
        """Add the rows of a table."""
        self._waiting.append(table)
        self._rows += table.num_rows
        while self._rows >= _ROW_GROUP:
            joined = self._joined()
            self._writer.write_table(joined.slice(0, _ROW_GROUP))
            self._waiting = [joined.slice(_ROW_GROUP)]
            self._rows -= _ROW_GROUP

    def _joined(self) -> Any:
        import pyarrow as pa

        return pa.concat_tables([table.replace_schema_metadata(None) for table in self._waiting]).combine_chunks()

    def close(self) -> None:
        """Write what is left and end the file."""
        if self._rows:
            self._writer.write_table(self._joined())
        self._writer.close()
