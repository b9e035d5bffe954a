"""Batches of next-base prediction: inputs, targets, and what each target counts in the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyena_dna.datasets.cut import Windows, cut_windows
from hyena_dna.datasets.store import TokenStore
from hyena_dna.datasets.windows import WindowBatch
from hyena_dna.errors import InputError
from hyena_dna.tokenizer import PAD, T

__all__ = ["Batch", "LossWeights", "cut_batch"]

# Bytes classified at a time, so that the temporaries stay in the level-2 cache.
_BLOCK = 1 << 17


@dataclass(frozen=True, slots=True)
class LossWeights:
    """What a target counts in the loss, relative to a known base outside repeats, which counts 1. Padding counts 0.

    Attributes:
        n: an N.
        soft_masked: a known base that is lower case in the source.
    """

    n: float = 0.0
    soft_masked: float = 1.0

    def __post_init__(self) -> None:
        for weight in (self.n, self.soft_masked):
            if not (math.isfinite(weight) and weight >= 0):
                raise InputError(f"a loss weight must be a number that is not negative, got {weight}")

    @property
    def table(self) -> NDArray[np.float32]:
        """Weight of every loss class, `(5,)`: padding, base, N, soft-masked base, soft-masked N."""
        return np.array([0.0, 1.0, self.n, self.soft_masked, self.n], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch in host memory, one byte per item. Inputs and targets are views of the same rows, shifted by one.

    Attributes:
        input_ids: uint8 `(batch, window)`; `PAD` on the right of short rows.
        target_ids: uint8 `(batch, window)`; the token after each input.
        loss_class: uint8 `(batch, window)`; an index into `class_weights`, so that four times fewer bytes than those of
            a float weight are computed and sent to the device.
        class_weights: float32 `(5,)`; see `LossWeights.table`.
    """

    input_ids: NDArray[np.uint8]
    target_ids: NDArray[np.uint8]
    loss_class: NDArray[np.uint8]
    class_weights: NDArray[np.float32]

    @property
    def loss_weight(self) -> NDArray[np.float32]:
        """Weight of every target in the loss, float32 `(batch, window)`."""
        return self.class_weights[self.loss_class]


def cut_batch(
    stores: Sequence[TokenStore], batch: WindowBatch, window: int, weights: LossWeights | None = None
) -> Batch:
    """Read the windows of a batch from their stores.

    Each row spans up to `window + 1` bases: all but the last are inputs, all but the first are targets.

    Args:
        stores: the store of every source.
        batch: where the windows lie.
        window: inputs of a window in bp.
        weights: what targets count; by default N nothing, and soft-masked bases as much as others.

    Raises:
        ValueError: a window is longer than `window + 1` or reaches beyond its store.
    """
    windows = _cut(stores, batch, window + 1)
    weights = LossWeights() if weights is None else weights
    return Batch(windows.ids[:, :-1], windows.ids[:, 1:], _loss_class(windows)[:, 1:], weights.table)


def _cut(stores: Sequence[TokenStore], batch: WindowBatch, width: int) -> Windows:
    """Rows of `width` tokens, from whichever store each comes from."""
    sources = np.unique(batch.source)
    if sources.size == 1:
        tokens = stores[int(sources[0])].tokens
        return cut_windows(tokens, batch.start, batch.length, width, batch.reverse)
    windows = Windows(np.empty((len(batch), width), dtype=np.uint8), np.empty((len(batch), width), dtype=np.bool_))
    for source in sources.tolist():
        rows = np.flatnonzero(batch.source == source)
        tokens = stores[source].tokens
        part = cut_windows(tokens, batch.start[rows], batch.length[rows], width, batch.reverse[rows])
        windows.ids[rows], windows.soft[rows] = part.ids, part.soft
    return windows


def _loss_class(windows: Windows) -> NDArray[np.uint8]:
    """Class of every token as a target, uint8, in the place of the soft mask; see `LossWeights.table`.

    In place, because memory that is new from the operating system costs more than the arithmetic.
    """
    ids, classes = windows.ids.reshape(-1), windows.soft.reshape(-1).view(np.uint8)
    # Stores hold nothing but PAD < bases < N, so two comparisons count 0, 1 or 2. Comparing and adding bytes in place
    # is vectorised (7 Gbp/s per core), looking them up in a table is not (0.5).
    above = np.empty(min(_BLOCK, ids.size), dtype=np.bool_)
    for start in range(0, ids.size, _BLOCK):
        block = ids[start : start + _BLOCK]
        out = classes[start : start + _BLOCK]
        out += out
        for limit in (PAD, T):
            np.greater(block, limit, out=above[: block.size])
            out += above[: block.size].view(np.uint8)
    return classes.reshape(windows.ids.shape)
