"""Embeddings of a run that is under way: chunk by chunk in finished parts, read back as one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena_dna.output.parts import Parts

__all__ = ["COLUMNS", "TEXT_COLUMNS", "EmbeddingTable", "TablePart", "write_part"]

COLUMNS = ("chrom", "start", "end", "name", "strand", "label", "split")
"""What is known of each record, in the order of the outputs."""

TEXT_COLUMNS = ("chrom", "name", "strand", "label", "split")

Columns = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class TablePart:
    """Consecutive records.

    Attributes:
        columns: `COLUMNS`, each with one entry per record; None where nothing is known.
        counts: (records,) vectors of each record: 1, or its bases where nothing was pooled.
        vectors: (sum of counts, width) float32, mapped from disk.
    """

    columns: Columns
    counts: NDArray[np.int64]
    vectors: NDArray[np.float32]


def write_part(
    parts: Parts, index: int, columns: Columns, counts: NDArray[np.int64], vectors: NDArray[np.float32]
) -> None:
    """Write the embedding of one chunk.

    Args:
        parts: the run's folder.
        index: number of the chunk.
        columns: `COLUMNS` of its records.
        counts: (records,) vectors of each record.
        vectors: (sum of counts, width).
    """
    with parts.write(index) as (handle, record):
        handle.write(np.ascontiguousarray(vectors, "<f4").data)
        record.update(columns={name: list(columns[name]) for name in COLUMNS}, counts=counts.tolist())


class EmbeddingTable:
    """All finished parts of a run. Only the part being read is in memory.

    Args:
        parts: the run's folder.
        n_parts: number of parts, all finished.
        width: numbers per vector.
        pooled: whether each record has one vector.
        facts: how it was made, for the metadata of outputs: text, numbers, lists of these.
    """

    def __init__(self, parts: Parts, n_parts: int, width: int, *, pooled: bool, facts: Mapping[str, Any]) -> None:
        self._parts = parts
        self._n_parts = n_parts
        self.width = width
        self.pooled = pooled
        self.facts = facts

    def __iter__(self) -> Iterator[TablePart]:
        """The parts, in the order of the input.

        Raises:
            InputError: a part is not what was written.
        """
        for index in range(self._n_parts):
            record = self._parts.record(index)
            data = np.memmap(self._parts.checked(index), "<f4", "r").reshape(-1, self.width)
            yield TablePart(record["columns"], np.array(record["counts"], np.int64), data)

    def columns(self) -> Iterator[Columns]:
        """The columns alone, part by part."""
        for index in range(self._n_parts):
            yield self._parts.record(index)["columns"]

    @cached_property
    def records(self) -> int:
        """Number of records."""
        return sum(len(self._parts.record(index)["counts"]) for index in range(self._n_parts))

    @cached_property
    def vectors(self) -> int:
        """Number of vectors."""
        return sum(sum(self._parts.record(index)["counts"]) for index in range(self._n_parts))

    def load(self, limit: int, seed: int) -> tuple[NDArray[np.float32], dict[str, list[Any]]]:
        """Vectors and columns of all records, or of an even random choice of them where there are more than `limit`.

        Only for pooled tables. The choice keeps the order of the input.
        """
        assert self.pooled, "records have one vector each"
        kept = np.arange(self.records)
        if self.records > limit:
            kept = np.sort(np.random.default_rng(seed).choice(self.records, limit, replace=False))
        vectors = np.empty((len(kept), self.width), np.float32)
        columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        done = first = 0
        for part in self:
            here = kept[done : np.searchsorted(kept, first + len(part.counts))] - first
            vectors[done : done + len(here)] = part.vectors[here]
            for name, values in columns.items():
                values.extend(part.columns[name][row] for row in here)
            done, first = done + len(here), first + len(part.counts)
        return vectors, columns
