"""Prediction files of every format, written part by part: memory does not grow with the number of records."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hyena_dna.errors import InputError
from hyena_dna.evaluation.tasks import TaskKind
from hyena_dna.evaluation.thresholds import decide
from hyena_dna.files import atomic_open, atomic_path
from hyena_dna.output.bgzf_blocks import BGZF_EOF, compress_blocks
from hyena_dna.output.embedding_parts import EmbeddingTable, TablePart
from hyena_dna.output.tracks import TRACK_SUFFIXES, Stretch, check_track, is_track, write_track

__all__ = ["PREDICTION_SUFFIXES", "PredictionTask", "prediction_paths", "write_predictions"]

PREDICTION_SUFFIXES = (".tsv", ".tsv.gz", ".parquet", ".bed", ".bed.gz", *TRACK_SUFFIXES)

_PLACE = ("chrom", "start", "end", "name", "strand")
_STATUS = {True: "ok", False: "n_fraction"}


@dataclass(frozen=True)
class PredictionTask:
    """What the numbers of a prediction mean.

    Attributes:
        kind: of the task.
        labels: all classes; binary: the negative, then the positive one.
        outputs: the label of each number.
        thresholds: from which probability on a label is assigned, one per output or none for 0.5.
    """

    kind: TaskKind
    labels: tuple[str, ...]
    outputs: tuple[str, ...]
    thresholds: tuple[float, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the numbers in tables: the labels, but for those that other columns have already."""
        taken = (*_PLACE, "label", "predicted", "status")
        return tuple(f"predicted_{name}" if name in taken else name for name in self.outputs)

    def decide(self, scores: NDArray[np.float32]) -> list[str]:
        """The label of every row, `;` between several; empty where there is none."""
        if self.kind == "regression":
            return [""] * len(scores)
        cuts = self.thresholds or (0.5,) * len(self.outputs)
        found = decide(self.kind, np.nan_to_num(scores.astype(np.float64)), cuts)
        if self.kind == "multilabel":
            names = [";".join(label for label, yes in zip(self.labels, row, strict=True) if yes) for row in found]
        else:
            names = [self.labels[index] for index in found.tolist()]
        return [name if known else "" for name, known in zip(names, _known(scores), strict=True)]


def _known(scores: NDArray[np.float32]) -> list[bool]:
    # A record has all of its numbers or none.
    return [not math.isnan(value) for value in scores[:, 0].tolist()]


def prediction_paths(path: Path, task: PredictionTask, *, placed: bool) -> dict[int | None, Path]:
    """Check, before any work, that predictions can be written to a file of this name; the files that will be.

    Args:
        path: the output.
        task: what is predicted.
        placed: records lie on a genome.

    Returns:
        The file by number of the output; `{None: path}` for a file that holds all of them. A track of a task with
        several outputs becomes one for each: `x.bw` becomes `x.LABEL.bw`.

    Raises:
        InputError: the suffix is none of `PREDICTION_SUFFIXES`, what writes it is not installed, or it needs places.
    """
    if not path.name.lower().endswith(PREDICTION_SUFFIXES):
        raise InputError(f"predictions are written as one of {', '.join(PREDICTION_SUFFIXES)}", file=path)
    if not placed and (is_track(path) or path.name.endswith((".bed", ".bed.gz"))):
        raise InputError("sequences without a place on a genome cannot become a BED file or track", file=path,
                         remedy="write .tsv or .parquet")  # fmt: skip
    if not is_track(path):
        return {None: path}
    check_track(path)
    if len(task.outputs) == 1:
        return {0: path}
    suffix = max((end for end in TRACK_SUFFIXES if path.name.lower().endswith(end)), key=len)
    stem, end = path.name[: -len(suffix)], path.name[-len(suffix) :]
    safe = ["".join(c if c.isalnum() or c in "._-+" else "_" for c in label) for label in task.outputs]
    if len(set(safe)) < len(safe):
        raise InputError("two labels give tracks of the same name", file=path, remedy="write .tsv or .parquet")
    return {number: path.with_name(f"{stem}.{label}{end}") for number, label in enumerate(safe)}


def write_predictions(
    table: EmbeddingTable,
    paths: Mapping[int | None, Path],
    task: PredictionTask,
    contigs: Mapping[str, int] | None,
    *,
    tiled: bool,
) -> None:
    """Write the files; each appears whole or not at all.

    Args:
        table: predictions of all records, one vector of outputs each.
        paths: as `prediction_paths` gave them.
        task: what is predicted.
        contigs: length in bp of the contigs that records lie on.
        tiled: records follow each other along the contigs, without overlaps.

    Raises:
        InputError: a file cannot be written.
    """
    for number, path in paths.items():
        if number is not None:
            assert contigs is not None, "tracks have contigs"
            stretches = _in_order(table, number) if tiled else _sorted(table, number, contigs)
            write_track(path, contigs, stretches)
        elif path.name.endswith(".parquet"):
            with atomic_path(path) as temporary:
                _write_parquet(table, temporary, task)
        else:
            lines = _bed_lines if path.name.endswith((".bed", ".bed.gz")) else _tsv_lines
            with atomic_open(path) as handle:
                _write_text(table, handle, task, lines, compressed=path.suffix == ".gz")


Lines = Callable[[TablePart | None, PredictionTask], Iterator[Sequence[str]]]


def _write_text(
    table: EmbeddingTable, handle: IO[bytes], task: PredictionTask, lines: Lines, *, compressed: bool
) -> None:
    for part in itertools.chain([None], table):
        text = "".join("\t".join(fields) + "\n" for fields in lines(part, task)).encode()
        handle.write(compress_blocks(text) if compressed and text else text)
    if compressed:
        handle.write(BGZF_EOF)


def _tsv_lines(part: TablePart | None, task: PredictionTask) -> Iterator[Sequence[str]]:
    """The header for None, else a line for every record; what is not known is `.`."""
    if part is None:
        yield [*_PLACE, "label", *task.columns, "predicted", "status"]
        return
    columns = [part.columns[name] for name in (*_PLACE, "label")]
    scores = np.asarray(part.vectors)
    decided, known = task.decide(scores), _known(scores)
    for place, values, name, good in zip(zip(*columns, strict=True), scores.tolist(), decided, known, strict=True):
        yield [*map(_text, place), *map(_number, values), _text(name), _STATUS[good]]


def _bed_lines(part: TablePart | None, task: PredictionTask) -> Iterator[Sequence[str]]:
    """BED6 and the numbers: the score is 1000 times the probability of the positive or the most probable label.

    The name is the record's own, for tiles the predicted label. A number of a regression is no score: 0.
    """
    if part is None:
        yield ["#chrom", "start", "end", "name", "score", "strand", *task.columns]
        return
    columns = [part.columns[name] for name in _PLACE]
    scores = np.asarray(part.vectors)
    for place, values, decided in zip(zip(*columns, strict=True), scores.tolist(), task.decide(scores), strict=True):
        chrom, start, end, name, strand = place
        score = 0 if task.kind == "regression" or math.isnan(values[0]) else round(1000 * max(values))
        yield [chrom, str(start), str(end), _text(name or decided), str(score), _text(strand), *map(_number, values)]


def _text(value: Any) -> str:
    return "." if value in (None, "") else str(value)


def _number(value: float) -> str:
    return "." if math.isnan(value) else f"{value:.6g}"


def _write_parquet(table: EmbeddingTable, path: Path, task: PredictionTask) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = {name: pa.int64() if name in ("start", "end") else pa.string() for name in (*_PLACE, "label")}
    kinds = {**place, **dict.fromkeys(task.columns, pa.float32()), "predicted": pa.string(), "status": pa.string()}
    schema = pa.schema(list(kinds.items()), {"hyena_dna": json.dumps(table.facts)})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in table:
            scores = np.asarray(part.vectors)
            columns: list[Any] = [[value if value != "" else None for value in part.columns[name]] for name in place]
            columns += [pa.array(scores[:, k], pa.float32(), from_pandas=True) for k in range(scores.shape[1])]
            columns += [[name or None for name in task.decide(scores)], [_STATUS[good] for good in _known(scores)]]
            arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds.values(), strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _in_order(table: EmbeddingTable, number: int) -> Iterator[Stretch]:
    """The numbers of records that follow each other along the contigs."""
    for part in table:
        names = part.columns["chrom"]
        starts, ends = (np.array(part.columns[name], np.int64) for name in ("start", "end"))
        values = np.asarray(part.vectors[:, number])
        borders = [0, *(row for row in range(1, len(names)) if names[row] != names[row - 1]), len(names)]
        for first, last in itertools.pairwise(borders):
            rows = slice(first, last)
            yield Stretch(names[first], starts[rows], ends[rows], values[rows])


def _sorted(table: EmbeddingTable, number: int, contigs: Mapping[str, int]) -> Iterator[Stretch]:
    """The numbers of records in any order; a base in several records has the number of the first along the contig."""
    places: dict[str, list[tuple[int, int, float]]] = {name: [] for name in contigs}
    for part in table:
        columns = (part.columns[name] for name in ("chrom", "start", "end"))
        for chrom, start, end, value in zip(*columns, part.vectors[:, number].tolist(), strict=True):
            if not math.isnan(value):
                places[chrom].append((start, end, value))
    for chrom, rows in places.items():
        rows.sort(key=lambda row: row[:2])
        kept: list[tuple[int, int, float]] = []
        reached = 0
        for start, end, value in rows:
            if end > reached:
                kept.append((max(start, reached), end, value))
                reached = end
        if kept:
            starts, ends, values = zip(*kept, strict=True)
            yield Stretch(chrom, np.array(starts, np.int64), np.array(ends, np.int64), np.array(values, np.float64))
