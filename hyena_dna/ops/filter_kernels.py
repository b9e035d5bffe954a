"""Triton kernels of the filter network: features of positions, sines of linear layers, a decaying window.

A program makes a block of positions from nothing, so that no hidden layer of the network meets memory, but for the last
one on the way back. States are (positions, W); the filters come out channels first, as convolutions want them.

Numerics are those of the convolution that follows, whose operands are float16. Hidden layers are products of float16
halves, since angles of a sine leave no room for less; a sine is right to 6e-7. The last layer, which nothing
amplifies, has float16 operands: sines, which are at most one, and weights divided by the largest of their channel. What
comes out stays divided by that, as float16 (`hyena_dna.ops.scaled_kernel`). Gradients come in the same form, and meet
float16 operands too; those of hidden layers are single TF32 products. Sums over positions are written per program, and
added by the caller in one order.

The small weights lie in one buffer, `pack`: the first layer (W, E) and its bias, the frequencies of the sine, then
weight (W, W) and bias of every inner layer. `parts` holds the halves of all that, one after the other.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hyena_dna.ops.split_kernels import halves, split_dot

__all__ = ["filter_forward", "hidden_backward", "last_backward", "sine_backward"]


@triton.jit
def _reduced(x):
    """x less a multiple of 2 pi, within [-pi, pi], for |x| up to a few thousand, without the branch for huge ones."""
    turns = tl.floor(x * 0.15915494309189535 + 0.5)
    # 2 pi in two parts: the product with the first is exact.
    r = x - turns * 6.28125
    return r - turns * 0.0019353071795864769


@triton.jit
def _sine_of_reduced(r):
    s = r * r
    p = -2.0366230527298857e-08 * s + 2.699822784902767e-06
    p = p * s - 0.00019808740045838979
    p = p * s + 0.00833240759429453
    p = p * s - 0.1666655344668115
    p = p * s + 0.9999996039185036
    return p * r


@triton.jit
def _cosine_of_reduced(r):
    """Right to 1.2e-6."""
    s = r * r
    p = -2.1978870279326657e-07 * s + 2.420439886918757e-05
    p = p * s - 0.0013858915772289038
    p = p * s + 0.041659820824861526
    p = p * s - 0.49999427795410156
    return p * s + 0.9999992251396179


@triton.jit
def _sine(x):
    return _sine_of_reduced(_reduced(x))


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
    pack, parts, bands, n, max_length, INNER: tl.constexpr, E: tl.constexpr, PADDED: tl.constexpr,
    OCTAVES: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Input of the first sine, (positions, W)."""
    row = tl.arange(0, W)
    feature = tl.arange(0, PADDED)
    at = row[None, :] * E + feature[:, None]
    inside = (feature < E)[:, None]
    high = tl.load(parts + at, mask=inside, other=0.0)
    low = tl.load(_inner(parts, INNER, E, W) + at, mask=inside, other=0.0)
    xh, xl = halves(_features(bands, n, max_length, E, PADDED, OCTAVES))
    return split_dot(xh, xl, high, low) + tl.load(pack + W * E + row)[None, :]


@triton.jit
def _next_argument(pack, parts, x, k, INNER: tl.constexpr, E: tl.constexpr, W: tl.constexpr):
    """Input of the sine after inner layer k, from the sine before it."""
    row = tl.arange(0, W)
    at = row[None, :] * W + row[:, None]
    high = tl.load(_inner(parts, k, E, W) + at)
    low = tl.load(_inner(_inner(parts, INNER, E, W), k, E, W) + at)
    xh, xl = halves(x)
    return split_dot(xh, xl, high, low) + tl.load(_inner(pack, k, E, W) + W * W + row)[None, :]


@triton.jit
def _window(rate, time, shift):
    """The decaying window; rates of channels and times of positions are broadcast against each other."""
    return tl.exp2((rate * -1.4426950408889634) * time) + shift


@triton.jit
def filter_forward(
    pack, parts, bands, last, rates, y, channels, length, max_length, shift,
    INNER: tl.constexpr, E: tl.constexpr, PADDED: tl.constexpr, OCTAVES: tl.constexpr, W: tl.constexpr,
    POSITIONS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """y (channels, length) float16 = window times network, of a last layer `last` (channels, W) float16."""
    n = tl.program_id(0) * POSITIONS + tl.arange(0, POSITIONS)
    row = tl.arange(0, W)
    frequency = tl.load(pack + W * (E + 1) + row)[None, :]
    z = _first_argument(pack, parts, bands, n, max_length, INNER, E, PADDED, OCTAVES, W)
    for k in tl.static_range(INNER):
        z = _next_argument(pack, parts, _sine(frequency * z), k, INNER, E, W)
    x = _sine(frequency * z).to(tl.float16)
    time = _time(n, max_length)
    for start in range(0, channels, CHANNELS):
        c = start + tl.arange(0, CHANNELS)
        weight = tl.load(last + c[None, :] * W + row[:, None], mask=(c < channels)[None, :], other=0.0)
        value = tl.dot(x, weight)
        rate = tl.load(rates + c, mask=c < channels, other=0.0)
        value *= _window(rate[None, :], time[:, None], shift)
        inside = (c < channels)[:, None] & (n < length)[None, :]
        tl.store(y + c.to(tl.int64)[:, None] * length + n[None, :], tl.trans(value.to(tl.float16)), mask=inside)


@triton.jit
def sine_backward(
    grad, last, factor, rates, d_sines, channels, length, max_length, shift,
    W: tl.constexpr, POSITIONS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Gradient of the last sine, `d_sines` (length, W), of a last layer `last` (channels, W) float16 times `factor`."""
    n = tl.program_id(0) * POSITIONS + tl.arange(0, POSITIONS)
    row = tl.arange(0, W)
    time = _time(n, max_length)
    d_x = tl.zeros((POSITIONS, W), dtype=tl.float32)
    for start in range(0, channels, CHANNELS):
        c = start + tl.arange(0, CHANNELS)
        inside = (c < channels)[:, None]
        at = c.to(tl.int64)[:, None] * length + n[None, :]
        g = tl.load(grad + at, mask=inside & (n < length)[None, :], other=0.0)
        weight = tl.load(last + c[:, None] * W + row[None, :], mask=inside, other=0.0)
        rate = tl.load(rates + c, mask=c < channels, other=0.0)
        g = tl.trans(g).to(tl.float32) * _window(rate[None, :], time[:, None], shift)
        d_x = tl.dot(g.to(tl.float16), weight, d_x)
    tl.store(d_sines + n[:, None] * W + row[None, :], d_x * tl.load(factor), mask=(n < length)[:, None])


@triton.jit
def hidden_backward(
    pack, parts, bands, d_sines, sines, partial, length, max_length, per_program,
    INNER: tl.constexpr, E: tl.constexpr, PADDED: tl.constexpr, OCTAVES: tl.constexpr, W: tl.constexpr,
    POSITIONS: tl.constexpr,
):  # fmt: skip
    """Gradients of `pack`, of one share of the positions each: `partial` (programs, as long as `pack`).

    `d_sines` (length, W) holds the gradient of the last sines, which go to `sines`, float16.

    The argument of a sine is f (V x + b). With D and d summed over positions for f V and f b, the gradients of V and b
    are f D and f d, and that of f is the sum of V D and b d over all layers: arguments need not be kept for it.
    """
    row = tl.arange(0, W)
    feature = tl.arange(0, PADDED)
    frequency = tl.load(pack + W * (E + 1) + row)[None, :]
    # Sums over positions, of biases too, are products: reductions across warps would keep all of them waiting.
    ones = tl.full((POSITIONS, 16), 1.0, dtype=tl.float32)
    d_first = tl.zeros((W, PADDED), dtype=tl.float32)
    d_weights = (tl.zeros((W, W), dtype=tl.float32),) * INNER
    d_biases = (tl.zeros((W, 16), dtype=tl.float32),) * (INNER + 1)
    for block in range(tl.program_id(0) * per_program, (tl.program_id(0) + 1) * per_program):
        n = block * POSITIONS + tl.arange(0, POSITIONS)
        at = n[:, None] * W + row[None, :]
        inside = (n < length)[:, None]
        d_x = tl.load(d_sines + at, mask=inside, other=0.0)
        z = _reduced(frequency * _first_argument(pack, parts, bands, n, max_length, INNER, E, PADDED, OCTAVES, W))
        x = _sine_of_reduced(z)
        slopes, states = (_cosine_of_reduced(z),), (x,)
        for k in tl.static_range(INNER):
            z = _reduced(frequency * _next_argument(pack, parts, x, k, INNER, E, W))
            x = _sine_of_reduced(z)
            slopes, states = slopes + (_cosine_of_reduced(z),), states + (x,)
        tl.store(sines + at, x.to(tl.float16), mask=inside)
        weights, biases = (), ()
        for k in tl.static_range(INNER, 0, -1):
            d_x *= slopes[k]
            turned = tl.trans(d_x)
            weights = (tl.dot(turned, states[k - 1], d_weights[k - 1], input_precision="tf32"),) + weights
            biases = (tl.dot(turned, ones, d_biases[k], input_precision="tf32"),) + biases
            weight = tl.load(_inner(pack, k - 1, E, W) + row[:, None] * W + row[None, :])
            d_x = tl.dot(d_x * frequency, weight, input_precision="tf32")
        turned = tl.trans(d_x * slopes[0])
        features = _features(bands, n, max_length, E, PADDED, OCTAVES)
        d_first = tl.dot(turned, features, d_first, input_precision="tf32")
        biases = (tl.dot(turned, ones, d_biases[0], input_precision="tf32"),) + biases
        d_weights, d_biases = weights, biases
    base = partial + tl.program_id(0) * (W * (E + 2) + INNER * (W * (W + 1)))
    frequency = tl.load(pack + W * (E + 1) + row)
    at = row[:, None] * E + feature[None, :]
    inside = (feature < E)[None, :]
    tl.store(base + at, d_first * frequency[:, None], mask=inside)
    # The columns are all the same.
    d_bias = tl.sum(d_biases[0], axis=1) * 0.0625
    tl.store(base + W * E + row, d_bias * frequency)
    d_frequency = tl.sum(d_first * tl.load(pack + at, mask=inside, other=0.0), axis=1)
    d_frequency += d_bias * tl.load(pack + W * E + row)
    at = row[:, None] * W + row[None, :]
    for k in tl.static_range(INNER):
        inner, d_inner = _inner(pack, k, E, W), _inner(base, k, E, W)
        tl.store(d_inner + at, d_weights[k] * frequency[:, None])
        d_bias = tl.sum(d_biases[k + 1], axis=1) * 0.0625
        tl.store(d_inner + W * W + row, d_bias * frequency)
        d_frequency += tl.sum(d_weights[k] * tl.load(inner + at), axis=1) + d_bias * tl.load(inner + W * W + row)
    tl.store(base + W * (E + 1) + row, d_frequency)


@triton.jit
def last_backward(
    grad, sines, rates, partial, channels, length, max_length, shift, per_program,
    W: tl.constexpr, POSITIONS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Gradient of the last layer, (channels, W) a share of the positions, from the last sines `sines` (length, W)."""
    c = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    row = tl.arange(0, W)
    rate = tl.load(rates + c, mask=c < channels, other=0.0)
    total = tl.zeros((CHANNELS, W), dtype=tl.float32)
    for block in range(tl.program_id(1) * per_program, (tl.program_id(1) + 1) * per_program):
        n = block * POSITIONS + tl.arange(0, POSITIONS)
        inside = n < length
        at = c.to(tl.int64)[:, None] * length + n[None, :]
        g = tl.load(grad + at, mask=(c < channels)[:, None] & inside[None, :], other=0.0)
        g = g.to(tl.float32) * _window(rate[:, None], _time(n, max_length)[None, :], shift)
        x = tl.load(sines + n[:, None] * W + row[None, :], mask=inside[:, None], other=0.0)
        total = tl.dot(g.to(tl.float16), x, total)
    base = partial + tl.program_id(1) * channels * W
    tl.store(base + c[:, None] * W + row[None, :], total, mask=(c < channels)[:, None])
