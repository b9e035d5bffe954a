"""Triton kernels that read long sequences once, for their largest magnitudes and sums."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["magnitudes", "pair_sums"]


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


@triton.jit
def pair_sums(
    x, y, partial, channels, length, x_batch, x_channel, y_batch, y_channel, per_program, BLOCK: tl.constexpr
):
    """`partial` (programs, 3): largest magnitudes of a share of two sequences, and the sum of their products."""
    shares = tl.num_programs(1)
    batch = (tl.program_id(0) // channels).to(tl.int64)
    c = (tl.program_id(0) % channels).to(tl.int64)
    x_start = x + batch * x_batch + c * x_channel
    y_start = y + batch * y_batch + c * y_channel
    x_largest = tl.zeros((BLOCK,), dtype=tl.float32)
    y_largest = tl.zeros((BLOCK,), dtype=tl.float32)
    products = tl.zeros((BLOCK,), dtype=tl.float32)
    for block in range(tl.program_id(1) * per_program, (tl.program_id(1) + 1) * per_program):
        n = block * BLOCK + tl.arange(0, BLOCK)
        a = tl.load(x_start + n, mask=n < length, other=0.0).to(tl.float32)
        b = tl.load(y_start + n, mask=n < length, other=0.0).to(tl.float32)
        x_largest = tl.maximum(x_largest, tl.abs(a))
        y_largest = tl.maximum(y_largest, tl.abs(b))
        products += a * b
    out = partial + (tl.program_id(0) * shares + tl.program_id(1)) * 3
    tl.store(out, tl.max(x_largest, axis=0))
    tl.store(out + 1, tl.max(y_largest, axis=0))
    tl.store(out + 2, tl.sum(products, axis=0))
