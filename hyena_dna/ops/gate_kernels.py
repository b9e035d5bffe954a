"""Triton kernels of the short convolution with its gate: projections are read once, gated products written once.

A program works on a block of positions of one channel, eight neighbours a lane: they come and go in aligned groups of
eight, and what a few taps reach to both sides lies in the four before and the four after. Loads of shifted positions,
which no alignment would help, never happen. Sums over positions are written per program, and added by the caller in one
order. The bias of the linear projection is added here, which spares the projection a pass over its output.

Behind the end of a sequence gradients and gated values are zero, and with them all that is made of them; projections
there have a bias, and mean nothing.
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
def _eight(p, t, length):
    """Values at positions t to t + 7, zero behind the sequence, as eight tensors; t a multiple of eight."""
    at = t[:, None] + tl.arange(0, 8)[None, :]
    x = tl.load(p + at, mask=at < length, other=0.0).to(tl.float32)
    even, odd = tl.split(tl.reshape(x, (x.shape[0], 2, 2, 2)))
    even0, even1 = tl.split(even)
    odd0, odd1 = tl.split(odd)
    x0, x4 = tl.split(even0)
    x2, x6 = tl.split(even1)
    x1, x5 = tl.split(odd0)
    x3, x7 = tl.split(odd1)
    return x0, x1, x2, x3, x4, x5, x6, x7


@triton.jit
def _store_eight(p, t, length, x):
    even = tl.join(tl.join(x[0], x[4]), tl.join(x[2], x[6]))
    odd = tl.join(tl.join(x[1], x[5]), tl.join(x[3], x[7]))
    at = t[:, None] + tl.arange(0, 8)[None, :]
    tl.store(p + at, tl.reshape(tl.join(even, odd), (t.shape[0], 8)).to(p.dtype.element_ty), mask=at < length)


@triton.jit
def _plus(x, bias):
    y = ()
    for i in tl.static_range(len(x)):
        y = y + (x[i] + bias,)
    return y


@triton.jit
def _products(x, y, COUNT: tl.constexpr):
    """Of the first COUNT tensors; x never has more of them than y.

    Triton 3.6 tells calls apart by all their tensors in a row, whichever tuple they are in: of 8 and 12, and of 12 and
    8, would be one function to it.
    """
    z = ()
    for i in tl.static_range(COUNT):
        z = z + (x[i] * y[i],)
    return z


@triton.jit
def _taps(weight, TAPS: tl.constexpr):
    """The taps, from the one of the position itself backwards."""
    taps = ()
    for j in tl.static_range(TAPS):
        taps = taps + (tl.load(weight + TAPS - 1 - j).to(tl.float32),)
    return taps


@triton.jit
def _projected(p, bias, t, length):
    """Projections with their bias at t - 4 to t + 7."""
    # No bias before the sequence: the convolution is padded with zeros.
    return _plus(_four(p, t - 4, length), tl.where(t > 0, bias, 0.0)) + _plus(_eight(p, t, length), bias)


@triton.jit
def _short(around, taps, bias, COUNT: tl.constexpr, TAPS: tl.constexpr):
    """The short convolution at COUNT positions from t on, of projections from t - 4 on."""
    y = ()
    for s in tl.static_range(COUNT):
        x = around[s + 4] * taps[0] + bias
        for j in tl.static_range(1, TAPS):
            x += around[s + 4 - j] * taps[j]
        y = y + (x,)
    return y


@triton.jit
def _store_peak(peak, x):
    """The largest magnitude of the block."""
    largest = tl.abs(x[0])
    for i in tl.static_range(1, 8):
        largest = tl.maximum(largest, tl.abs(x[i]))
    tl.store(peak, tl.max(largest, axis=0))


@triton.jit
def _inside(x, t, length):
    """Eight tensors, zero behind the sequence."""
    y = ()
    for i in tl.static_range(8):
        y = y + (tl.where(t + i < length, x[i], 0.0),)
    return y


@triton.jit(do_not_specialize=["first", "second"])
def gate_forward(
    projected, values, in_bias, weight, bias, y, peaks, first, second, channels, all_channels, length,
    TAPS: tl.constexpr, OTHER: tl.constexpr, BLOCK: tl.constexpr, PEAKS: tl.constexpr,
):  # fmt: skip
    """y = short(group) times something: OTHER "projection", another group's short(); "values"; or "none".

    `projected` is (batch, all_channels, length), and groups begin at their channels `first` and `second`; y and
    `values` are (batch, channels, length). With PEAKS, `peaks` (batch, channels, blocks) are the largest magnitudes
    of y.
    """
    blocks = tl.cdiv(length, BLOCK)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    c = row % channels
    sequence = row // channels * all_channels
    t = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK // 8) * 8
    a = first + c
    x = _projected(projected + (sequence + a) * length, tl.load(in_bias + a).to(tl.float32), t, length)
    x = _short(x, _taps(weight + a * TAPS, TAPS), tl.load(bias + a).to(tl.float32), 8, TAPS)
    if OTHER == "projection":
        b = second + c
        z = _projected(projected + (sequence + b) * length, tl.load(in_bias + b).to(tl.float32), t, length)
        z = _short(z, _taps(weight + b * TAPS, TAPS), tl.load(bias + b).to(tl.float32), 8, TAPS)
        x = _products(x, z, 8)
    if OTHER == "values":
        x = _products(x, _eight(values + row * length, t, length), 8)
    _store_eight(y + row * length, t, length, x)
    if PEAKS:
        if OTHER != "values":
            x = _inside(x, t, length)
        _store_peak(peaks + tl.program_id(0), x)


@triton.jit
def _no_sums(BLOCK: tl.constexpr, TAPS: tl.constexpr):
    zero = tl.zeros((BLOCK // 8,), dtype=tl.float32)
    return (zero,) * (TAPS + 2)


@triton.jit
def _add_gradients(sums, d, around, taps, d_a, t, length, TAPS: tl.constexpr):
    """Of one group, from the gradient `d` of its convolution at t, t + 1, ..., as far as the taps reach.

    Of the projection at t to t + 7, stored; of taps and both biases, added to `sums`.
    """
    x = ()
    for s in tl.static_range(8):
        value = d[s] * taps[0]
        for j in tl.static_range(1, TAPS):
            value += d[s + j] * taps[j]
        x = x + (value,)
    _store_eight(d_a, t, length, x)
    added = ()
    for j in tl.static_range(TAPS):
        # Tap j meets the projection TAPS - 1 - j positions before.
        total = sums[j]
        for s in tl.static_range(8):
            total += d[s] * around[s + 5 + j - TAPS]
        added = added + (total,)
    of_bias, of_in_bias = sums[TAPS], sums[TAPS + 1]
    for s in tl.static_range(8):
        of_bias += d[s]
        of_in_bias += x[s]
    return added + (of_bias, of_in_bias)


@triton.jit
def _store_sums(partial, sums, TAPS: tl.constexpr):
    for j in tl.static_range(TAPS + 2):
        tl.store(partial + j, tl.sum(sums[j], axis=0))


@triton.jit(do_not_specialize=["first", "second"])
def gate_backward(
    projected, values, grad, in_bias, weight, bias, d_projected, d_values, peaks, partial_a, partial_b, first, second,
    batch, channels, all_channels, length, per_program,
    TAPS: tl.constexpr, OTHER: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of `gate_forward`; a program takes a share of the blocks of one channel in all sequences.

    `d_projected` is filled where the groups are, `d_values` with those of "values", whose largest magnitudes are
    `peaks` (batch, channels, blocks). `partial_*` (shares, channels, TAPS + 2) are those of taps, bias, bias of the
    input, of each group.
    """
    REACH: tl.constexpr = 7 + TAPS
    blocks = tl.cdiv(length, BLOCK)
    c = (tl.program_id(0) % channels).to(tl.int64)
    share = tl.program_id(0) // channels
    a, b = first + c, second + c
    taps_a, taps_b = _taps(weight + a * TAPS, TAPS), _taps(weight + b * TAPS, TAPS)
    in_a, bias_a = tl.load(in_bias + a).to(tl.float32), tl.load(bias + a).to(tl.float32)
    in_b, bias_b = tl.load(in_bias + b).to(tl.float32), tl.load(bias + b).to(tl.float32)
    sums_a, sums_b = _no_sums(BLOCK, TAPS), _no_sums(BLOCK, TAPS)
    for unit in range(share * per_program, tl.minimum((share + 1) * per_program, batch * blocks)):
        sequence = (unit // blocks).to(tl.int64)
        block = unit % blocks
        t = block * BLOCK + tl.arange(0, BLOCK // 8) * 8
        at_a, at_b = (sequence * all_channels + a) * length, (sequence * all_channels + b) * length
        row = sequence * channels + c
        grad_row = grad + row * length
        g = _eight(grad_row, t, length) + _four(grad_row, t + 8, length)
        near = _projected(projected + at_a, in_a, t, length)
        if OTHER == "none":
            sums_a = _add_gradients(sums_a, g, near, taps_a, d_projected + at_a, t, length, TAPS)
        if OTHER == "values":
            value = _eight(values + row * length, t, length) + _four(values + row * length, t + 8, length)
            d = _products(g, value, REACH)
            sums_a = _add_gradients(sums_a, d, near, taps_a, d_projected + at_a, t, length, TAPS)
            d = _products(_short(near, taps_a, bias_a, 8, TAPS), g, 8)
            _store_eight(d_values + row * length, t, length, d)
            _store_peak(peaks + row * blocks + block, d)
        if OTHER == "projection":
            around_a = near + _plus(_four(projected + at_a, t + 8, length), in_a)
            around_b = _projected(projected + at_b, in_b, t, length) + _plus(
                _four(projected + at_b, t + 8, length), in_b
            )
            d = _products(_short(around_b, taps_b, bias_b, REACH, TAPS), g, REACH)
            sums_a = _add_gradients(sums_a, d, around_a, taps_a, d_projected + at_a, t, length, TAPS)
            d = _products(_short(around_a, taps_a, bias_a, REACH, TAPS), g, REACH)
            sums_b = _add_gradients(sums_b, d, around_b, taps_b, d_projected + at_b, t, length, TAPS)
    part = (share * channels + c) * (TAPS + 2)
    _store_sums(partial_a + part, sums_a, TAPS)
    if OTHER == "projection":
        _store_sums(partial_b + part, sums_b, TAPS)
