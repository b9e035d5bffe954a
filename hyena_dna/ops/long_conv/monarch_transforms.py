"""What the Triton kernels of the Monarch convolution share: Fourier transforms as small products on tensor cores.

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

__all__ = ["from_left", "from_right", "load_complex", "rows_inverse", "rows_transform", "times"]


@triton.jit
def load_complex(table, at, SIZE: tl.constexpr, SIGN: tl.constexpr):
    """A table's values, conjugated where SIGN is -1."""
    return tl.load(table + at), tl.load(table + SIZE + at) * SIGN


@triton.jit
def times(ar, ai, br, bi):
    """Product of two complex tensors."""
    return ar * br - ai * bi, ar * bi + ai * br


@triton.jit
def from_left(table, xr, xi, R: tl.constexpr, SIGN: tl.constexpr):
    """F x for x (R, any), float16 in, float32 out."""
    i = tl.arange(0, R)
    fr, fi = load_complex(table, i[:, None] * R + i[None, :], R * R, SIGN)
    yr = tl.dot(-fi, xi, tl.dot(fr, xr))
    yi = tl.dot(fi, xr, tl.dot(fr, xi))
    return yr, yi


@triton.jit
def from_right(table, xr, xi, R: tl.constexpr, SIGN: tl.constexpr):
    """x F for x (any, R), float16 in, float32 out."""
    i = tl.arange(0, R)
    fr, fi = load_complex(table, i[:, None] * R + i[None, :], R * R, SIGN)
    yr = tl.dot(xi, -fi, tl.dot(xr, fr))
    yi = tl.dot(xr, fi, tl.dot(xi, fr))
    return yr, yi


@triton.jit
def rows_transform(xr, xi, f1, f2, twiddle, R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr):
    """Transform T rows: (R1, T * R2) float16 -> (R1 * T, R2) float32."""
    yr, yi = from_left(f1, xr, xi, R1, 1)
    column = tl.arange(0, T * R2)
    at = tl.arange(0, R1)[:, None] * R2 + (column % R2)[None, :]
    tr, ti = load_complex(twiddle, at, R1 * R2, 1)
    yr, yi = times(yr, yi, tr, ti)
    yr = tl.reshape(yr.to(tl.float16), (R1 * T, R2))
    yi = tl.reshape(yi.to(tl.float16), (R1 * T, R2))
    return from_right(f2, yr, yi, R2, 1)


@triton.jit
def rows_inverse(xr, xi, f1, f2, twiddle, R1: tl.constexpr, R2: tl.constexpr, T: tl.constexpr):
    """Transform T rows back: (R1 * T, R2) float32 -> (R1, T * R2) float32."""
    yr, yi = from_right(f2, xr.to(tl.float16), xi.to(tl.float16), R2, -1)
    at = (tl.arange(0, R1 * T) // T)[:, None] * R2 + tl.arange(0, R2)[None, :]
    tr, ti = load_complex(twiddle, at, R1 * R2, -1)
    yr, yi = times(yr, yi, tr, ti)
    yr = tl.reshape(yr.to(tl.float16), (R1, T * R2))
    yi = tl.reshape(yi.to(tl.float16), (R1, T * R2))
    return from_left(f1, yr, yi, R1, -1)
