"""What the Triton kernels of the Monarch convolution share: Fourier transforms as small products on tensor cores.

A sequence of M = N1 * N2 points is a matrix of N1 rows; its transform is one transform along the columns, a twiddle
factor, and one along the rows. A row of N2 = R1 * R2 points is split once more in the same way, and since one half of
such a split multiplies from the left and the other from the right, nothing is ever transposed: with the R x R Fourier
matrix F_R and the twiddles T,

    transform(X) = (T * (F_R1 X)) F_R2        X: (R1, R2), result in the order k = k1 + R1 k2 at [k1, k2].

Spectra keep that order or another of their own; only products of spectra are taken, so no one needs to know it.

Frequencies are k - 1/4 instead of k, in units of 1 / M. That is the transform of a sequence times exp(i pi n / 2M), the
ramp of the "right-angle convolution", which makes the cyclic convolution of length M a causal one: what wraps around
comes out imaginary. The quarter lies in the tables alone (in the first Fourier matrix and in the twiddle behind it), so
the first product has a real input and the last one a real output, and the ramp costs nothing.

What meets the result of a product element by element, twiddles and spectra, lies in memory in the order in which the
lanes of four warps hold such a result (`hyena_dna.ops.long_conv.monarch_plan.fragment_order`): it goes from memory to
the registers where it is needed, and not through shared memory, whose traffic is what bounds these kernels.

Complex tensors have a plane of real parts, then a plane of imaginary parts. Every Fourier matrix is unitary, so by
Parseval nothing grows beyond sqrt(M) times its input: inputs are scaled to at most one, and float16 holds the rest.
Products accumulate in float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = [
    "conjugated",
    "from_left",
    "from_right",
    "load_complex",
    "load_fragments",
    "load_matrix",
    "real_from_left",
    "real_part_from_left",
    "store_fragments",
    "times",
]


@triton.jit
def load_complex(table, at, SIZE: tl.constexpr, SIGN: tl.constexpr):
    """A table's values, conjugated where SIGN is -1."""
    return tl.load(table + at), tl.load(table + SIZE + at) * SIGN


@triton.jit
def _from_fragments(x, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    x = tl.reshape(x, (ROWS // 64, COLUMNS // 16, 4, 8, 4, 2, 2, 2))
    return tl.reshape(tl.permute(x, (0, 2, 6, 3, 1, 5, 4, 7)), (ROWS, COLUMNS))


@triton.jit
def _to_fragments(x, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    x = tl.reshape(x, (ROWS // 64, 4, 2, 8, COLUMNS // 16, 2, 4, 2))
    return tl.reshape(tl.permute(x, (0, 4, 1, 3, 6, 5, 2, 7)), (ROWS * COLUMNS,))


@triton.jit
def load_fragments(table, SIZE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SIGN: tl.constexpr):
    """(ROWS, COLUMNS) values, conjugated where SIGN is -1, from the order of `fragment_order`."""
    if ROWS % 64 == 0:
        xr, xi = load_complex(table, tl.arange(0, ROWS * COLUMNS), SIZE, SIGN)
        return _from_fragments(xr, ROWS, COLUMNS), _from_fragments(xi, ROWS, COLUMNS)
    else:
        at = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
        return load_complex(table, at, SIZE, SIGN)


@triton.jit
def store_fragments(table, xr, xi, SIZE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Store (ROWS, COLUMNS) values, ROWS a multiple of 64, as float16 in the order of `fragment_order`."""
    at = tl.arange(0, ROWS * COLUMNS)
    tl.store(table + at, _to_fragments(xr.to(tl.float16), ROWS, COLUMNS))
    tl.store(table + SIZE + at, _to_fragments(xi.to(tl.float16), ROWS, COLUMNS))


@triton.jit
def times(ar, ai, br, bi):
    """Product of two complex tensors."""
    return ar * br - ai * bi, ar * bi + ai * br


@triton.jit
def load_matrix(table, R: tl.constexpr):
    """A Fourier matrix F: real part, imaginary part, and that negated, which products and the conjugate need."""
    i = tl.arange(0, R)
    fr, fi = load_complex(table, i[:, None] * R + i[None, :], R * R, 1)
    return fr, fi, -fi


@triton.jit
def conjugated(f):
    """The conjugate of a matrix from `load_matrix`."""
    return f[0], f[2], f[1]


@triton.jit
def from_left(f, xr, xi):
    """F x for x (R, any) and a matrix from `load_matrix`, float16 in, float32 out."""
    return tl.dot(f[2], xi, tl.dot(f[0], xr)), tl.dot(f[1], xr, tl.dot(f[0], xi))


@triton.jit
def from_right(f, xr, xi):
    """x F for x (any, R) and a matrix from `load_matrix`, float16 in, float32 out."""
    return tl.dot(xi, f[2], tl.dot(xr, f[0])), tl.dot(xr, f[1], tl.dot(xi, f[0]))


@triton.jit
def real_from_left(table, x, R: tl.constexpr):
    """F x for a real x (R, any), float16 in, float32 out."""
    i = tl.arange(0, R)
    fr, fi = load_complex(table, i[:, None] * R + i[None, :], R * R, 1)
    return tl.dot(fr, x), tl.dot(fi, x)


@triton.jit
def real_part_from_left(table, xr, xi, R: tl.constexpr):
    """The real part of F* x, F* being F conjugated and transposed, for x (R, any), float16 in, float32 out."""
    i = tl.arange(0, R)
    fr, fi = load_complex(table, i[:, None] + i[None, :] * R, R * R, 1)
    return tl.dot(fi, xi, tl.dot(fr, xr))
