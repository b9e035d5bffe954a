"""Largest magnitudes and sums over the positions of long sequences, each sequence read once.

Sums are made per program, in float32, and added in one order, so results are deterministic.
"""

from __future__ import annotations

from typing import Any

import torch
import triton

from hyena_dna.ops.long_conv import sequence_kernels as kernels

__all__ = ["magnitudes", "pair_sums"]

_BLOCK = 4096
# Programs enough for every multiprocessor to hold several.
_PROGRAMS = 2112


def magnitudes(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest magnitude and the sum of magnitudes of every sequence.

    Args:
        x: (sequences, length), contiguous.

    Returns:
        Two times (sequences,), float32.
    """
    sequences, length = x.shape
    partial, per_program = _shares(x, sequences, length, 2)
    kernels.magnitudes[partial.shape[:2]](x, partial, length, per_program, BLOCK=_BLOCK)
    return partial[..., 0].amax(1), partial[..., 1].sum(1)


def pair_sums(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The largest magnitude of every sequence of two batches, and the sums of products of their sequences.

    Args:
        x: (batch, channels, length), adjacent along positions; likewise `y`.

    Returns:
        Three times (batch, channels), float32.
    """
    batch, channels, length = x.shape
    partial, per_program = _shares(x, batch * channels, length, 3)
    kernels.pair_sums[partial.shape[:2]](
        x, y, partial, channels, length, *x.stride()[:2], *y.stride()[:2], per_program, BLOCK=_BLOCK
    )
    x_largest, y_largest = partial[..., :2].amax(1).view(batch, channels, 2).unbind(-1)
    return x_largest, y_largest, partial[..., 2].sum(1).view(batch, channels)


def _shares(like: torch.Tensor, sequences: int, length: int, numbers: int) -> tuple[Any, int]:
    """Room for (sequences, shares, numbers), and the blocks of a share."""
    blocks = triton.cdiv(length, _BLOCK)
    per_program = triton.cdiv(blocks, max(1, _PROGRAMS // sequences))
    shares = triton.cdiv(blocks, per_program)
    return like.new_empty((sequences, shares, numbers), dtype=torch.float32), per_program
