"""Triton kernels of the Monarch convolution for sequences that one program transforms at once."""

from __future__ import annotations

import triton
import triton.language as tl

from hyena_dna.ops.long_conv.monarch_transforms import (
    conjugated,
    from_right,
    load_complex,
    load_fragments,
    load_matrix,
    real_from_left,
    real_part_from_left,
    times,
)

__all__ = ["tile_d_kernel", "tile_forward", "tile_inverse", "tile_spectrum"]


@triton.jit
def _scales(x, R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr):
    """Largest magnitude of each of T rows in (R1, T * R2), as (T,); one where a row is zero."""
    largest = tl.max(tl.max(tl.reshape(tl.abs(x), (R1, T, R2)), axis=2), axis=0)
    return tl.where(largest > 0, largest, 1.0)


@triton.jit
def _over_columns(per_row, R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr):
    """(T,) -> (1, T * R2)."""
    return tl.reshape(tl.broadcast_to(per_row[:, None], (T, R2)), (1, T * R2))


@triton.jit
def _over_rows(per_row, R1: tl.constexpr, T: tl.constexpr):
    """(T,) -> (R1 * T, 1)."""
    return tl.reshape(tl.broadcast_to(per_row[None, :], (R1, T)), (R1 * T, 1))


@triton.jit
def _positions(R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr):
    """Where the elements of a tile lie in their row, (R1, T * R2)."""
    return tl.arange(0, R1)[:, None] * R2 + (tl.arange(0, T * R2) % R2)[None, :]


@triton.jit
def _frequencies(R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr):
    """Where the elements of a tile's spectra lie in their row, (R1 * T, R2)."""
    return (tl.arange(0, R1 * T) // T)[:, None] * R2 + tl.arange(0, R2)[None, :]


@triton.jit
def _transform(x, f1, f2, there, R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr):
    """Transform T real rows: (R1, T * R2) float16 -> (R1 * T, R2) float32."""
    yr, yi = real_from_left(f1, x, R1)
    tr, ti = load_fragments(there, T * R1 * R2, R1, T * R2, 1)
    yr, yi = times(yr, yi, tr, ti)
    yr, yi = tl.reshape(yr.to(tl.float16), (R1 * T, R2)), tl.reshape(yi.to(tl.float16), (R1 * T, R2))
    return from_right(load_matrix(f2, R2), yr, yi)


@triton.jit
def _inverse(zr, zi, f1, f2, back, R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr):
    """The real part of T rows transformed back: (R1 * T, R2) float32 -> (R1, T * R2) float32."""
    yr, yi = from_right(conjugated(load_matrix(f2, R2)), zr.to(tl.float16), zi.to(tl.float16))
    tr, ti = load_fragments(back, T * R1 * R2, R1 * T, R2, -1)
    yr, yi = times(yr, yi, tr, ti)
    yr, yi = tl.reshape(yr.to(tl.float16), (R1, T * R2)), tl.reshape(yi.to(tl.float16), (R1, T * R2))
    return real_part_from_left(f1, yr, yi, R1)


@triton.jit
def tile_spectrum(
    kernel, first, scale, bound, out, f1, f2, there, channels, length, root,
    R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr, HAS_FIRST: tl.constexpr,
):  # fmt: skip
    """Spectra of T kernels of at most R1 * R2 points each, divided by their sums of magnitudes `bound`.

    With HAS_FIRST, `first` (channels,) is added to the first value of every kernel.
    """
    n = _positions(R1, R2, T)
    t = tl.program_id(0) * T + tl.arange(0, T * R2) // R2
    inside = t < channels
    x = tl.load(kernel + t[None, :].to(tl.int64) * length + n, mask=(n < length) & inside[None, :], other=0.0)
    x = x.to(tl.float32)
    if HAS_FIRST:
        x += tl.where(n == 0, tl.load(first + t, mask=inside, other=0.0)[None, :], 0.0)
    x *= tl.load(scale + t, mask=inside, other=0.0)[None, :]
    yr, yi = _transform(x.to(tl.float16), f1, f2, there, R1, R2, T)
    c = tl.program_id(0) * T + tl.arange(0, R1 * T) % T
    # root = sqrt(M) turns the unitary transform into the plain one.
    divisor = tl.load(bound + c, mask=c < channels, other=1.0) * tl.load(scale + c, mask=c < channels, other=1.0)
    factor = (root / divisor)[:, None]
    at = c[:, None].to(tl.int64) * (2 * R1 * R2) + _frequencies(R1, R2, T)
    stored = tl.broadcast_to((c < channels)[:, None], (R1 * T, R2))
    tl.store(out + at, (yr * factor).to(tl.float16), mask=stored)
    tl.store(out + R1 * R2 + at, (yi * factor).to(tl.float16), mask=stored)


@triton.jit
def tile_forward(
    x, spectrum, bound, y, f1, f2, there, back, batch, channels, length, x_batch, x_channel,
    R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr, SIGN: tl.constexpr,
):  # fmt: skip
    """Convolve (SIGN 1) or correlate (-1) T sequences of one channel, each of at most R1 * R2 points."""
    c = tl.program_id(0) % channels
    n = _positions(R1, R2, T)
    t = tl.program_id(0) // channels * T + tl.arange(0, T * R2) // R2
    inside = (n < length) & (t < batch)[None, :]
    at = t[None, :].to(tl.int64) * x_batch + c.to(tl.int64) * x_channel + n
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    scales = _scales(value, R1, R2, T)
    unit = value * _over_columns(1 / scales, R1, R2, T)
    zr, zi = _transform(unit.to(tl.float16), f1, f2, there, R1, R2, T)
    k = c.to(tl.int64) * (2 * R1 * R2) + _frequencies(R1, R2, T)
    kr, ki = load_complex(spectrum, k, R1 * R2, SIGN)
    zr, zi = times(zr, zi, kr.to(tl.float32), ki.to(tl.float32))
    result = _inverse(zr, zi, f1, f2, back, R1, R2, T) * _over_columns(scales * tl.load(bound + c), R1, R2, T)
    out = (t[None, :].to(tl.int64) * channels + c) * length + n
    tl.store(y + out, result.to(y.dtype.element_ty), mask=inside)


@triton.jit
def tile_d_kernel(
    grad, x, d_spectrum, f1, f2, there,
    batch, channels, length, g_batch, g_channel, x_batch, x_channel, tiles_per_split,
    R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """The gradient of a kernel's spectrum; one program sums over its share of the batch, in order."""
    c = tl.program_id(0) % channels
    split = tl.program_id(0) // channels
    n = _positions(R1, R2, T)
    sum_r = tl.zeros((R1, R2), dtype=tl.float32)
    sum_i = tl.zeros((R1, R2), dtype=tl.float32)
    for tile in range(split * tiles_per_split, (split + 1) * tiles_per_split):
        t = tile * T + tl.arange(0, T * R2) // R2
        inside = (n < length) & (t < batch)[None, :]
        at_g = t[None, :].to(tl.int64) * g_batch + c.to(tl.int64) * g_channel + n
        at_x = t[None, :].to(tl.int64) * x_batch + c.to(tl.int64) * x_channel + n
        g = tl.load(grad + at_g, mask=inside, other=0.0).to(tl.float32)
        v = tl.load(x + at_x, mask=inside, other=0.0).to(tl.float32)
        g_scales = _scales(g, R1, R2, T)
        v_scales = _scales(v, R1, R2, T)
        g *= _over_columns(1 / g_scales, R1, R2, T)
        v *= _over_columns(1 / v_scales, R1, R2, T)
        gr, gi = _transform(g.to(tl.float16), f1, f2, there, R1, R2, T)
        vr, vi = _transform(v.to(tl.float16), f1, f2, there, R1, R2, T)
        weight = _over_rows(g_scales * v_scales, R1, T)
        pr, pi = times(gr, gi, vr, -vi)
        sum_r += tl.sum(tl.reshape(pr * weight, (R1, T, R2)), axis=1)
        sum_i += tl.sum(tl.reshape(pi * weight, (R1, T, R2)), axis=1)
    at = tl.arange(0, R1)[:, None] * R2 + tl.arange(0, R2)[None, :]
    part = (split * channels + c).to(tl.int64) * (2 * R1 * R2)
    tl.store(d_spectrum + part + at, sum_r)
    tl.store(d_spectrum + part + R1 * R2 + at, sum_i)


@triton.jit
def tile_inverse(
    spectrum, y, f1, f2, back, channels, length, root,
    R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """Sequences of summed spectra, float32 in and out; T channels a program."""
    c = tl.program_id(0) * T + tl.arange(0, R1 * T) % T
    at = c[:, None].to(tl.int64) * (2 * R1 * R2) + _frequencies(R1, R2, T)
    inside = tl.broadcast_to((c < channels)[:, None], (R1 * T, R2))
    zr = tl.load(spectrum + at, mask=inside, other=0.0)
    zi = tl.load(spectrum + R1 * R2 + at, mask=inside, other=0.0)
    magnitude = tl.reshape(tl.maximum(tl.abs(zr), tl.abs(zi)), (R1, T, R2))
    scales = tl.max(tl.max(magnitude, axis=2), axis=0)
    scales = tl.where(scales > 0, scales, 1.0)
    over = _over_rows(1 / scales, R1, T)
    result = _inverse(zr * over, zi * over, f1, f2, back, R1, R2, T) * (_over_columns(scales, R1, R2, T) * root)
    n = _positions(R1, R2, T)
    t = tl.program_id(0) * T + tl.arange(0, T * R2) // R2
    tl.store(y + t[None, :].to(tl.int64) * length + n, result, mask=(n < length) & (t < channels)[None, :])
