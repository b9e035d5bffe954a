"""Triton kernels of the filter network: features of positions, sines of linear layers, a decaying window.

A program makes a block of positions from nothing, so that no layer of the network meets memory on the way forward. On
the way back the arguments of the sines do. States are (positions, W); the filters come out channels first, as
convolutions want them.

Numerics are those of the convolution that follows, whose operands are float16. Hidden layers are products of three TF32
products, since angles of a sine leave no room for less; a sine is right to 6e-7. The last layer, which nothing
amplifies, has float16 operands: sines, which are at most one, and weights divided by the largest of their channel.
Gradients are single TF32 products. Sums over positions are written per program, and added by the caller in one order.

The small weights lie in one buffer, `pack`: the first layer (W, E) and its bias, the frequencies of the sine, then
weight (W, W) and bias of every inner layer.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["filter_forward", "hidden_backward", "last_backward", "level_backward"]


@triton.jit
def _sine(x):
    """sin(x) for |x| up to a few thousand, without the branch for huge ones: odd polynomial on [-pi, pi]."""
    turns = tl.floor(x * 0.15915494309189535 + 0.5)
    # 2 pi in two parts: the product with the first is exact.
    r = x - turns * 6.28125
    r = r - turns * 0.0019353071795864769
    s = r * r
    p = -2.0366230527298857e-08 * s + 2.699822784902767e-06
    p = p * s - 0.00019808740045838979
    p = p * s + 0.00833240759429453
    p = p * s - 0.1666655344668115
    p = p * s + 0.9999996039185036
    return p * r


@triton.jit
def _cosine(x):
    return _sine(x + 1.5707963267948966)


@triton.jit
def _exact(a, b):
    return tl.dot(a, b, input_precision="tf32x3")


@triton.jit
def _time(n, max_length):
    """`max_length`, here and everywhere float32: an integer that is one would be a constant to the compiler."""
    return tl.div_rn(n.to(tl.float32), tl.maximum(max_length - 1.0, 1.0))


@triton.jit
def _features(bands, n, max_length, E: tl.constexpr, PADDED: tl.constexpr, OCTAVES: tl.constexpr):
    """(positions, PADDED): time, cosines, negative sines; zeros from E on.

    `bands` are frequencies over `max_length`, or with OCTAVES per position: powers of two, whose products are exact.
    """
    feature = tl.arange(0, PADDED)
    is_cosine = feature <= E // 2
    band = tl.where(is_cosine, feature - 1, feature - 1 - E // 2)
    frequency = tl.load(bands + band, mask=(feature > 0) & (feature < E), other=0.0)
    if OCTAVES:
        turns = n.to(tl.float32)[:, None] * frequency[None, :]
        angle = (turns - tl.floor(turns)) * 6.283185307179586
    else:
        angle = frequency[None, :] * tl.div_rn(n.to(tl.float32) * 6.283185307179586, max_length)[:, None]
    # A cosine is a sine a quarter of a turn on, a negative sine one half a turn on.
    ahead = tl.where(is_cosine, 1.5707963267948966, 3.141592653589793)
    wave = _sine(angle + ahead[None, :])
    value = tl.where((feature == 0)[None, :], _time(n, max_length)[:, None], wave)
    return tl.where((feature < E)[None, :], value, 0.0)


@triton.jit
def _inner(pack, k, E: tl.constexpr, W: tl.constexpr):
    """Where inner layer k lies."""
    return pack + W * (E + 2) + k * (W * (W + 1))


@triton.jit
def _first_argument(
    pack, bands, n, max_length, E: tl.constexpr, PADDED: tl.constexpr, OCTAVES: tl.constexpr, W: tl.constexpr
):
    """Input of the first sine, (positions, W)."""
    row = tl.arange(0, W)
    feature = tl.arange(0, PADDED)
    first = tl.load(pack + row[None, :] * E + feature[:, None], mask=(feature < E)[:, None], other=0.0)
    return _exact(_features(bands, n, max_length, E, PADDED, OCTAVES), first) + tl.load(pack + W * E + row)[None, :]


@triton.jit
def _next_argument(pack, z, k, frequency, E: tl.constexpr, W: tl.constexpr):
    """Input of the sine after inner layer k, from that before it."""
    row = tl.arange(0, W)
    layer = _inner(pack, k, E, W)
    weight = tl.load(layer + row[None, :] * W + row[:, None])
    return _exact(_sine(frequency * z), weight) + tl.load(layer + W * W + row)[None, :]


@triton.jit
def _window(rate, time, shift):
    """The decaying window; rates of channels and times of positions are broadcast against each other."""
    return tl.exp(-rate * time) + shift


@triton.jit
def _plane(index, length, W: tl.constexpr):
    """Where a plane of (length, W) begins."""
    return tl.full((), index, tl.int64) * length * W


@triton.jit
def filter_forward(
    pack, bands, last, largest, rates, y, channels, length, max_length, shift,
    INNER: tl.constexpr, E: tl.constexpr, PADDED: tl.constexpr, OCTAVES: tl.constexpr, W: tl.constexpr,
    POSITIONS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """y (channels, length) = window times network; `last` (channels, W) float16, divided by `largest` (channels,)."""
    n = tl.program_id(0) * POSITIONS + tl.arange(0, POSITIONS)
    row = tl.arange(0, W)
    frequency = tl.load(pack + W * (E + 1) + row)[None, :]
    z = _first_argument(pack, bands, n, max_length, E, PADDED, OCTAVES, W)
    for k in tl.static_range(INNER):
        z = _next_argument(pack, z, k, frequency, E, W)
    x = _sine(frequency * z).to(tl.float16)
    time = _time(n, max_length)
    for start in range(0, channels, CHANNELS):
        c = start + tl.arange(0, CHANNELS)
        weight = tl.load(last + c[None, :] * W + row[:, None], mask=(c < channels)[None, :], other=0.0)
        value = tl.dot(x, weight)
        rate = tl.load(rates + c, mask=c < channels, other=0.0)
        factor = tl.load(largest + c, mask=c < channels, other=0.0)
        value *= _window(rate[None, :], time[:, None], shift) * factor[None, :]
        inside = (c < channels)[:, None] & (n < length)[None, :]
        tl.store(y + c.to(tl.int64)[:, None] * length + n[None, :], tl.trans(value), mask=inside)


@triton.jit
def hidden_backward(
    grad, pack, bands, last, rates, arguments, d_hidden, channels, length, max_length, shift,
    INNER: tl.constexpr, E: tl.constexpr, PADDED: tl.constexpr, OCTAVES: tl.constexpr, W: tl.constexpr,
    POSITIONS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Arguments of all sines, (INNER + 1, length, W), and the gradient of the last sine, (length, W)."""
    n = tl.program_id(0) * POSITIONS + tl.arange(0, POSITIONS)
    inside = n < length
    row = tl.arange(0, W)
    at = n[:, None] * W + row[None, :]
    frequency = tl.load(pack + W * (E + 1) + row)[None, :]
    z = _first_argument(pack, bands, n, max_length, E, PADDED, OCTAVES, W)
    tl.store(arguments + at, z, mask=inside[:, None])
    for k in tl.static_range(INNER):
        z = _next_argument(pack, z, k, frequency, E, W)
        tl.store(arguments + _plane(k + 1, length, W) + at, z, mask=inside[:, None])
    time = _time(n, max_length)
    d_x = tl.zeros((POSITIONS, W), dtype=tl.float32)
    for start in range(0, channels, CHANNELS):
        c = start + tl.arange(0, CHANNELS)
        of_grad = c.to(tl.int64)[:, None] * length + n[None, :]
        g = tl.load(grad + of_grad, mask=(c < channels)[:, None] & inside[None, :], other=0.0)
        weight = tl.load(last + c[:, None] * W + row[None, :], mask=(c < channels)[:, None], other=0.0)
        rate = tl.load(rates + c, mask=c < channels, other=0.0)
        d_x += tl.dot(tl.trans(g) * _window(rate[None, :], time[:, None], shift), weight, input_precision="tf32")
    tl.store(d_hidden + at, d_x, mask=inside[:, None])


@triton.jit
def level_backward(
    d_x, pack, bands, arguments, partial, length, max_length, per_program,
    DEPTH: tl.constexpr, E: tl.constexpr, PADDED: tl.constexpr, OCTAVES: tl.constexpr, W: tl.constexpr,
    POSITIONS: tl.constexpr,
):  # fmt: skip
    """Back through one sine and the layer before it, which has DEPTH layers before itself; `d_x` in place.

    `partial` (programs, W * (inputs + 2)): gradients of the layer's weight and bias, and of the frequencies.
    """
    row = tl.arange(0, W)
    frequency = tl.load(pack + W * (E + 1) + row)[None, :]
    inputs: tl.constexpr = E if DEPTH == 0 else W
    padded: tl.constexpr = PADDED if DEPTH == 0 else W
    column = tl.arange(0, padded)
    d_weight = tl.zeros((W, padded), dtype=tl.float32)
    d_bias = tl.zeros((W,), dtype=tl.float32)
    d_frequency = tl.zeros((W,), dtype=tl.float32)
    for block in range(tl.program_id(0) * per_program, (tl.program_id(0) + 1) * per_program):
        n = block * POSITIONS + tl.arange(0, POSITIONS)
        at = n[:, None] * W + row[None, :]
        inside = (n < length)[:, None]
        z = tl.load(arguments + _plane(DEPTH, length, W) + at, mask=inside, other=0.0)
        d_sine = tl.load(d_x + at, mask=inside, other=0.0) * _cosine(frequency * z)
        d_frequency += tl.sum(d_sine * z, axis=0)
        d_z = d_sine * frequency
        d_bias += tl.sum(d_z, axis=0)
        if DEPTH == 0:
            x = _features(bands, n, max_length, E, PADDED, OCTAVES)
        else:
            before = tl.load(arguments + _plane(DEPTH - 1, length, W) + at, mask=inside, other=0.0)
            x = _sine(frequency * before)
            weight = tl.load(_inner(pack, DEPTH - 1, E, W) + row[:, None] * W + row[None, :])
            tl.store(d_x + at, tl.dot(d_z, weight, input_precision="tf32"), mask=inside)
        d_weight += tl.dot(tl.trans(d_z), x, input_precision="tf32")
    base = partial + tl.program_id(0) * (W * (inputs + 2))
    tl.store(base + row[:, None] * inputs + column[None, :], d_weight, mask=(column < inputs)[None, :])
    tl.store(base + W * inputs + row, d_bias)
    tl.store(base + W * (inputs + 1) + row, d_frequency)


@triton.jit
def last_backward(
    grad, pack, argument, rates, partial, channels, length, max_length, shift, per_program,
    E: tl.constexpr, W: tl.constexpr, POSITIONS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Gradient of the last layer, (channels, W) a share of the positions; `argument` (length, W) of the last sine."""
    c = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    row = tl.arange(0, W)
    frequency = tl.load(pack + W * (E + 1) + row)[None, :]
    rate = tl.load(rates + c, mask=c < channels, other=0.0)
    total = tl.zeros((CHANNELS, W), dtype=tl.float32)
    for block in range(tl.program_id(1) * per_program, (tl.program_id(1) + 1) * per_program):
        n = block * POSITIONS + tl.arange(0, POSITIONS)
        inside = n < length
        at = c.to(tl.int64)[:, None] * length + n[None, :]
        g = tl.load(grad + at, mask=(c < channels)[:, None] & inside[None, :], other=0.0)
        g *= _window(rate[:, None], _time(n, max_length)[None, :], shift)
        z = tl.load(argument + n[:, None] * W + row[None, :], mask=inside[:, None], other=0.0)
        total += tl.dot(g, _sine(frequency * z), input_precision="tf32")
    base = partial + tl.program_id(1) * channels * W
    tl.store(base + c[:, None] * W + row[None, :], total, mask=(c < channels)[:, None])
