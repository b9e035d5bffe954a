"""Triton kernels of the Monarch convolution: discrete Fourier transforms as small matrix products on tensor cores.

A sequence of M = N1 * N2 points is a matrix of N1 rows; its transform is one transform along the columns, a twiddle
factor, and one along the rows. A row of N2 = R1 * R2 points is split once more in the same way, and since one half of
such a split multiplies from the left and the other from the right, nothing is ever transposed: with the R x R Fourier
matrix F_R and the twiddles T,

    transform(X) = (T * (F_R1 X)) F_R2        X: (R1, R2), result in the order k = k1 + R1 k2 at [k1, k2].

Spectra keep that order; only products of spectra are taken, so no one needs to know it.

Complex tensors have a plane of real parts, then a plane of imaginary parts. Every Fourier matrix is unitary, so by
Parseval nothing grows beyond sqrt(M) times its input: inputs are scaled to at most one, and float16 holds the rest.
Products accumulate in float32. The ramp exp(i pi n / 2M) that inputs are multiplied by makes the cyclic convolution of
length M a causal one: what wraps around comes out imaginary ("right-angle convolution").
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = [
    "columns_forward",
    "columns_inverse",
    "rows_d_kernel",
    "rows_forward",
    "rows_spectrum",
    "tile_d_kernel",
    "tile_forward",
    "tile_inverse",
    "tile_spectrum",
]


@triton.jit
def _load_complex(table, at, SIZE: tl.constexpr, SIGN: tl.constexpr):
    """A table's values, conjugated where SIGN is -1."""
    return tl.load(table + at), tl.load(table + SIZE + at) * SIGN


@triton.jit
def _times(ar, ai, br, bi):
    return ar * br - ai * bi, ar * bi + ai * br


@triton.jit
def _from_left(table, xr, xi, R: tl.constexpr, SIGN: tl.constexpr):
    """F x for x (R, any), float16 in, float32 out."""
    i = tl.arange(0, R)
    fr, fi = _load_complex(table, i[:, None] * R + i[None, :], R * R, SIGN)
    yr = tl.dot(-fi, xi, tl.dot(fr, xr))
    yi = tl.dot(fi, xr, tl.dot(fr, xi))
    return yr, yi


@triton.jit
def _from_right(table, xr, xi, R: tl.constexpr, SIGN: tl.constexpr):
    """x F for x (any, R), float16 in, float32 out."""
    i = tl.arange(0, R)
    fr, fi = _load_complex(table, i[:, None] * R + i[None, :], R * R, SIGN)
    yr = tl.dot(xi, -fi, tl.dot(xr, fr))
    yi = tl.dot(xr, fi, tl.dot(xi, fr))
    return yr, yi


@triton.jit
def _rows_transform(xr, xi, f1, f2, twiddle, R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr):
    """Transform T rows: (R1, T * R2) float16 -> (R1 * T, R2) float32."""
    yr, yi = _from_left(f1, xr, xi, R1, 1)
    column = tl.arange(0, T * R2)
    at = tl.arange(0, R1)[:, None] * R2 + (column % R2)[None, :]
    tr, ti = _load_complex(twiddle, at, R1 * R2, 1)
    yr, yi = _times(yr, yi, tr, ti)
    yr = tl.reshape(yr.to(tl.float16), (R1 * T, R2))
    yi = tl.reshape(yi.to(tl.float16), (R1 * T, R2))
    return _from_right(f2, yr, yi, R2, 1)


@triton.jit
def _rows_inverse(xr, xi, f1, f2, twiddle, R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr):
    """Transform T rows back: (R1 * T, R2) float32 -> (R1, T * R2) float32."""
    yr, yi = _from_right(f2, xr.to(tl.float16), xi.to(tl.float16), R2, -1)
    at = (tl.arange(0, R1 * T) // T)[:, None] * R2 + tl.arange(0, R2)[None, :]
    tr, ti = _load_complex(twiddle, at, R1 * R2, -1)
    yr, yi = _times(yr, yi, tr, ti)
    yr = tl.reshape(yr.to(tl.float16), (R1, T * R2))
    yi = tl.reshape(yi.to(tl.float16), (R1, T * R2))
    return _from_left(f1, yr, yi, R1, -1)


@triton.jit
def _columns_transform(xr, xi, f1, twiddle, R: tl.constexpr, SPLIT: tl.constexpr, COLUMNS: tl.constexpr):
    """Transform along columns: (N1, COLUMNS) float16 -> float32, N1 = R, or R * R where SPLIT."""
    if SPLIT:
        yr, yi = _from_left(f1, tl.reshape(xr, (R, R * COLUMNS)), tl.reshape(xi, (R, R * COLUMNS)), R, 1)
        at = tl.arange(0, R)[:, None] * R + (tl.arange(0, R * COLUMNS) // COLUMNS)[None, :]
        tr, ti = _load_complex(twiddle, at, R * R, 1)
        yr, yi = _times(yr, yi, tr, ti)
        yr = _swap(yr.to(tl.float16), R, COLUMNS)
        yi = _swap(yi.to(tl.float16), R, COLUMNS)
        yr, yi = _from_left(f1, yr, yi, R, 1)
        return tl.reshape(yr, (R * R, COLUMNS)), tl.reshape(yi, (R * R, COLUMNS))
    else:
        return _from_left(f1, xr, xi, R, 1)


@triton.jit
def _columns_inverse(xr, xi, f1, twiddle, R: tl.constexpr, SPLIT: tl.constexpr, COLUMNS: tl.constexpr):
    """The inverse of `_columns_transform`, (N1, COLUMNS) float16 -> float32."""
    if SPLIT:
        yr, yi = _from_left(f1, tl.reshape(xr, (R, R * COLUMNS)), tl.reshape(xi, (R, R * COLUMNS)), R, -1)
        at = tl.arange(0, R)[:, None] * R + (tl.arange(0, R * COLUMNS) // COLUMNS)[None, :]
        tr, ti = _load_complex(twiddle, at, R * R, -1)
        yr, yi = _times(yr, yi, tr, ti)
        yr = _swap(yr.to(tl.float16), R, COLUMNS)
        yi = _swap(yi.to(tl.float16), R, COLUMNS)
        yr, yi = _from_left(f1, yr, yi, R, -1)
        return tl.reshape(yr, (R * R, COLUMNS)), tl.reshape(yi, (R * R, COLUMNS))
    else:
        return _from_left(f1, xr, xi, R, -1)


@triton.jit
def _swap(x, R: tl.constexpr, COLUMNS: tl.constexpr):
    """(a, (b, column)) -> (b, (a, column))."""
    return tl.reshape(tl.permute(tl.reshape(x, (R, R, COLUMNS)), (1, 0, 2)), (R, R * COLUMNS))


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
def _tile_ramp(ramp, R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr, SIGN: tl.constexpr):
    """Where the elements of a tile lie in their row, and the ramp there, both (R1, T * R2)."""
    n = tl.arange(0, R1)[:, None] * R2 + (tl.arange(0, T * R2) % R2)[None, :]
    wr, wi = _load_complex(ramp, n, R1 * R2, SIGN)
    return n, wr, wi


@triton.jit
def tile_spectrum(
    kernel, scale, bound, out, f1, f2, twiddle, ramp, channels, length, root,
    R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """Spectra of T kernels of at most R1 * R2 points each, divided by their sums of magnitudes `bound`."""
    n, wr, wi = _tile_ramp(ramp, R1, R2, T, 1)
    t = tl.program_id(0) * T + tl.arange(0, T * R2) // R2
    x = tl.load(
        kernel + t[None, :].to(tl.int64) * length + n, mask=(n < length) & (t < channels)[None, :], other=0.0
    ).to(tl.float32)
    x *= tl.load(scale + t, mask=t < channels, other=0.0)[None, :]
    yr, yi = _rows_transform((x * wr).to(tl.float16), (x * wi).to(tl.float16), f1, f2, twiddle, R1, R2, T)
    row = tl.arange(0, R1 * T)
    c = tl.program_id(0) * T + row % T
    inside = (c < channels)[:, None]
    # root = sqrt(M) turns the unitary transform into the plain one.
    factor = (
        root / (tl.load(bound + c, mask=c < channels, other=1.0) * tl.load(scale + c, mask=c < channels, other=1.0))
    )[:, None]
    at = c[:, None].to(tl.int64) * (2 * R1 * R2) + (row // T)[:, None] * R2 + tl.arange(0, R2)[None, :]
    inside = tl.broadcast_to(inside, (R1 * T, R2))
    tl.store(out + at, (yr * factor).to(tl.float16), mask=inside)
    tl.store(out + R1 * R2 + at, (yi * factor).to(tl.float16), mask=inside)


@triton.jit
def tile_forward(
    x, spectrum, bound, skip, y, f1, f2, twiddle, ramp, batch, channels, length, x_batch, x_channel,
    R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr, SKIP: tl.constexpr, SIGN: tl.constexpr,
):  # fmt: skip
    """Convolve (SIGN 1) or correlate (-1) T sequences of one channel, each of at most R1 * R2 points."""
    c = tl.program_id(0) % channels
    first = tl.program_id(0) // channels * T
    n, wr, wi = _tile_ramp(ramp, R1, R2, T, 1)
    t = first + tl.arange(0, T * R2) // R2
    inside = (n < length) & (t < batch)[None, :]
    at = t[None, :].to(tl.int64) * x_batch + c.to(tl.int64) * x_channel + n
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    scale = _over_columns(_scales(value, R1, R2, T), R1, R2, T)
    unit = value / scale
    zr, zi = _rows_transform((unit * wr).to(tl.float16), (unit * wi).to(tl.float16), f1, f2, twiddle, R1, R2, T)
    k = c.to(tl.int64) * (2 * R1 * R2) + (tl.arange(0, R1 * T) // T)[:, None] * R2 + tl.arange(0, R2)[None, :]
    kr, ki = _load_complex(spectrum, k, R1 * R2, SIGN)
    zr, zi = _times(zr, zi, kr.to(tl.float32), ki.to(tl.float32))
    yr, yi = _rows_inverse(zr, zi, f1, f2, twiddle, R1, R2, T)
    result = (yr * wr + yi * wi) * scale * tl.load(bound + c)
    if SKIP:
        result += value * tl.load(skip + c)
    out = (t[None, :].to(tl.int64) * channels + c) * length + n
    tl.store(y + out, result.to(y.dtype.element_ty), mask=inside)


@triton.jit
def tile_d_kernel(
    grad, x, d_spectrum, d_skip, f1, f2, twiddle, ramp,
    batch, channels, length, g_batch, g_channel, x_batch, x_channel, tiles_per_split,
    R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr, SKIP: tl.constexpr,
):  # fmt: skip
    """The gradient of a kernel's spectrum; one program sums over its share of the batch, in order."""
    c = tl.program_id(0) % channels
    split = tl.program_id(0) // channels
    n, wr, wi = _tile_ramp(ramp, R1, R2, T, 1)
    sum_r = tl.zeros((R1, R2), dtype=tl.float32)
    sum_i = tl.zeros((R1, R2), dtype=tl.float32)
    sum_skip = tl.zeros((T * R2,), dtype=tl.float32)
    for tile in range(split * tiles_per_split, (split + 1) * tiles_per_split):
        t = tile * T + tl.arange(0, T * R2) // R2
        inside = (n < length) & (t < batch)[None, :]
        at_g = t[None, :].to(tl.int64) * g_batch + c.to(tl.int64) * g_channel + n
        at_x = t[None, :].to(tl.int64) * x_batch + c.to(tl.int64) * x_channel + n
        g = tl.load(grad + at_g, mask=inside, other=0.0).to(tl.float32)
        v = tl.load(x + at_x, mask=inside, other=0.0).to(tl.float32)
        if SKIP:
            sum_skip += tl.sum(g * v, axis=0)
        g_scales = _scales(g, R1, R2, T)
        v_scales = _scales(v, R1, R2, T)
        g = g / _over_columns(g_scales, R1, R2, T)
        v = v / _over_columns(v_scales, R1, R2, T)
        gr, gi = _rows_transform((g * wr).to(tl.float16), (g * wi).to(tl.float16), f1, f2, twiddle, R1, R2, T)
        vr, vi = _rows_transform((v * wr).to(tl.float16), (v * wi).to(tl.float16), f1, f2, twiddle, R1, R2, T)
        weight = _over_rows(g_scales * v_scales, R1, T)
        pr, pi = _times(gr, gi, vr, -vi)
        sum_r += tl.sum(tl.reshape(pr * weight, (R1, T, R2)), axis=1)
        sum_i += tl.sum(tl.reshape(pi * weight, (R1, T, R2)), axis=1)
    at = tl.arange(0, R1)[:, None] * R2 + tl.arange(0, R2)[None, :]
    part = (split * channels + c).to(tl.int64)
    tl.store(d_spectrum + part * (2 * R1 * R2) + at, sum_r)
    tl.store(d_spectrum + part * (2 * R1 * R2) + R1 * R2 + at, sum_i)
    if SKIP:
        tl.store(d_skip + part, tl.sum(sum_skip, axis=0))


@triton.jit
def tile_inverse(
    spectrum, y, f1, f2, twiddle, ramp, channels, length, root,
    R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """Sequences of summed spectra, float32 in and out; T channels a program."""
    row = tl.arange(0, R1 * T)
    c = tl.program_id(0) * T + row % T
    at = c[:, None].to(tl.int64) * (2 * R1 * R2) + (row // T)[:, None] * R2 + tl.arange(0, R2)[None, :]
    inside = tl.broadcast_to((c < channels)[:, None], (R1 * T, R2))
    zr = tl.load(spectrum + at, mask=inside, other=0.0)
    zi = tl.load(spectrum + R1 * R2 + at, mask=inside, other=0.0)
    magnitude = tl.reshape(tl.maximum(tl.abs(zr), tl.abs(zi)), (R1, T, R2))
    scales = tl.max(tl.max(magnitude, axis=2), axis=0)
    scales = tl.where(scales > 0, scales, 1.0)
    over = _over_rows(scales, R1, T)
    yr, yi = _rows_inverse(zr / over, zi / over, f1, f2, twiddle, R1, R2, T)
    n, wr, wi = _tile_ramp(ramp, R1, R2, T, 1)
    result = (yr * wr + yi * wi) * (_over_columns(scales, R1, R2, T) * root)
    t = tl.program_id(0) * T + tl.arange(0, T * R2) // R2
    tl.store(y + t[None, :].to(tl.int64) * length + n, result, mask=(n < length) & (t < channels)[None, :])


@triton.jit
def _matrix_ramp(rows, columns, n1, column, N1: tl.constexpr, N2: tl.constexpr):
    """The ramp at [n1, column] as the product of what the row and what the column contribute."""
    ar, ai = _load_complex(rows, n1, N1, 1)
    br, bi = _load_complex(columns, column, N2, 1)
    return _times(ar[:, None], ai[:, None], br[None, :], bi[None, :])


@triton.jit
def columns_forward(
    x, scale, out, f1, inner, outer, ramp_rows, ramp_columns, channels, length, x_batch, x_channel,
    R: tl.constexpr, SPLIT: tl.constexpr, N1: tl.constexpr, N2: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """First pass over a long sequence: times `scale` and the ramp, along columns, times the outer twiddle."""
    row = tl.program_id(0) // (N2 // COLUMNS)
    column = tl.program_id(0) % (N2 // COLUMNS) * COLUMNS + tl.arange(0, COLUMNS)
    n1 = tl.arange(0, N1)
    at = n1[:, None] * N2 + column[None, :]
    start = (row // channels).to(tl.int64) * x_batch + (row % channels).to(tl.int64) * x_channel
    value = tl.load(x + start + at, mask=at < length, other=0.0).to(tl.float32) * tl.load(scale + row)
    wr, wi = _matrix_ramp(ramp_rows, ramp_columns, n1, column, N1, N2)
    yr, yi = _columns_transform((value * wr).to(tl.float16), (value * wi).to(tl.float16), f1, inner, R, SPLIT, COLUMNS)
    tr, ti = _load_complex(outer, at, N1 * N2, 1)
    yr, yi = _times(yr, yi, tr, ti)
    base = out + row.to(tl.int64) * (2 * N1 * N2)
    tl.store(base + at, yr.to(tl.float16))
    tl.store(base + N1 * N2 + at, yi.to(tl.float16))


@triton.jit
def _row_tile(k1, R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr):
    """Where T rows from k1 on lie: in sequence order (R1, T * R2) and in spectrum order (R1 * T, R2)."""
    column = tl.arange(0, T * R2)
    n = (k1 + column // R2)[None, :] * (R1 * R2) + tl.arange(0, R1)[:, None] * R2 + (column % R2)[None, :]
    row = tl.arange(0, R1 * T)
    k = (k1 + row % T)[:, None] * (R1 * R2) + (row // T)[:, None] * R2 + tl.arange(0, R2)[None, :]
    return n, k


@triton.jit
def rows_spectrum(
    work, scale, bound, f1, f2, twiddle, root,
    R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr, N1: tl.constexpr,
):  # fmt: skip
    """Second pass over long kernels, in place: along rows, then divided by their sum of magnitudes `bound`."""
    c = tl.program_id(0) // (N1 // T)
    n, k = _row_tile(tl.program_id(0) % (N1 // T) * T, R1, R2, T)
    base = work + c.to(tl.int64) * (2 * N1 * R1 * R2)
    xr, xi = _load_complex(base, n, N1 * R1 * R2, 1)
    zr, zi = _rows_transform(xr, xi, f1, f2, twiddle, R1, R2, T)
    factor = root / (tl.load(bound + c) * tl.load(scale + c))
    tl.debug_barrier()
    tl.store(base + k, (zr * factor).to(tl.float16))
    tl.store(base + N1 * R1 * R2 + k, (zi * factor).to(tl.float16))


@triton.jit
def rows_forward(
    work, spectrum, f1, f2, twiddle, outer, batch, channels,
    R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr, N1: tl.constexpr, SIGN: tl.constexpr,
):  # fmt: skip
    """Second pass, in place: along rows, times the kernel's spectrum (SIGN -1: conjugated), back along rows."""
    M: tl.constexpr = N1 * R1 * R2
    c = tl.program_id(0) // (N1 // T)
    n, k = _row_tile(tl.program_id(0) % (N1 // T) * T, R1, R2, T)
    kr, ki = _load_complex(spectrum + c.to(tl.int64) * (2 * M), k, M, SIGN)
    for b in range(batch):
        base = work + (b * channels + c).to(tl.int64) * (2 * M)
        xr, xi = _load_complex(base, n, M, 1)
        zr, zi = _rows_transform(xr, xi, f1, f2, twiddle, R1, R2, T)
        zr, zi = _times(zr, zi, kr.to(tl.float32), ki.to(tl.float32))
        yr, yi = _rows_inverse(zr, zi, f1, f2, twiddle, R1, R2, T)
        tr, ti = _load_complex(outer, n, M, -1)
        yr, yi = _times(yr, yi, tr, ti)
        tl.store(base + n, yr.to(tl.float16))
        tl.store(base + M + n, yi.to(tl.float16))


@triton.jit
def rows_d_kernel(
    grad, work, weight, d_kernel, f1, f2, twiddle, outer, batch, channels,
    R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr, N1: tl.constexpr,
):  # fmt: skip
    """Second pass to the kernel's gradient: both along rows, products summed over the batch, back along rows.

    `weight` (batch, channels) scales each sequence's share.
    """
    M: tl.constexpr = N1 * R1 * R2
    c = tl.program_id(0) // (N1 // T)
    n, _ = _row_tile(tl.program_id(0) % (N1 // T) * T, R1, R2, T)
    sum_r = tl.zeros((R1 * T, R2), dtype=tl.float32)
    sum_i = tl.zeros((R1 * T, R2), dtype=tl.float32)
    for b in range(batch):
        row = (b * channels + c).to(tl.int64) * (2 * M)
        vr, vi = _load_complex(work + row, n, M, 1)
        vr, vi = _rows_transform(vr, vi, f1, f2, twiddle, R1, R2, T)
        # Half the registers while the other transform runs; the sum is made in float32.
        vr, vi = vr.to(tl.float16), vi.to(tl.float16)
        gr, gi = _load_complex(grad + row, n, M, 1)
        gr, gi = _rows_transform(gr, gi, f1, f2, twiddle, R1, R2, T)
        pr, pi = _times(gr, gi, vr.to(tl.float32), -vi.to(tl.float32))
        share = tl.load(weight + b * channels + c)
        sum_r += pr * share
        sum_i += pi * share
    yr, yi = _rows_inverse(sum_r, sum_i, f1, f2, twiddle, R1, R2, T)
    tr, ti = _load_complex(outer, n, M, -1)
    yr, yi = _times(yr, yi, tr, ti)
    base = d_kernel + c.to(tl.int64) * (2 * M)
    tl.store(base + n, yr.to(tl.float16))
    tl.store(base + M + n, yi.to(tl.float16))


@triton.jit
def columns_inverse(
    work, scale, skip, direct, y, f1, inner, ramp_rows, ramp_columns, channels, length, d_batch, d_channel,
    R: tl.constexpr, SPLIT: tl.constexpr, N1: tl.constexpr, N2: tl.constexpr, COLUMNS: tl.constexpr,
    SKIP: tl.constexpr,
):  # fmt: skip
    """Last pass: back along columns, the ramp undone, real part times `scale`, plus `skip` times `direct`."""
    row = tl.program_id(0) // (N2 // COLUMNS)
    column = tl.program_id(0) % (N2 // COLUMNS) * COLUMNS + tl.arange(0, COLUMNS)
    n1 = tl.arange(0, N1)
    at = n1[:, None] * N2 + column[None, :]
    xr, xi = _load_complex(work + row.to(tl.int64) * (2 * N1 * N2), at, N1 * N2, 1)
    yr, yi = _columns_inverse(xr, xi, f1, inner, R, SPLIT, COLUMNS)
    wr, wi = _matrix_ramp(ramp_rows, ramp_columns, n1, column, N1, N2)
    result = (yr * wr + yi * wi) * tl.load(scale + row)
    inside = at < length
    if SKIP:
        c = row % channels
        start = (row // channels).to(tl.int64) * d_batch + c.to(tl.int64) * d_channel
        result += tl.load(direct + start + at, mask=inside, other=0.0).to(tl.float32) * tl.load(skip + c)
    tl.store(y + row.to(tl.int64) * length + at, result.to(y.dtype.element_ty), mask=inside)
