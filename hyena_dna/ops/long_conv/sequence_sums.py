"""The largest magnitude and the sum of magnitudes of long sequences, each read once.

Sums are made per program, in float32, and added in one order, so results are deterministic.
"""

from __future__ import annotations

import torch
import triton

from hyena_dna.ops.long_conv import sequence_kernels as kernels
from hyena_dna.ops.shares import shares

__all__ = ["magnitudes"]

_BLOCK = 8192
# Programs enough for every multiprocessor to hold several.
_PROGRAMS = 1056


def magnitudes(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest magnitude and the sum of magnitudes of every sequence.

    Args:
        x: (sequences, length), contiguous.

    Returns:
        Two times (sequences,), float32.
    """
    sequences, length = x.shape
    programs, per_program = shares(triton.cdiv(length, _BLOCK), max(1, _PROGRAMS // sequences))
    partial = x.new_empty((sequences, programs, 2), dtype=torch.float32)
    kernels.magnitudes[(sequences, programs)](x, partial, length, per_program, BLOCK=_BLOCK)
    return partial[..., 0].amax(1), partial[..., 1].sum(1)
