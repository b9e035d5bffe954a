"""Triton kernels of the Monarch convolution for long sequences: along columns, along rows, along columns."""

from __future__ import annotations

import triton
import triton.language as tl

from hyena_dna.ops.long_conv.monarch_transforms import from_left, load_complex, rows_inverse, rows_transform, times

__all__ = [
    "columns_forward",
    "columns_inverse",
    "rows_d_input",
    "rows_d_kernel",
    "rows_forward",
    "rows_spectrum",
]


@triton.jit
def _along_columns(
    xr, xi, f1, twiddle, R: tl.constexpr, SPLIT: tl.constexpr, COLUMNS: tl.constexpr, SIGN: tl.constexpr
):
    """Transform along columns (SIGN 1) or back (-1): (N1, COLUMNS) float16 -> float32, N1 = R, or R * R where SPLIT."""
    if SPLIT:
        yr, yi = from_left(f1, tl.reshape(xr, (R, R * COLUMNS)), tl.reshape(xi, (R, R * COLUMNS)), R, SIGN)
        at = tl.arange(0, R)[:, None] * R + (tl.arange(0, R * COLUMNS) // COLUMNS)[None, :]
        tr, ti = load_complex(twiddle, at, R * R, SIGN)
        yr, yi = times(yr, yi, tr, ti)
        yr = _swap(yr.to(tl.float16), R, COLUMNS)
        yi = _swap(yi.to(tl.float16), R, COLUMNS)
        yr, yi = from_left(f1, yr, yi, R, SIGN)
        return tl.reshape(yr, (R * R, COLUMNS)), tl.reshape(yi, (R * R, COLUMNS))
    else:
        return from_left(f1, xr, xi, R, SIGN)


@triton.jit
def _swap(x, R: tl.constexpr, COLUMNS: tl.constexpr):
    """(a, (b, column)) -> (b, (a, column))."""
    return tl.reshape(tl.permute(tl.reshape(x, (R, R, COLUMNS)), (1, 0, 2)), (R, R * COLUMNS))


@triton.jit
def _matrix_ramp(rows, columns, n1, column, N1: tl.constexpr, N2: tl.constexpr):
    """The ramp at [n1, column] as the product of what the row and what the column contribute."""
    ar, ai = load_complex(rows, n1, N1, 1)
    br, bi = load_complex(columns, column, N2, 1)
    return times(ar[:, None], ai[:, None], br[None, :], bi[None, :])


@triton.jit
def columns_forward(
    x, scale, out, f1, inner, ramp_rows, ramp_columns, channels, length, x_batch, x_channel,
    R: tl.constexpr, SPLIT: tl.constexpr, N1: tl.constexpr, N2: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """First pass over a long sequence: times `scale` and the ramp, along columns."""
    row = tl.program_id(0) // (N2 // COLUMNS)
    column = tl.program_id(0) % (N2 // COLUMNS) * COLUMNS + tl.arange(0, COLUMNS)
    n1 = tl.arange(0, N1)
    at = n1[:, None] * N2 + column[None, :]
    start = (row // channels).to(tl.int64) * x_batch + (row % channels).to(tl.int64) * x_channel
    value = tl.load(x + start + at, mask=at < length, other=0.0).to(tl.float32) * tl.load(scale + row)
    wr, wi = _matrix_ramp(ramp_rows, ramp_columns, n1, column, N1, N2)
    yr, yi = _along_columns((value * wr).to(tl.float16), (value * wi).to(tl.float16), f1, inner, R, SPLIT, COLUMNS, 1)
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
def _outer_twiddle(
    left, right, k1, R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr, N1: tl.constexpr, SIGN: tl.constexpr
):
    """The twiddle between columns and rows, (R1, T * R2) float32, as a product: exp(a (R2 i + j)) of i and of j."""
    column = tl.arange(0, T * R2)
    i = tl.arange(0, R1)
    rr, ri = load_complex(right, k1 * R2 + column, N1 * R2, SIGN)
    if T == 1:
        lr, li = load_complex(left, k1 * R1 + i, N1 * R1, SIGN)
        lr, li = lr[:, None], li[:, None]
    else:
        lr, li = load_complex(left, (k1 + column // R2)[None, :] * R1 + i[:, None], N1 * R1, SIGN)
    return times(lr, li, rr[None, :], ri[None, :])


@triton.jit
def _rows_forward(
    base, n, left, right, k1, f1, f2, twiddle, R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr, N1: tl.constexpr
):
    """What the first pass left, transformed along rows, float32 in spectrum order."""
    xr, xi = load_complex(base, n, N1 * R1 * R2, 1)
    tr, ti = _outer_twiddle(left, right, k1, R1, R2, T, N1, 1)
    xr, xi = times(xr.to(tl.float32), xi.to(tl.float32), tr, ti)
    return rows_transform(xr.to(tl.float16), xi.to(tl.float16), f1, f2, twiddle, R1, R2, T)


@triton.jit
def _rows_inverse(
    base, n, zr, zi, left, right, k1, f1, f2, twiddle,
    R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr, N1: tl.constexpr,
):  # fmt: skip
    """Back along rows, and stored for the last pass."""
    yr, yi = rows_inverse(zr, zi, f1, f2, twiddle, R1, R2, T)
    tr, ti = _outer_twiddle(left, right, k1, R1, R2, T, N1, -1)
    yr, yi = times(yr, yi, tr, ti)
    tl.store(base + n, yr.to(tl.float16))
    tl.store(base + N1 * R1 * R2 + n, yi.to(tl.float16))


@triton.jit
def rows_spectrum(
    work, factor, f1, f2, twiddle, left, right,
    R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr, N1: tl.constexpr, FACTOR: tl.constexpr,
):  # fmt: skip
    """Second pass to a spectrum, in place: along rows, then times the `factor` of every sequence, if there is one."""
    row = tl.program_id(0) // (N1 // T)
    k1 = tl.program_id(0) % (N1 // T) * T
    n, k = _row_tile(k1, R1, R2, T)
    base = work + row.to(tl.int64) * (2 * N1 * R1 * R2)
    zr, zi = _rows_forward(base, n, left, right, k1, f1, f2, twiddle, R1, R2, T, N1)
    if FACTOR:
        scale = tl.load(factor + row)
        zr, zi = zr * scale, zi * scale
    tl.debug_barrier()
    tl.store(base + k, zr.to(tl.float16))
    tl.store(base + N1 * R1 * R2 + k, zi.to(tl.float16))


@triton.jit
def rows_forward(
    work, spectrum, f1, f2, twiddle, left, right, batch, channels,
    R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr, N1: tl.constexpr,
):  # fmt: skip
    """Second pass, in place: along rows, times the kernel's spectrum, back along rows."""
    M: tl.constexpr = N1 * R1 * R2
    c = tl.program_id(0) // (N1 // T)
    k1 = tl.program_id(0) % (N1 // T) * T
    n, k = _row_tile(k1, R1, R2, T)
    for b in range(batch):
        base = work + (b * channels + c).to(tl.int64) * (2 * M)
        zr, zi = _rows_forward(base, n, left, right, k1, f1, f2, twiddle, R1, R2, T, N1)
        # Loaded anew for every sequence, which meets the cache: held all along, it would cost registers.
        kr, ki = load_complex(spectrum + c.to(tl.int64) * (2 * M), k, M, 1)
        zr, zi = times(zr, zi, kr.to(tl.float32), ki.to(tl.float32))
        _rows_inverse(base, n, zr, zi, left, right, k1, f1, f2, twiddle, R1, R2, T, N1)


@triton.jit
def rows_d_input(
    grad, spectrum, f1, f2, twiddle, left, right, channels,
    R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr, N1: tl.constexpr,
):  # fmt: skip
    """Second pass back to the input's gradient, in place: spectra of `grad` times the kernel's, conjugated."""
    M: tl.constexpr = N1 * R1 * R2
    row = tl.program_id(0) // (N1 // T)
    k1 = tl.program_id(0) % (N1 // T) * T
    n, k = _row_tile(k1, R1, R2, T)
    base = grad + row.to(tl.int64) * (2 * M)
    zr, zi = load_complex(base, k, M, 1)
    kr, ki = load_complex(spectrum + (row % channels).to(tl.int64) * (2 * M), k, M, -1)
    zr, zi = times(zr.to(tl.float32), zi.to(tl.float32), kr.to(tl.float32), ki.to(tl.float32))
    tl.debug_barrier()
    _rows_inverse(base, n, zr, zi, left, right, k1, f1, f2, twiddle, R1, R2, T, N1)


@triton.jit
def rows_d_kernel(
    grad, spectrum, weight, d_kernel, f1, f2, twiddle, left, right, batch, channels,
    R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr, N1: tl.constexpr,
):  # fmt: skip
    """Second pass back to the kernel's gradient: spectra of `grad` times those of the inputs, conjugated, summed.

    `weight` (batch, channels) scales each sequence's share.
    """
    M: tl.constexpr = N1 * R1 * R2
    c = tl.program_id(0) // (N1 // T)
    k1 = tl.program_id(0) % (N1 // T) * T
    n, k = _row_tile(k1, R1, R2, T)
    sum_r = tl.zeros((R1 * T, R2), dtype=tl.float32)
    sum_i = tl.zeros((R1 * T, R2), dtype=tl.float32)
    for b in range(batch):
        row = (b * channels + c).to(tl.int64) * (2 * M)
        gr, gi = load_complex(grad + row, k, M, 1)
        vr, vi = load_complex(spectrum + row, k, M, -1)
        pr, pi = times(gr.to(tl.float32), gi.to(tl.float32), vr.to(tl.float32), vi.to(tl.float32))
        share = tl.load(weight + b * channels + c)
        sum_r += pr * share
        sum_i += pi * share
    base = d_kernel + c.to(tl.int64) * (2 * M)
    _rows_inverse(base, n, sum_r, sum_i, left, right, k1, f1, f2, twiddle, R1, R2, T, N1)


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
    xr, xi = load_complex(work + row.to(tl.int64) * (2 * N1 * N2), at, N1 * N2, 1)
    yr, yi = _along_columns(xr, xi, f1, inner, R, SPLIT, COLUMNS, -1)
    wr, wi = _matrix_ramp(ramp_rows, ramp_columns, n1, column, N1, N2)
    result = (yr * wr + yi * wi) * tl.load(scale + row)
    inside = at < length
    if SKIP:
        c = row % channels
        start = (row // channels).to(tl.int64) * d_batch + c.to(tl.int64) * d_channel
        result += tl.load(direct + start + at, mask=inside, other=0.0).to(tl.float32) * tl.load(skip + c)
    tl.store(y + row.to(tl.int64) * length + at, result.to(y.dtype.element_ty), mask=inside)
