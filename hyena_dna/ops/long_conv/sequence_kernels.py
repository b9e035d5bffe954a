"""Triton kernel that reads long sequences once, for their largest magnitudes and sums of magnitudes."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["magnitudes"]


@triton.jit
def magnitudes(x, partial, length, per_program, BLOCK: tl.constexpr):
    """`partial` (programs, 2): largest magnitude and sum of magnitudes of a share of a sequence of its own."""
    shares = tl.num_programs(1)
    start = x + tl.program_id(0).to(tl.int64) * length
    largest = tl.zeros((BLOCK,), dtype=tl.float32)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for block in range(tl.program_id(1) * per_program, (tl.program_id(1) + 1) * per_program):
        n = block * BLOCK + tl.arange(0, BLOCK)
        value = tl.abs(tl.load(start + n, mask=n < length, other=0.0).to(tl.float32))
        largest = tl.maximum(largest, value)
        total += value
    out = partial + (tl.program_id(0) * shares + tl.program_id(1)) * 2
    tl.store(out, tl.max(largest, axis=0))
    tl.store(out + 1, tl.sum(total, axis=0))
