"""Cutting windows out of stored tokens: gather, reverse complement, padding and the soft mask, for a batch at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dna.tokenizer import PAD, SOFT_MASK, A, N, T

__all__ = ["Windows", "cut_windows"]

# Bytes worked on at a time: a tile is part of a row, a group several tiles. Both fit a core's L2 cache together with
# the temporaries; of 32 to 256 KiB these were the fastest on the reference machine, for windows of 1 kb to 1 Mb.
_TILE = 1 << 16
_GROUP = 1 << 17
_WORD = np.dtype(np.uint64)


class Windows(NamedTuple):
    """Token ids of a batch of windows."""

    ids: NDArray[np.uint8]
    """(batch, window): A, C, G, T, N, and PAD on the right."""
    soft: NDArray[np.bool_]
    """(batch, window): the source base was lower case; False at PAD."""


def cut_windows(
    tokens: NDArray[np.uint8],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64] | None,
    window: int,
    reverse: NDArray[np.bool_],
    *,
    out: Windows | None = None,
) -> Windows:
    """Cut a batch of windows out of a token store.

    Args:
        tokens: (total,) stored tokens, 0x80 set where soft-masked.
        starts: (batch,) first base of each window, 0-based, in store coordinates.
        lengths: (batch,) bases of each window, at most `window`; None where all are full.
        window: width of the result, in tokens.
        reverse: (batch,) windows to be read from the opposite strand. A short one is reversed within its own length,
            so that padding is on the right of every row.
        out: windows of an earlier call with the same shape, to be overwritten. Memory that is new from the operating
            system costs more than the cutting itself, so loops do well to reuse theirs.

    Returns:
        Ids and soft mask, (batch, window) each; `out` where it is given.

    Raises:
        ValueError: a window reaches beyond the store, or is longer than `window`, or `out` has another shape.
    """
    tokens = np.asarray(tokens)
    starts = np.asarray(starts, np.int64)
    reverse = np.asarray(reverse, np.bool_)
    sizes = np.full(len(starts), window, np.int64) if lengths is None else np.asarray(lengths, np.int64)
    if not (len(starts) == len(sizes) == len(reverse)):
        raise ValueError(f"{len(starts)} starts, {len(sizes)} lengths and {len(reverse)} directions")
    if len(starts) and (starts.min() < 0 or (starts + sizes).max() > len(tokens)):
        raise ValueError(f"a window reaches beyond the store of {len(tokens)} tokens")
    if len(sizes) and (sizes.min() < 0 or sizes.max() > window):
        raise ValueError(f"window lengths must lie in 0..{window}")

    shape = len(starts), window
    ids, soft = (np.empty(shape, np.uint8), np.empty(shape, np.bool_)) if out is None else out
    if ids.shape != shape or soft.shape != shape:
        raise ValueError(f"out has shapes {ids.shape} and {soft.shape}, not {shape}")
    # Every row is cut at full width, a reversed short one so that its end comes first; what is too much becomes PAD.
    wide = np.where(reverse, starts + sizes - window, starts)
    last = len(tokens) - window
    if last >= 0:
        _cut_wide(tokens, np.clip(wide, 0, last), reverse, ids, soft)
    for row in np.flatnonzero((wide < 0) | (wide > last)):
        size = sizes[row]
        piece = tokens[starts[row] : starts[row] + size]
        stored = _complement(piece[::-1]) if reverse[row] else piece
        ids[row, :size] = stored & ~np.uint8(SOFT_MASK)
        soft[row, :size] = stored >= SOFT_MASK
    for row in np.flatnonzero(sizes < window):
        ids[row, sizes[row] :] = PAD
        soft[row, sizes[row] :] = False
    return Windows(ids, soft)


def _cut_wide(
    tokens: NDArray[np.uint8],
    starts: NDArray[np.int64],
    reverse: NDArray[np.bool_],
    ids: NDArray[np.uint8],
    soft: NDArray[np.bool_],
) -> None:
    """Fill `ids` and `soft`, (batch, window), from windows that all lie inside the store."""
    batch, window = ids.shape
    tile = min(window, _TILE)
    rows = max(1, _GROUP // max(tile, 1))
    for column in range(0, window, tile or 1):
        width = min(tile, window - column)
        # Row i of this view is the `width` tokens from i on; indexing it gathers one stretch per row.
        view = np.lib.stride_tricks.as_strided(tokens, (len(tokens) - width + 1, width), (1, 1), writeable=False)
        places = np.where(reverse, starts + window - column - width, starts + column)
        for row in range(0, batch, rows):
            stored = view[places[row : row + rows]]
            backwards = np.flatnonzero(reverse[row : row + rows])
            if len(backwards):
                stored[backwards] = _complement(_flip(stored[backwards]))
            place = slice(row, row + rows), slice(column, column + width)
            np.less(stored.view(np.int8), 0, out=soft[place])
            np.bitwise_and(stored, SOFT_MASK - 1, out=ids[place])


def _flip(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Reverse each row. Eight bytes at a time as swapped words: eight times faster than a stride of -1."""
    width = rows.shape[1]
    padded = rows
    if width % _WORD.itemsize:
        padded = np.empty((len(rows), width + -width % _WORD.itemsize), np.uint8)
        padded[:, -width:] = rows
    words = padded.view(_WORD.newbyteorder())[:, ::-1].astype(_WORD)
    return words.view(np.uint8)[:, :width]


def _complement(stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Complement stored tokens: `A + T - id` for bases, N as it is; the soft bit survives the wrap-around of uint8."""
    result = np.subtract(A + T, stored)
    was_n = (result & (SOFT_MASK - 1)) == A + T - N
    result += was_n.view(np.uint8) * np.uint8(N - (A + T - N))
    return result
