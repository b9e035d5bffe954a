"""From hidden states at every position to vectors per record: which positions count, and how they are combined.

Positions count in reading direction. Hidden states are summed in float32 on the device tile by tile, and tiles are
added up in float64 on the host, each position once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dna.errors import InputError
from hyena_dna.inference.inputs import Chunk
from hyena_dna.inference.moments import combine_moments, moment_width, piece_moments
from hyena_dna.inference.tiling import Tiles

__all__ = ["Pieces", "Pool", "combine", "cut_pieces", "parse_pool", "pool_tiles"]

Kind = Literal["mean", "last", "max", "mean+max", "mean+std", "moments", "center", "bins", "none"]

_SIZED = re.compile(r"(center|bins|moments):([1-9][0-9]{0,5})")


@dataclass(frozen=True)
class Pool:
    """How the positions of a record are combined.

    `mean` and `max` take all of them, `mean+max` puts both side by side; `mean+std` puts the mean and the standard
    deviation of every channel side by side, and `moments` adds the covariances of `size` directions (see
    `hyena_dna.inference.moments`); `last` is the last in reading direction, the only one that a causal model computes
    from the whole record; `center` the mean of the `size` bp around the centre, fewer where the record ends before;
    `bins` the means of `size` consecutive stretches whose lengths differ by at most one; `none` keeps every position.
    """

    kind: Kind
    size: int = 1

    @property
    def vectors(self) -> int:
        """Vectors per record (per base for `none`)."""
        return self.size if self.kind == "bins" else 1

    def width(self, channels: int) -> int:
        """Numbers of one vector, of hidden states of so many channels."""
        if self.kind in ("mean+std", "moments"):
            return moment_width(channels, self.directions)
        return 2 * channels if self.kind == "mean+max" else channels

    @property
    def directions(self) -> int:
        """Directions of which covariances are taken."""
        return self.size if self.kind == "moments" else 0

    def __str__(self) -> str:
        return f"{self.kind}:{self.size}" if self.kind in ("center", "bins", "moments") else self.kind


def parse_pool(text: str) -> Pool:
    """Read `mean`, `last`, `max`, `mean+max`, `mean+std`, `none`, `moments:N`, `center:N` or `bins:N`.

    Raises:
        InputError: it is none of these.
    """
    match text:
        case "mean" | "last" | "max" | "mean+max" | "mean+std" | "none":
            return Pool(text)
    sized = _SIZED.fullmatch(text)
    if sized is None:
        known = "mean, last, max, mean+max, mean+std, moments:N, center:N, bins:N, none"
        raise InputError(f"--pool {text!r} is none of {known}")
    kinds: dict[str, Kind] = {"center": "center", "bins": "bins", "moments": "moments"}
    return Pool(kinds[sized[1]], int(sized[2]))


@dataclass(frozen=True)
class Pieces:
    """Stretches of tiles that vectors are made of, sorted by pass, record and vector.

    Attributes:
        tile: (pieces,) number of the tile; of the given tiles, those without pieces need not be read.
        low: (pieces,) first position in the tile.
        high: (pieces,) one past the last.
        slot: (pieces,) vector that the piece belongs to: (pass * records + record) * vectors + number.
        single: every tile has at most one piece.
    """

    tile: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    slot: NDArray[np.int64]
    single: bool


def cut_pieces(pool: Pool, chunk: Chunk, tiles: Tiles) -> Pieces:
    """Find the stretches of each tile that count, so that each position of a record counts once.

    Raises:
        InputError: a record has fewer bases than bins.
    """
    records = len(chunk.rows)
    length = chunk.lengths[tiles.record]
    number = np.zeros(len(tiles), np.int64)
    tile = np.arange(len(tiles))
    match pool.kind:
        case "mean" | "max" | "mean+max" | "mean+std" | "moments" | "none":
            first, last = np.zeros_like(length), length
        case "last":
            first, last = length - 1, length
        case "center":
            # The centre counts from the first base; a record that is read backwards has it at the other end.
            first = chunk.centres[tiles.record] - pool.size // 2
            last = np.minimum(first + pool.size, length)
            first = np.maximum(0, first)
            first, last = np.where(tiles.reverse, length - last, first), np.where(tiles.reverse, length - first, last)
        case "bins":
            short = np.flatnonzero(chunk.lengths < pool.size)
            if len(short):
                row = chunk.rows[short[0]]
                raise InputError(
                    f"record {row.name!r} has {chunk.lengths[short[0]]} bp, fewer than {pool.size} bins",
                    remedy="give --window or fewer bins",
                )
            lowest = _bin_of(tiles.spoken, pool.size, length, tiles.passes)
            counts = _bin_of(tiles.end - 1, pool.size, length, tiles.passes) - lowest + 1
            tile = np.repeat(tile, counts)
            number = np.arange(len(tile)) - np.repeat(np.cumsum(counts) - counts - lowest, counts)
            length = length[tile]
            # Bins count along the record: a second pass meets them from the last to the first.
            backwards = tiles.passes[tile] == 1
            number = np.where(backwards, pool.size - 1 - number, number)
            first, last = number * length // pool.size, (number + 1) * length // pool.size
            first, last = np.where(backwards, length - last, first), np.where(backwards, length - first, last)
    low = np.maximum(first, tiles.spoken[tile])
    high = np.minimum(last, tiles.end[tile])
    kept = np.flatnonzero(high > low)
    tile, low, high, number = tile[kept], low[kept], high[kept], number[kept]
    slot = (tiles.passes[tile] * records + tiles.record[tile]) * pool.vectors + number
    return Pieces(tile, low - tiles.start[tile], high - tiles.start[tile], slot, pool.kind != "bins")


def _bin_of(
    position: NDArray[np.int64], bins: int, length: NDArray[np.int64], passes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Which bin, counted in reading direction, a position lies in; bin i of the record ends at (i + 1) length / bins.

    Borders are rounded down along the record, so that they are rounded up when it is read from the other end.
    """
    along = np.where(passes == 1, length - 1 - position, position)
    found = -(-(along + 1) * bins // length) - 1
    return np.where(passes == 1, bins - 1 - found, found)


def pool_tiles(
    pool: Pool,
    hidden: torch.Tensor,
    row: torch.Tensor,
    low: torch.Tensor,
    high: torch.Tensor,
    *,
    single: bool,
    layers: int = 1,
) -> torch.Tensor:
    """Combine the positions of each piece of a batch: sums, or largest values for `max`; all positions for `none`.

    For `mean+max` sums and largest values side by side; for `mean+std` and `moments` see `piece_moments`.

    Args:
        pool: how.
        hidden: (rows, length, width).
        row: (pieces,) row of each piece, rising.
        low: (pieces,) first position.
        high: (pieces,) one past the last.
        single: row i has exactly piece i.
        layers: hidden states side by side in the width.

    Returns:
        (pieces, numbers) float32; for `none` (positions of all pieces, width).
    """
    hidden = hidden.float()
    length = hidden.shape[1]
    if single:
        at = torch.arange(length, device=hidden.device)
        inside = (at >= low[:, None]) & (at < high[:, None])
        match pool.kind:
            case "none":
                return hidden[inside]
            case "max":
                return hidden.masked_fill(~inside[..., None], -torch.inf).amax(1)
            case "mean+std" | "moments":
                return piece_moments(hidden, inside, pool.directions, layers)
        sums = torch.bmm(inside[:, None].to(hidden.dtype), hidden)[:, 0]
        if pool.kind == "mean+max":
            return torch.cat([sums, hidden.masked_fill(~inside[..., None], -torch.inf).amax(1)], 1)
        return sums
    # Segments of the flattened positions: what lies between pieces, and the pieces, in turn.
    borders = torch.stack([row * length + low, row * length + high], 1).flatten()
    ends = borders.new_tensor([hidden.shape[0] * length])
    sizes = torch.diff(torch.cat([torch.zeros_like(ends), borders, ends]))
    return torch.segment_reduce(hidden.flatten(0, 1), "sum", lengths=sizes, unsafe=True)[1::2]


def combine(pool: Pool, pieces: Pieces, values: NDArray[np.float32], slots: int) -> NDArray[np.float32]:
    """Put the pieces of each vector together.

    Args:
        pool: how; not `none`.
        pieces: the pieces.
        values: (pieces, numbers), from `pool_tiles`.
        slots: number of vectors.

    Returns:
        (slots, width), see `Pool.width`.
    """
    order = np.argsort(pieces.slot, kind="stable")
    slot = pieces.slot[order]
    begins = np.flatnonzero(np.diff(slot, prepend=-1))
    assert len(begins) == slots, "every vector has positions"
    if pool.kind == "max":
        return np.maximum.reduceat(values[order], begins, axis=0)
    if pool.kind == "mean+max":
        sums, largest = np.split(values, 2, axis=1)
        means = combine(Pool("mean"), pieces, sums, slots)
        return np.concatenate([means, combine(Pool("max"), pieces, largest, slots)], axis=1)
    sizes = (pieces.high - pieces.low)[order]
    if pool.kind in ("mean+std", "moments"):
        return combine_moments(values[order], sizes, begins, pool.directions)
    counts = np.add.reduceat(sizes, begins)
    if len(begins) == len(order):
        sums = values[order].astype(np.float64)
    else:
        sums = np.add.reduceat(values[order], begins, axis=0, dtype=np.float64)
    return (sums / counts[:, None]).astype(np.float32)
