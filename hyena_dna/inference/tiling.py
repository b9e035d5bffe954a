"""A chunk of records as tiles that a model can read, on one strand or on both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyena_dna.inference.inputs import Chunk
from hyena_dna.inference.windows import tile_counts

__all__ = ["Tiles", "tile_chunk"]


@dataclass(frozen=True)
class Tiles:
    """Tiles of the records of a chunk: first all of the first pass, then all of the second, each in reading order.

    The first pass reads each record on its own strand, the second reads its reverse complement. Positions count in
    reading direction: position p of the second pass is position length - 1 - p of the first.

    Attributes:
        passes: (tiles,) 0 or 1.
        record: (tiles,) number of the record in its chunk.
        start: (tiles,) first position.
        end: (tiles,) one past the last position.
        spoken: (tiles,) first position that the tile speaks for, see `hyena_dna.inference.windows.tile`; the last is
            always its end.
        store_start: (tiles,) first base in the chunk's tokens, whatever the direction.
        reverse: (tiles,) read from the opposite strand of the tokens.
    """

    passes: NDArray[np.int64]
    record: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    spoken: NDArray[np.int64]
    store_start: NDArray[np.int64]
    reverse: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.record)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(tiles,) bp."""
        return self.end - self.start


def tile_chunk(chunk: Chunk, window: int, overlap: int, *, strands: int) -> Tiles:
    """Tile every record of a chunk by the rule of `hyena_dna.inference.windows.tile`.

    Args:
        chunk: the records.
        window: longest tile in bp.
        overlap: bp that neighbours share.
        strands: 1 for the first pass alone, 2 for both.
    """
    counts = tile_counts(chunk.lengths, window, overlap)
    record = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(record)) - np.repeat(np.cumsum(counts) - counts, counts)
    length = chunk.lengths[record]
    start = np.minimum(number * (window - overlap), np.maximum(0, length - window))
    end = np.minimum(start + window, length)
    spoken = np.where(number == 0, 0, np.concatenate([[0], end[:-1]]))
    passes = np.repeat(np.arange(strands), len(record))
    record, start, end, spoken = (np.tile(column, strands) for column in (record, start, end, spoken))
    reverse = chunk.reverse[record] ^ (passes == 1)
    base, length = chunk.starts[record], chunk.lengths[record]
    store_start = np.where(reverse, base + length - end, base + start)
    return Tiles(passes, record, start, end, spoken, store_start, reverse)
