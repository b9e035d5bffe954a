"""Triton kernels over rows of channels: residual and layer norm, biases, GELU's gradient."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = [
    "add_bias",
    "add_norm_backward",
    "add_norm_forward",
    "column_sums",
    "gelu_backward",
    "gelu_gate",
]


@triton.jit
def add_norm_forward(
    branch, residual, weight, bias, branch_bias, next_bias, stream, normed, unit, rstd, rows, width, eps,
    HAS_RESIDUAL: tl.constexpr, HAS_GAIN: tl.constexpr, HAS_BIASES: tl.constexpr, KEEP: tl.constexpr,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """x = branch + residual (float32); unit = layer norm of it before gain and offset; normed = that with them.

    Stored are x as `stream`, `normed` with HAS_GAIN, `unit` without it or with KEEP, and with KEEP what the norm was
    divided by, inverted: `rstd` (rows,). With HAS_BIASES, x gets `branch_bias`, and the stored stream `next_bias` too.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    inside = (row < rows)[:, None] & (column < width)[None, :]
    at = row.to(tl.int64)[:, None] * width + column[None, :]
    x = tl.load(branch + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_RESIDUAL:
        x += tl.load(residual + at, mask=inside, other=0.0)
    if HAS_BIASES:
        x += tl.load(branch_bias + column, mask=column < width, other=0.0)[None, :]
        tl.store(stream + at, x + tl.load(next_bias + column, mask=column < width, other=0.0)[None, :], mask=inside)
    else:
        tl.store(stream + at, x, mask=inside)
    middle = tl.sum(x, axis=1) / width
    centred = tl.where(inside, x - middle[:, None], 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, axis=1) / width + eps)
    x = centred * scale[:, None]
    if HAS_GAIN:
        gain = tl.load(weight + column, mask=column < width, other=0.0)
        offset = tl.load(bias + column, mask=column < width, other=0.0)
        y = x * gain[None, :] + offset[None, :]
        tl.store(normed + at, y.to(normed.dtype.element_ty), mask=inside)
    if KEEP or not HAS_GAIN:
        tl.store(unit + at, x.to(unit.dtype.element_ty), mask=inside)
    if KEEP:
        tl.store(rstd + row, scale, mask=row < rows)


@triton.jit
def add_norm_backward(
    d_normed, d_stream, unit, rstd, weight, d_branch, d_residual, partial, rows, width, per_program,
    HAS_STREAM: tl.constexpr, HAS_RESIDUAL: tl.constexpr, HAS_GAIN: tl.constexpr, HAS_BIASES: tl.constexpr,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Gradients of `add_norm_forward`; `partial` (programs, 2, width) of gain and offset, or of both biases.

    Rows are summed in a fixed order.
    """
    column = tl.arange(0, WIDTH)
    # Summed over the rows of a block at the end only: that takes all warps, and each time they would wait.
    first = tl.zeros((ROWS, WIDTH), dtype=tl.float32)
    second = tl.zeros((ROWS, WIDTH), dtype=tl.float32)
    for block in range(tl.program_id(0) * per_program, (tl.program_id(0) + 1) * per_program):
        row = block * ROWS + tl.arange(0, ROWS)
        inside = (row < rows)[:, None] & (column < width)[None, :]
        at = row.to(tl.int64)[:, None] * width + column[None, :]
        g = tl.load(d_normed + at, mask=inside, other=0.0).to(tl.float32)
        x = tl.load(unit + at, mask=inside, other=0.0).to(tl.float32)
        scale = tl.load(rstd + row, mask=row < rows, other=0.0)
        if HAS_GAIN:
            first += g * x
            second += g
            g *= tl.load(weight + column, mask=column < width, other=0.0)[None, :]
        along = tl.sum(g * x, axis=1) / width
        level = tl.sum(g, axis=1) / width
        d_x = (g - level[:, None] - x * along[:, None]) * scale[:, None]
        if HAS_STREAM:
            of_stream = tl.load(d_stream + at, mask=inside, other=0.0)
            d_x += of_stream
            if HAS_BIASES:
                second += of_stream
        if HAS_BIASES:
            first += d_x
        tl.store(d_branch + at, d_x.to(d_branch.dtype.element_ty), mask=inside)
        if HAS_RESIDUAL:
            tl.store(d_residual + at, d_x, mask=inside)
    if HAS_GAIN or HAS_BIASES:
        base = partial + tl.program_id(0) * (2 * width)
        tl.store(base + column, tl.sum(first, axis=0), mask=column < width)
        tl.store(base + width + column, tl.sum(second, axis=0), mask=column < width)


@triton.jit
def add_bias(x, bias, elements, width, BLOCK: tl.constexpr):
    """x (rows, width) += bias (width,), in place."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at, mask=at < elements, other=0.0).to(tl.float32)
    value += tl.load(bias + at % width).to(tl.float32)
    tl.store(x + at, value.to(x.dtype.element_ty), mask=at < elements)


@triton.jit
def column_sums(x, partial, rows, width, per_program, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Sums over a share of the rows, `partial` (programs, width)."""
    column = tl.arange(0, WIDTH)
    total = tl.zeros((ROWS, WIDTH), dtype=tl.float32)
    for block in range(tl.program_id(0) * per_program, (tl.program_id(0) + 1) * per_program):
        row = block * ROWS + tl.arange(0, ROWS)
        inside = (row < rows)[:, None] & (column < width)[None, :]
        at = row.to(tl.int64)[:, None] * width + column[None, :]
        total += tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(partial + tl.program_id(0) * width + column, tl.sum(total, axis=0), mask=column < width)


@triton.jit
def gelu_gate(x):
    """gelu(x) / x in the tanh form: the sigmoid of 2 s, s = sqrt(2 / pi) (x + 0.044715 x^3)."""
    # 2^y for e^-2s. A reciprocal root squared is what a quotient is, in two instructions.
    root = tl.rsqrt(1.0 + tl.exp2(x * (-2.302208198144325 - 0.1029432395800235 * (x * x))))
    return root * root


@triton.jit
def gelu_backward(inner, grad, partial, rows, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr, AGAIN: tl.constexpr):
    """In place: `grad` becomes that of `inner`, with AGAIN `inner` gelu(inner).

    `partial` (row blocks, width) sums the gradient over rows.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < rows)[:, None] & (column < width)[None, :]
    at = row.to(tl.int64)[:, None] * width + column[None, :]
    x = tl.load(inner + at, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(grad + at, mask=inside, other=0.0).to(tl.float32)
    gate = gelu_gate(x)
    # x times the slope of 2 s
    steepness = x * (1.5957691216057308 + 0.2140644488178072 * (x * x))
    g *= gate + gate * (steepness - steepness * gate)
    if AGAIN:
        tl.store(inner + at, (x * gate).to(inner.dtype.element_ty), mask=inside)
    tl.store(grad + at, g.to(grad.dtype.element_ty), mask=inside)
    tl.store(partial + tl.program_id(0) * width + column, tl.sum(g, axis=0), mask=column < width)
