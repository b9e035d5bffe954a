"""Triton kernel of the short convolution with its gate in scoring, where only some positions of a window are computed.

A program works on a block of positions of one channel, in float32. What a few taps reach back meets the cache.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["gate_columns"]


@triton.jit
def _short(p, in_bias, weight, bias, t, length, TAPS: tl.constexpr):
    """The short convolution at positions t of one channel, from projections without their bias, zero outside."""
    y = tl.zeros_like(t).to(tl.float32) + tl.load(bias)
    constant = tl.load(in_bias)
    for j in tl.static_range(TAPS):
        inside = (t >= j) & (t - j < length)
        x = tl.where(inside, tl.load(p + t - j, mask=inside, other=0.0) + constant, 0.0)
        y += x * tl.load(weight + TAPS - 1 - j)
    return y


@triton.jit
def gate_columns(
    a, b, in_a, weight_a, bias_a, in_b, weight_b, bias_b, result, source, window, start, outside, y,
    channels, positions, columns, kept, alleles, a_batch, a_channel, b_batch, b_channel, y_batch, y_channel,
    TAPS: tl.constexpr, B_IS: tl.constexpr, SUBTRACT: tl.constexpr, HAS_CUT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """y = short(a), times short(b), times b, or times b + result; minus source.

    B_IS "projection", "values", "change" or "none". `a`, and `b` where it is a projection, have `positions`; y, values
    and changes have `columns`, the last ones of these. `result` and `source` are (windows, channels, kept), and that of
    `alleles` rows in a row begins at `start` in `window`; the first `outside` of their positions lie before the window,
    where projections are zero.
    """
    blocks = tl.cdiv(columns, BLOCK)
    row = tl.program_id(0) // blocks
    c = (row % channels).to(tl.int64)
    batch = (row // channels).to(tl.int64)
    t = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    a_row = a + batch * a_batch + c * a_channel
    b_row = b + batch * b_batch + c * b_channel
    before = 0
    if HAS_CUT:
        place = batch // alleles
        cut = (tl.load(window + place) * channels + c) * kept + tl.load(start + place)
        before = tl.load(outside + place).to(tl.int32)
    length = positions - before
    at = t + (length - columns)
    value = _short(a_row + before, in_a + c, weight_a + c * TAPS, bias_a + c, at, length, TAPS)
    if B_IS == "projection":
        value *= _short(b_row + before, in_b + c, weight_b + c * TAPS, bias_b + c, at, length, TAPS)
    if B_IS == "values" or B_IS == "change":
        factor = tl.load(b_row + t, mask=t < columns, other=0.0)
        if B_IS == "change":
            factor += tl.load(result + cut + t, mask=t < columns, other=0.0)
        value *= factor
    if SUBTRACT:
        value -= tl.load(source + cut + t, mask=t < columns, other=0.0)
    tl.store(y + batch * y_batch + c * y_channel + t, value, mask=t < columns)
