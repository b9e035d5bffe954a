"""Triton kernels of the short convolution with its gate: projections are read once, gated products written once.

A program works on a block of positions of one channel. Gradients need the projections a few positions to both sides of
the block; those loads meet the cache. Sums over positions are written per program, and added by the caller in one
order. The bias of the linear projection is added here, which spares the projection a pass over its output.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["gate_backward", "gate_forward"]


@triton.jit
def _projected(p, bias, t, length):
    """Projections with their bias at positions t of one channel, zero outside the sequence."""
    inside = (t >= 0) & (t < length)
    return tl.where(inside, tl.load(p + t, mask=inside, other=0.0).to(tl.float32) + bias, 0.0)


@triton.jit
def _short(p, in_bias, weight, bias, t, length, TAPS: tl.constexpr):
    """The short convolution at positions t of one channel."""
    y = tl.zeros_like(t).to(tl.float32) + bias
    for j in tl.static_range(TAPS):
        y += _projected(p, in_bias, t - j, length) * tl.load(weight + TAPS - 1 - j).to(tl.float32)
    return y


@triton.jit
def gate_forward(
    a, b, in_a, weight_a, bias_a, in_b, weight_b, bias_b, y, channels, length, a_batch, a_channel, b_batch, b_channel,
    TAPS: tl.constexpr, B_IS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """y = short(a) times short(b), b or nothing: B_IS "projection", "values" or "none"."""
    blocks = tl.cdiv(length, BLOCK)
    row = tl.program_id(0) // blocks
    c = (row % channels).to(tl.int64)
    batch = (row // channels).to(tl.int64)
    t = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    a_row = a + batch * a_batch + c * a_channel
    b_row = b + batch * b_batch + c * b_channel
    in_bias = tl.load(in_a + c).to(tl.float32)
    value = _short(a_row, in_bias, weight_a + c * TAPS, tl.load(bias_a + c).to(tl.float32), t, length, TAPS)
    if B_IS == "projection":
        in_bias = tl.load(in_b + c).to(tl.float32)
        value *= _short(b_row, in_bias, weight_b + c * TAPS, tl.load(bias_b + c).to(tl.float32), t, length, TAPS)
    if B_IS == "values":
        value *= tl.load(b_row + t, mask=t < length, other=0.0).to(tl.float32)
    tl.store(y + row.to(tl.int64) * length + t, value.to(y.dtype.element_ty), mask=t < length)


@triton.jit
def _d_short(
    a, b, grad, in_a, in_b, weight_a, weight_b, bias_b, d_a, partial, t, length,
    TAPS: tl.constexpr, B_IS: tl.constexpr,
):  # fmt: skip
    """Gradients of short(a) times its partner, of one channel: of a at positions t, of taps and of both biases."""
    d_value = tl.zeros_like(t).to(tl.float32)
    for j in tl.static_range(TAPS):
        at = t + j
        d_short = tl.load(grad + at, mask=at < length, other=0.0).to(tl.float32)
        if B_IS == "projection":
            d_short *= _short(b, in_b, weight_b, bias_b, at, length, TAPS)
        if B_IS == "values":
            d_short *= tl.load(b + at, mask=at < length, other=0.0).to(tl.float32)
        d_value += d_short * tl.load(weight_a + TAPS - 1 - j).to(tl.float32)
        if j == 0:
            for tap in tl.static_range(TAPS):
                d_tap = tl.sum(d_short * _projected(a, in_a, t - tap, length), axis=0)
                tl.store(partial + TAPS - 1 - tap, d_tap)
            tl.store(partial + TAPS, tl.sum(d_short, axis=0))
    tl.store(partial + TAPS + 1, tl.sum(tl.where(t < length, d_value, 0.0), axis=0))
    tl.store(d_a + t, d_value.to(d_a.dtype.element_ty), mask=t < length)


@triton.jit
def gate_backward(
    a, b, grad, in_a, weight_a, bias_a, in_b, weight_b, bias_b, d_a, d_b, partial_a, partial_b,
    channels, length, a_batch, a_channel, b_batch, b_channel, d_a_batch, d_b_batch,
    TAPS: tl.constexpr, B_IS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of `gate_forward`. `partial_*` (batch, blocks, channels, TAPS + 2): taps, bias, bias of the input."""
    blocks = tl.cdiv(length, BLOCK)
    row = tl.program_id(0) // blocks
    block = tl.program_id(0) % blocks
    c = (row % channels).to(tl.int64)
    batch = (row // channels).to(tl.int64)
    t = block * BLOCK + tl.arange(0, BLOCK)
    a_row = a + batch * a_batch + c * a_channel
    b_row = b + batch * b_batch + c * b_channel
    grad_row = grad + row.to(tl.int64) * length
    part = ((batch * blocks + block) * channels + c) * (TAPS + 2)
    taps_a, taps_b = weight_a + c * TAPS, weight_b + c * TAPS
    first, second = tl.load(in_a + c).to(tl.float32), tl.load(in_b + c).to(tl.float32)
    short_a, short_b = tl.load(bias_a + c).to(tl.float32), tl.load(bias_b + c).to(tl.float32)
    d_a_row = d_a + batch * d_a_batch + c * length
    _d_short(
        a_row, b_row, grad_row, first, second, taps_a, taps_b, short_b, d_a_row, partial_a + part, t, length, TAPS, B_IS
    )
    d_b_row = d_b + batch * d_b_batch + c * length
    if B_IS == "projection":
        _d_short(
            b_row, a_row, grad_row, second, first, taps_b, taps_a, short_a, d_b_row, partial_b + part, t, length,
            TAPS, B_IS,
        )  # fmt: skip
    if B_IS == "values":
        g = tl.load(grad_row + t, mask=t < length, other=0.0).to(tl.float32)
        g *= _short(a_row, first, taps_a, short_a, t, length, TAPS)
        tl.store(d_b_row + t, g.to(d_b.dtype.element_ty), mask=t < length)
