"""Triton kernels of the short convolution with its gate: projections are read once, gated products written once.

A program works on a block of positions of one channel, four neighbours a lane: positions come and go in aligned groups
of four, and what a few taps reach to both sides lies in the groups before and after. Loads of shifted positions, which
no alignment would help, never happen. Sums over positions are written per program, and added by the caller in one
order. The bias of the linear projection is added here, which spares the projection a pass over its output.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["gate_backward", "gate_forward"]


@triton.jit
def _four(p, t, length):
    """Values at positions t to t + 3, zero outside the sequence, as four tensors; t a multiple of four."""
    at = t[:, None] + tl.arange(0, 4)[None, :]
    x = tl.load(p + at, mask=(at >= 0) & (at < length), other=0.0).to(tl.float32)
    even, odd = tl.split(tl.reshape(x, (x.shape[0], 2, 2)))
    x0, x2 = tl.split(even)
    x1, x3 = tl.split(odd)
    return x0, x1, x2, x3


@triton.jit
def _store_four(p, t, length, x0, x1, x2, x3):
    at = t[:, None] + tl.arange(0, 4)[None, :]
    x = tl.reshape(tl.join(tl.join(x0, x2), tl.join(x1, x3)), (t.shape[0], 4))
    tl.store(p + at, x.to(p.dtype.element_ty), mask=at < length)


@triton.jit
def _projected(p, bias, t, length):
    """Projections with their bias at t to t + 3."""
    x = _four(p, t, length)
    # No bias outside the sequence: the convolution is padded with zeros.
    b0 = tl.where((t >= 0) & (t < length), bias, 0.0)
    b1 = tl.where((t >= 0) & (t + 1 < length), bias, 0.0)
    b2 = tl.where((t >= 0) & (t + 2 < length), bias, 0.0)
    b3 = tl.where((t >= 0) & (t + 3 < length), bias, 0.0)
    return x[0] + b0, x[1] + b1, x[2] + b2, x[3] + b3


@triton.jit
def _tap(around, weight, s: tl.constexpr, TAPS: tl.constexpr):
    """The convolution without its bias at t + s, from projections at t - 4, t - 3, ..."""
    y = around[s + 4] * tl.load(weight + TAPS - 1).to(tl.float32)
    for j in tl.static_range(1, TAPS):
        y += around[s + 4 - j] * tl.load(weight + TAPS - 1 - j).to(tl.float32)
    return y


@triton.jit
def _short(p, in_bias, weight, bias, t, length, TAPS: tl.constexpr):
    """The short convolution at t to t + 3."""
    around = _projected(p, in_bias, t - 4, length) + _projected(p, in_bias, t, length)
    return (
        _tap(around, weight, 0, TAPS) + bias,
        _tap(around, weight, 1, TAPS) + bias,
        _tap(around, weight, 2, TAPS) + bias,
        _tap(around, weight, 3, TAPS) + bias,
    )


@triton.jit
def _store_peak(peak, t, length, x0, x1, x2, x3):
    """The largest magnitude of the block, of positions in the sequence."""
    largest = tl.where(t < length, tl.abs(x0), 0.0)
    largest = tl.maximum(largest, tl.where(t + 1 < length, tl.abs(x1), 0.0))
    largest = tl.maximum(largest, tl.where(t + 2 < length, tl.abs(x2), 0.0))
    largest = tl.maximum(largest, tl.where(t + 3 < length, tl.abs(x3), 0.0))
    tl.store(peak, tl.max(largest, axis=0))


@triton.jit
def gate_forward(
    a, b, in_a, weight_a, bias_a, in_b, weight_b, bias_b, y, peaks,
    channels, length, a_batch, a_channel, b_batch, b_channel,
    TAPS: tl.constexpr, B_IS: tl.constexpr, BLOCK: tl.constexpr, PEAKS: tl.constexpr,
):  # fmt: skip
    """y = short(a) times short(b), b or nothing: B_IS "projection", "values" or "none".

    With PEAKS, `peaks` (batch, channels, blocks) are the largest magnitudes of y.
    """
    blocks = tl.cdiv(length, BLOCK)
    row = tl.program_id(0) // blocks
    c = (row % channels).to(tl.int64)
    batch = (row // channels).to(tl.int64)
    t = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK // 4) * 4
    a_row = a + batch * a_batch + c * a_channel
    b_row = b + batch * b_batch + c * b_channel
    out = y + row.to(tl.int64) * length
    in_bias, bias = tl.load(in_a + c).to(tl.float32), tl.load(bias_a + c).to(tl.float32)
    x = _short(a_row, in_bias, weight_a + c * TAPS, bias, t, length, TAPS)
    if B_IS == "projection":
        in_bias, bias = tl.load(in_b + c).to(tl.float32), tl.load(bias_b + c).to(tl.float32)
        other = _short(b_row, in_bias, weight_b + c * TAPS, bias, t, length, TAPS)
    if B_IS == "values":
        other = _four(b_row, t, length)
    if B_IS != "none":
        x = (x[0] * other[0], x[1] * other[1], x[2] * other[2], x[3] * other[3])
    _store_four(out, t, length, x[0], x[1], x[2], x[3])
    if PEAKS:
        _store_peak(peaks + tl.program_id(0), t, length, x[0], x[1], x[2], x[3])


@triton.jit
def _d_projected(d, weight, s: tl.constexpr, TAPS: tl.constexpr):
    """Gradient of the projection at t + s, from those of the convolution at t, t + 1, ..."""
    y = d[s] * tl.load(weight + TAPS - 1).to(tl.float32)
    for j in tl.static_range(1, TAPS):
        y += d[s + j] * tl.load(weight + TAPS - 1 - j).to(tl.float32)
    return y


@triton.jit
def _no_sums(BLOCK: tl.constexpr, TAPS: tl.constexpr):
    zero = tl.zeros((BLOCK // 4,), dtype=tl.float32)
    return (zero,) * (TAPS + 2)


@triton.jit
def _add_gradients(sums, d, around, weight, d_a, t, length, TAPS: tl.constexpr):
    """Of one group: of the projection at t to t + 3, stored; of taps and both biases, added to `sums`."""
    x0, x1 = _d_projected(d, weight, 0, TAPS), _d_projected(d, weight, 1, TAPS)
    x2, x3 = _d_projected(d, weight, 2, TAPS), _d_projected(d, weight, 3, TAPS)
    _store_four(d_a, t, length, x0, x1, x2, x3)
    inside = tl.where(t < length, x0, 0.0) + tl.where(t + 1 < length, x1, 0.0)
    inside += tl.where(t + 2 < length, x2, 0.0) + tl.where(t + 3 < length, x3, 0.0)
    added = ()
    for j in tl.static_range(TAPS):
        # Tap j meets the projection TAPS - 1 - j positions before.
        d_tap = d[0] * around[5 + j - TAPS] + d[1] * around[6 + j - TAPS]
        d_tap += d[2] * around[7 + j - TAPS] + d[3] * around[8 + j - TAPS]
        added = added + (sums[j] + d_tap,)
    return added + (sums[TAPS] + (d[0] + d[1] + d[2] + d[3]), sums[TAPS + 1] + inside)


@triton.jit
def _store_sums(partial, sums, TAPS: tl.constexpr):
    for j in tl.static_range(TAPS + 2):
        tl.store(partial + j, tl.sum(sums[j], axis=0))


@triton.jit
def _eight(around, weight, bias, TAPS: tl.constexpr):
    """The short convolution at t to t + 7, from projections at t - 4 to t + 7."""
    return (
        _tap(around, weight, 0, TAPS) + bias,
        _tap(around, weight, 1, TAPS) + bias,
        _tap(around, weight, 2, TAPS) + bias,
        _tap(around, weight, 3, TAPS) + bias,
        _tap(around, weight, 4, TAPS) + bias,
        _tap(around, weight, 5, TAPS) + bias,
        _tap(around, weight, 6, TAPS) + bias,
        _tap(around, weight, 7, TAPS) + bias,
    )


@triton.jit
def _times_eight(a, b):
    return (
        a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3],
        a[4] * b[4], a[5] * b[5], a[6] * b[6], a[7] * b[7],
    )  # fmt: skip


@triton.jit
def gate_backward(
    a, b, grad, in_a, weight_a, bias_a, in_b, weight_b, bias_b, d_a, d_b, peaks, y, partial_a, partial_b,
    batch, channels, length, a_batch, a_channel, b_batch, b_channel, d_a_batch, d_b_batch, per_program,
    TAPS: tl.constexpr, B_IS: tl.constexpr, BLOCK: tl.constexpr, HAS_Y: tl.constexpr,
):  # fmt: skip
    """Gradients of `gate_forward`; a program takes a share of the blocks of one channel in all sequences.

    `partial_*` (shares, channels, TAPS + 2) are those of taps, bias, bias of the input. Where b is "values", `peaks`
    (batch, channels, blocks) are the largest magnitudes of its gradient, and with HAS_Y the output is made again, into
    `y`.
    """
    blocks = tl.cdiv(length, BLOCK)
    c = (tl.program_id(0) % channels).to(tl.int64)
    share = tl.program_id(0) // channels
    taps_a, taps_b = weight_a + c * TAPS, weight_b + c * TAPS
    first = tl.load(in_a + c).to(tl.float32)
    short_a = tl.load(bias_a + c).to(tl.float32)
    second = tl.load(in_b + c).to(tl.float32)
    short_b = tl.load(bias_b + c).to(tl.float32)
    sums_a, sums_b = _no_sums(BLOCK, TAPS), _no_sums(BLOCK, TAPS)
    for unit in range(share * per_program, tl.minimum((share + 1) * per_program, batch * blocks)):
        sequence = (unit // blocks).to(tl.int64)
        block = unit % blocks
        t = block * BLOCK + tl.arange(0, BLOCK // 4) * 4
        row = sequence * channels + c
        a_row = a + sequence * a_batch + c * a_channel
        b_row = b + sequence * b_batch + c * b_channel
        d_a_row = d_a + sequence * d_a_batch + c * length
        d_b_row = d_b + sequence * d_b_batch + c * length
        grad_row = grad + row * length
        g = _four(grad_row, t, length) + _four(grad_row, t + 4, length)
        near = _projected(a_row, first, t - 4, length) + _projected(a_row, first, t, length)
        if B_IS == "none":
            sums_a = _add_gradients(sums_a, g, near, taps_a, d_a_row, t, length, TAPS)
        if B_IS == "values":
            value = _four(b_row, t, length) + _four(b_row, t + 4, length)
            sums_a = _add_gradients(sums_a, _times_eight(g, value), near, taps_a, d_a_row, t, length, TAPS)
            x0, x1 = _tap(near, taps_a, 0, TAPS) + short_a, _tap(near, taps_a, 1, TAPS) + short_a
            x2, x3 = _tap(near, taps_a, 2, TAPS) + short_a, _tap(near, taps_a, 3, TAPS) + short_a
            if HAS_Y:
                _store_four(y + row * length, t, length, x0 * value[0], x1 * value[1], x2 * value[2], x3 * value[3])
            d0, d1, d2, d3 = g[0] * x0, g[1] * x1, g[2] * x2, g[3] * x3
            _store_four(d_b_row, t, length, d0, d1, d2, d3)
            _store_peak(peaks + row * blocks + block, t, length, d0, d1, d2, d3)
        if B_IS == "projection":
            around_a = near + _projected(a_row, first, t + 4, length)
            around_b = _projected(b_row, second, t - 4, length) + _projected(b_row, second, t, length)
            around_b = around_b + _projected(b_row, second, t + 4, length)
            d = _times_eight(g, _eight(around_b, taps_b, short_b, TAPS))
            sums_a = _add_gradients(sums_a, d, around_a, taps_a, d_a_row, t, length, TAPS)
            d = _times_eight(g, _eight(around_a, taps_a, short_a, TAPS))
            sums_b = _add_gradients(sums_b, d, around_b, taps_b, d_b_row, t, length, TAPS)
    part = (share * channels + c) * (TAPS + 2)
    _store_sums(partial_a + part, sums_a, TAPS)
    if B_IS == "projection":
        _store_sums(partial_b + part, sums_b, TAPS)
