"""Tiles as batches on their way to a device, and results on their way back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dna.datasets.cut import cut_windows
from hyena_dna.inference.inputs import Chunk
from hyena_dna.inference.tiling import Tiles
from hyena_dna.inference.windows import batches_by_length

__all__ = ["TileBatch", "batch_tiles", "mark", "to_pinned"]

# Rows are padded to a multiple of this many tokens, so that few lengths of filters are made.
_MULTIPLE = 64


@dataclass(frozen=True)
class TileBatch:
    """Tiles of similar length.

    Attributes:
        tiles: (rows,) their numbers.
        ids: (rows, width) uint8 token ids on the host, in reading direction, padded on the right.
        lengths: (rows,) tokens of each.
    """

    tiles: NDArray[np.int64]
    ids: torch.Tensor
    lengths: NDArray[np.int64]


def batch_tiles(
    chunk: Chunk,
    tiles: Tiles,
    used: NDArray[np.int64],
    max_tokens: int,
    window: int,
    *,
    max_rows: int | None,
    device: torch.device,
) -> list[TileBatch]:
    """Cut tiles of a chunk and batch them by length; see `hyena_dna.inference.windows.batches_by_length`.

    Args:
        chunk: the records.
        tiles: its tiles.
        used: numbers of the tiles to cut.
        max_tokens: most tokens of a batch.
        window: longest tile, and so the widest a batch is padded to.
        max_rows: most tiles of a batch.
        device: where batches go; for a GPU they lie in pinned memory.
    """
    groups = batches_by_length(tiles.lengths[used], max_tokens, max_rows=max_rows, multiple=_MULTIPLE)
    return [_cut(chunk, tiles, used[group], window, device) for group in groups]


def _cut(chunk: Chunk, tiles: Tiles, rows: NDArray[np.int64], window: int, device: torch.device) -> TileBatch:
    lengths = tiles.lengths[rows]
    width = int(lengths.max())
    full = bool((lengths == width).all())
    if not full:
        width = min(-(-width // _MULTIPLE) * _MULTIPLE, window)
    ids = cut_windows(chunk.tokens, tiles.store_start[rows], None if full else lengths, width, tiles.reverse[rows]).ids
    tensor = torch.from_numpy(ids)
    return TileBatch(rows, tensor.pin_memory() if device.type == "cuda" else tensor, lengths)


def to_pinned(values: torch.Tensor) -> torch.Tensor:
    """Start to copy results from a GPU; they are there when `mark`, taken afterwards, has passed."""
    pinned = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return pinned.copy_(values, non_blocking=True)


def mark(device: torch.device) -> torch.cuda.Event | None:
    """An event that passes when a GPU has done what it was told so far; None elsewhere, where work is done at once."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event
