"""Triton kernels of the Monarch convolution for long sequences: along columns, along rows, along columns.

What bounds the kernels along rows is traffic within a multiprocessor, of tables more than of data. A program therefore
takes the same rows of several sequences, one after another, and keeps the Fourier matrices in shared memory.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hyena_dna.ops.long_conv.monarch_transforms import (
    conjugated,
    from_left,
    from_right,
    load_complex,
    load_fragments,
    load_matrix,
    real_from_left,
    real_part_from_left,
    store_fragments,
    times,
)

__all__ = ["columns_forward", "columns_inverse", "rows_backward", "rows_convolve", "rows_spectrum"]


@triton.jit
def _swap(x, R: tl.constexpr, COLUMNS: tl.constexpr):
    """(a, (b, column)) -> (b, (a, column))."""
    return tl.reshape(tl.permute(tl.reshape(x, (R, R, COLUMNS)), (1, 0, 2)), (R, R * COLUMNS))


@triton.jit
def _inner_twiddle(
    table, ROW: tl.constexpr, COLUMN: tl.constexpr, R: tl.constexpr, COLUMNS: tl.constexpr, SIGN: tl.constexpr
):
    """The twiddle (R, R) within a split column, the same for all columns, as (R, R * COLUMNS)."""
    i = tl.arange(0, R)
    tr, ti = load_complex(table, (i[:, None] * ROW + i[None, :] * COLUMN)[:, :, None], R * R, SIGN)
    tr = tl.reshape(tl.broadcast_to(tr, (R, R, COLUMNS)), (R, R * COLUMNS))
    ti = tl.reshape(tl.broadcast_to(ti, (R, R, COLUMNS)), (R, R * COLUMNS))
    return tr, ti


@triton.jit
def columns_forward(
    x, first, scale, out, f_outer, f_inner, inner, channels, length, x_batch, x_channel,
    R: tl.constexpr, SPLIT: tl.constexpr, N1: tl.constexpr, N2: tl.constexpr, COLUMNS: tl.constexpr,
    HAS_FIRST: tl.constexpr,
):  # fmt: skip
    """First pass over a long sequence: times `scale`, along columns of N1 = R points, or R * R where SPLIT.

    With HAS_FIRST, `first` (channels,) is added to the first value of every sequence.
    """
    row = tl.program_id(0) // (N2 // COLUMNS)
    column = tl.program_id(0) % (N2 // COLUMNS) * COLUMNS + tl.arange(0, COLUMNS)
    at = tl.arange(0, N1)[:, None] * N2 + column[None, :]
    start = (row // channels).to(tl.int64) * x_batch + (row % channels).to(tl.int64) * x_channel
    value = tl.load(x + start + at, mask=at < length, other=0.0).to(tl.float32)
    if HAS_FIRST:
        value += tl.where(at == 0, tl.load(first + row % channels), 0.0)
    value = (value * tl.load(scale + row)).to(tl.float16)
    if SPLIT:
        yr, yi = real_from_left(f_outer, tl.reshape(value, (R, R * COLUMNS)), R)
        tr, ti = _inner_twiddle(inner, R, 1, R, COLUMNS, 1)
        yr, yi = times(yr, yi, tr, ti)
        yr, yi = _swap(yr.to(tl.float16), R, COLUMNS), _swap(yi.to(tl.float16), R, COLUMNS)
        yr, yi = from_left(load_matrix(f_inner, R), yr, yi)
        yr, yi = tl.reshape(yr, (N1, COLUMNS)), tl.reshape(yi, (N1, COLUMNS))
    else:
        yr, yi = real_from_left(f_outer, value, R)
    base = out + row.to(tl.int64) * (2 * N1 * N2)
    tl.store(base + at, yr.to(tl.float16))
    tl.store(base + N1 * N2 + at, yi.to(tl.float16))


@triton.jit
def columns_inverse(
    work, scale, y, f_outer, f_inner, inner, length,
    R: tl.constexpr, SPLIT: tl.constexpr, N1: tl.constexpr, N2: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Last pass: back along columns, real part times `scale`."""
    row = tl.program_id(0) // (N2 // COLUMNS)
    column = tl.program_id(0) % (N2 // COLUMNS) * COLUMNS + tl.arange(0, COLUMNS)
    at = tl.arange(0, N1)[:, None] * N2 + column[None, :]
    xr, xi = load_complex(work + row.to(tl.int64) * (2 * N1 * N2), at, N1 * N2, 1)
    if SPLIT:
        xr, xi = tl.reshape(xr, (R, R * COLUMNS)), tl.reshape(xi, (R, R * COLUMNS))
        xr, xi = from_left(conjugated(load_matrix(f_inner, R)), xr, xi)
        tr, ti = _inner_twiddle(inner, 1, R, R, COLUMNS, -1)
        xr, xi = times(xr, xi, tr, ti)
        xr, xi = _swap(xr.to(tl.float16), R, COLUMNS), _swap(xi.to(tl.float16), R, COLUMNS)
        value = real_part_from_left(f_outer, xr, xi, R)
        value = tl.reshape(value, (N1, COLUMNS))
    else:
        value = real_part_from_left(f_outer, xr, xi, R)
    value *= tl.load(scale + row)
    tl.store(y + row.to(tl.int64) * length + at, value.to(y.dtype.element_ty), mask=at < length)


@triton.jit
def _in_sequence(k1, R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr):
    """Where the elements of T rows from k1 on lie, (R1, T * R2)."""
    column = tl.arange(0, T * R2)
    return ((k1 + column // R2) * (R1 * R2) + column % R2)[None, :] + tl.arange(0, R1)[:, None] * R2


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
def _row_matrices(f1, f2, R1: tl.constexpr, R2: tl.constexpr):
    """Both Fourier matrices of a row, one where they are the same."""
    first = load_matrix(f1, R1)
    if R1 == R2:
        return first, first
    else:
        return first, load_matrix(f2, R2)


@triton.jit
def _rows_forward(
    base, n, left, right, k1, first, second, twiddle,
    R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr, N1: tl.constexpr,
):  # fmt: skip
    """What the first pass left, transformed along rows, float32 in spectrum order."""
    xr, xi = load_complex(base, n, N1 * R1 * R2, 1)
    tr, ti = _outer_twiddle(left, right, k1, R1, R2, T, N1, 1)
    xr, xi = times(xr.to(tl.float32), xi.to(tl.float32), tr, ti)
    yr, yi = from_left(first, xr.to(tl.float16), xi.to(tl.float16))
    tr, ti = load_fragments(twiddle, T * R1 * R2, R1, T * R2, 1)
    yr, yi = times(yr, yi, tr, ti)
    yr, yi = tl.reshape(yr.to(tl.float16), (R1 * T, R2)), tl.reshape(yi.to(tl.float16), (R1 * T, R2))
    return from_right(second, yr, yi)


@triton.jit
def _rows_inverse(
    base, n, zr, zi, left, right, k1, first, second, twiddle,
    R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr, N1: tl.constexpr,
):  # fmt: skip
    """Back along rows, and stored for the last pass."""
    # Tables are loaded anew behind a barrier: kept from the way there, they would cost more registers than there are.
    tl.debug_barrier()
    yr, yi = from_right(conjugated(second), zr.to(tl.float16), zi.to(tl.float16))
    tr, ti = load_fragments(twiddle, T * R1 * R2, R1 * T, R2, -1)
    yr, yi = times(yr, yi, tr, ti)
    yr, yi = tl.reshape(yr.to(tl.float16), (R1, T * R2)), tl.reshape(yi.to(tl.float16), (R1, T * R2))
    yr, yi = from_left(conjugated(first), yr, yi)
    tr, ti = _outer_twiddle(left, right, k1, R1, R2, T, N1, -1)
    yr, yi = times(yr, yi, tr, ti)
    tl.store(base + n, yr.to(tl.float16))
    tl.store(base + N1 * R1 * R2 + n, yi.to(tl.float16))


@triton.jit
def rows_spectrum(
    work, factor, f1, f2, there, left, right, sequences, per_program,
    R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr, N1: tl.constexpr,
):  # fmt: skip
    """Second pass to a spectrum, in place: along rows, then times the `factor` of every sequence."""
    M: tl.constexpr = N1 * R1 * R2
    k1 = tl.program_id(0) % (N1 // T) * T
    share = tl.program_id(0) // (N1 // T)
    n = _in_sequence(k1, R1, R2, T)
    first, second = _row_matrices(f1, f2, R1, R2)
    for row in range(share * per_program, tl.minimum((share + 1) * per_program, sequences)):
        base = work + tl.cast(row, tl.int64) * (2 * M)
        zr, zi = _rows_forward(base, n, left, right, k1, first, second, there, R1, R2, T, N1)
        scale = tl.load(factor + row)
        tl.debug_barrier()
        store_fragments(base + k1 * (R1 * R2), zr * scale, zi * scale, M, R1 * T, R2)


@triton.jit
def rows_convolve(
    work, kept, spectrum, f1, f2, there, back, left, right, batch, channels, per_program,
    R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr, N1: tl.constexpr, SIGN: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    """Second pass, in place: along rows, times the kernel's spectrum (conjugated: SIGN -1), back along rows.

    With KEEP, `kept` gets the spectra before the product.
    """
    M: tl.constexpr = N1 * R1 * R2
    k1 = tl.program_id(0) % (N1 // T) * T
    share = tl.program_id(0) // (N1 // T)
    n = _in_sequence(k1, R1, R2, T)
    k = k1 * (R1 * R2)
    first, second = _row_matrices(f1, f2, R1, R2)
    # Sequences of one channel follow each other: they share the kernel's spectrum.
    for unit in range(share * per_program, tl.minimum((share + 1) * per_program, batch * channels)):
        c = unit // batch
        row = tl.cast(unit % batch * channels + c, tl.int64) * (2 * M)
        zr, zi = _rows_forward(work + row, n, left, right, k1, first, second, there, R1, R2, T, N1)
        if KEEP:
            store_fragments(kept + row + k, zr, zi, M, R1 * T, R2)
        kr, ki = load_fragments(spectrum + tl.cast(c, tl.int64) * (2 * M) + k, M, R1 * T, R2, SIGN)
        zr, zi = times(zr, zi, kr.to(tl.float32), ki.to(tl.float32))
        _rows_inverse(work + row, n, zr, zi, left, right, k1, first, second, back, R1, R2, T, N1)


@triton.jit
def rows_backward(
    work, kept, source, spectrum, weight, f1, f2, there, back, left, right, batch, channels, per_program,
    R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr, N1: tl.constexpr,
):  # fmt: skip
    """Second pass of both gradients: `rows_convolve` with SIGN -1, and back along rows to the kernel's gradient.

    That is the sum of what `kept` gets times the spectra `source` of the inputs, conjugated, and times `weight` (batch,
    channels); it replaces the first sequence of every channel of `kept`.
    """
    M: tl.constexpr = N1 * R1 * R2
    k1 = tl.program_id(0) % (N1 // T) * T
    share = tl.program_id(0) // (N1 // T)
    n = _in_sequence(k1, R1, R2, T)
    k = k1 * (R1 * R2)
    first, second = _row_matrices(f1, f2, R1, R2)
    for c in range(share * per_program, tl.minimum((share + 1) * per_program, channels)):
        for b in range(batch):
            row = tl.cast(b * channels + c, tl.int64) * (2 * M)
            zr, zi = _rows_forward(work + row, n, left, right, k1, first, second, there, R1, R2, T, N1)
            store_fragments(kept + row + k, zr, zi, M, R1 * T, R2)
            kr, ki = load_fragments(spectrum + tl.cast(c, tl.int64) * (2 * M) + k, M, R1 * T, R2, -1)
            zr, zi = times(zr, zi, kr.to(tl.float32), ki.to(tl.float32))
            _rows_inverse(work + row, n, zr, zi, left, right, k1, first, second, back, R1, R2, T, N1)
        sum_r = tl.zeros((R1 * T, R2), dtype=tl.float32)
        sum_i = tl.zeros((R1 * T, R2), dtype=tl.float32)
        for b in range(batch):
            row = tl.cast(b * channels + c, tl.int64) * (2 * M)
            # Still near, and behind the barrier of the way back.
            gr, gi = load_fragments(kept + row + k, M, R1 * T, R2, 1)
            vr, vi = load_fragments(source + row + k, M, R1 * T, R2, -1)
            pr, pi = times(gr.to(tl.float32), gi.to(tl.float32), vr.to(tl.float32), vi.to(tl.float32))
            scale = tl.load(weight + b * channels + c)
            sum_r += pr * scale
            sum_i += pi * scale
        base = kept + tl.cast(c, tl.int64) * (2 * M)
        _rows_inverse(base, n, sum_r, sum_i, left, right, k1, first, second, back, R1, R2, T, N1)
