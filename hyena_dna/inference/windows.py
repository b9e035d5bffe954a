"""How sequences become model inputs: tiles of sequences that are too long, batches of similar length, padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dna.errors import InputError
from hyena_dna.model.config import HyenaConfig
from hyena_dna.tokenizer import PAD

__all__ = [
    "batches_by_length",
    "check_overlap",
    "longest_window",
    "pad_rows",
    "tile",
    "tile_counts",
    "variant_window",
]

# Around a variant on a CPU, in bp, where nobody says otherwise: what more adds is small, and dear there.
_CPU_VARIANT_WINDOW = 1024

# The contexts of published models count [CLS] and [SEP], which windows do not have.
_SPECIAL_TOKENS = 2


def longest_window(config: HyenaConfig) -> int:
    """The most bp that a model reads at once."""
    return max(1, config.max_length - _SPECIAL_TOKENS)


def variant_window(config: HyenaConfig, window: int | Literal["max"] | None, device: torch.device) -> int:
    """The window in bp in which a model scores variants.

    Args:
        config: the model's.
        window: in bp, or `max` for all that the model reads. None is `max`, but on a CPU 1,024 bp, or less for a
            shorter model.
        device: where the model is.

    Raises:
        InputError: the model does not read so much.
    """
    longest = longest_window(config)
    if window is None and device.type == "cpu":
        return min(_CPU_VARIANT_WINDOW, longest)
    if window is None or window == "max":
        return longest
    if window > longest:
        raise InputError(f"a window of {window:,} bp is longer than the model's {longest:,}", remedy="--window max")
    return window


def check_overlap(window: int, overlap: int) -> None:
    """Check that tiles of `window` tokens can overlap by `overlap`.

    Raises:
        InputError: `window` is not positive, or `overlap` is negative or not below `window`.
    """
    if window < 1:
        raise InputError(f"a window needs at least one base, not {window}")
    if not 0 <= overlap < window:
        raise InputError(f"tiles of {window:,} bp cannot overlap by {overlap:,} bp", remedy="give a smaller --overlap")


def tile_counts(lengths: NDArray[np.int64], window: int, overlap: int) -> NDArray[np.int64]:
    """Number of tiles of each sequence; see `tile`.

    Args:
        lengths: (sequences,) bp.
        window: longest tile in bp.
        overlap: bp that neighbours share.
    """
    check_overlap(window, overlap)
    return 1 + np.maximum(0, -((window - lengths) // (window - overlap)))


def tile(length: int, window: int, overlap: int = 0) -> list[tuple[int, int]]:
    """Cover a sequence with tiles of at most `window` bp.

    Every tile but a single one is full; the last ends with the sequence and so may share more than `overlap` bp with
    the one before it. The model reads each tile on its own, so what a tile says of a position rests on the part of the
    tile before it: of positions in two tiles, take what the earlier tile says. Tile k then speaks for the positions
    from the end of tile k - 1 to its own end, and each position counts once.

    Args:
        length: of the sequence, in bp, at least 1.
        window: longest tile in bp.
        overlap: bp that neighbours share, below `window`.

    Returns:
        (start, end) of each tile, half-open, from the left.

    Raises:
        InputError: window and overlap do not fit each other.
    """
    check_overlap(window, overlap)
    if length <= window:
        return [(0, length)]
    starts = [*range(0, length - window, window - overlap), length - window]
    return [(start, start + window) for start in starts]


def batches_by_length(
    lengths: NDArray[np.int64], max_tokens: int, *, max_rows: int | None = None, multiple: int = 1
) -> list[NDArray[np.int64]]:
    """Group rows into batches of similar length, so that little of a batch is padding.

    Rows are sorted by length, longest first so that memory runs out at once if it does, equal ones in their order.
    The result depends on the arguments alone.

    Args:
        lengths: (rows,) tokens of each row.
        max_tokens: most tokens of a batch, padding included; a row that is longer makes a batch of its own.
        max_rows: most rows of a batch.
        multiple: rows are padded to a multiple of this many tokens.

    Returns:
        Row numbers of each batch.
    """
    order = np.argsort(-lengths, kind="stable")
    widths = -(-lengths[order] // multiple) * multiple
    batches = []
    start = 0
    while start < len(order):
        count = max(1, max_tokens // max(1, int(widths[start])))
        stop = start + (count if max_rows is None else min(count, max_rows))
        batches.append(order[start:stop])
        start = stop
    return batches


def pad_rows(rows: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Stack rows of token ids, padded on the right.

    Args:
        rows: ids, (length of the row,) each; at least one.

    Returns:
        ids (rows, longest) and lengths (rows,).
    """
    lengths = np.array([len(row) for row in rows], np.int64)
    ids = np.full((len(rows), int(lengths.max())), PAD, np.uint8)
    for padded, row in zip(ids, rows, strict=True):
        padded[: len(row)] = row
    return ids, lengths
