"""Triton kernels of linear layers from split operands: float32 accuracy from tensor cores.

An operand a is split into a_high, a rounded to the 11 significant bits of TF32 or float16, and a_low, the rest rounded
likewise. Of the product of two split operands all terms but low times low are added up in float32, so what is lost is
2^-22 of a product at most, about as much as a float32 product rounds (Markidis et al. 2018, arXiv:1803.04014). Matrices
of weights are split beforehand; the other operand is split in registers. TF32 takes numbers of any size; float16, twice
as fast, those that a power of two brings into its range.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hyena_dna.ops.row_kernels import gelu_gate
from hyena_dna.ops.split_kernels import halves

__all__ = ["linear_forward", "row_moments"]


@triton.jit
def row_moments(x, mean, rstd, rows, width, eps, x_batch, x_row, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Mean and 1 / sqrt(variance + eps) of every row of (batch, rows, width), channels adjacent."""
    blocks = tl.cdiv(rows, ROWS)
    batch = (tl.program_id(0) // blocks).to(tl.int64)
    row = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    inside = (row < rows)[:, None] & (column < width)[None, :]
    at = row.to(tl.int64)[:, None] * x_row + column[None, :]
    values = tl.load(x + batch * x_batch + at, mask=inside, other=0.0)
    middle = tl.sum(values, axis=1) / width
    centred = tl.where(inside, values - middle[:, None], 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, axis=1) / width + eps)
    tl.store(mean + batch * rows + row, middle, mask=row < rows)
    tl.store(rstd + batch * rows + row, scale, mask=row < rows)


@triton.jit
def _tf32(x):
    """Round to nearest, to the bits that TF32 keeps."""
    return ((x.to(tl.int32, bitcast=True) + 0x1000) & -0x2000).to(tl.float32, bitcast=True)


@triton.jit
def linear_forward(
    x, high, low, bias, mean, rstd, y, x_scale, y_scale, rows, width, outputs,
    x_batch, x_row, x_column, y_batch, y_row, y_column,
    HAS_BIAS: tl.constexpr, NORM: tl.constexpr, GELU: tl.constexpr, ADD: tl.constexpr,
    ROWS: tl.constexpr, OUTPUTS: tl.constexpr, DEPTH: tl.constexpr, WHOLE_DEPTHS: tl.constexpr, APART: tl.constexpr,
):  # fmt: skip
    """y = f(norm(x) (high + low)^T + bias), or added to y: (batch, rows, width) -> (batch, rows, outputs), any strides.

    Where weights are float16, `x_scale` brings the input into its range, and `y_scale` undoes that and their own scale.
    Programs that read the same rows follow each other, so that these come from the L2 cache.
    """
    across = tl.cdiv(outputs, OUTPUTS)
    blocks = tl.cdiv(rows, ROWS)
    output = tl.program_id(0) % across * OUTPUTS + tl.arange(0, OUTPUTS)
    row = tl.program_id(0) // across % blocks * ROWS + tl.arange(0, ROWS)
    batch = (tl.program_id(0) // across // blocks).to(tl.int64)
    depth = tl.arange(0, DEPTH)
    real_row, real_output = row < rows, output < outputs
    x_at = x + batch * x_batch + row.to(tl.int64)[:, None] * x_row
    weight_at = output[None, :] * width
    if NORM:
        middle = tl.load(mean + batch * rows + row, mask=real_row, other=0.0)
        scale = tl.load(rstd + batch * rows + row, mask=real_row, other=0.0)
    total = tl.zeros((ROWS, OUTPUTS), dtype=tl.float32)
    for start in range(0, width, DEPTH):
        k = start + depth
        real_k = k < width
        inside = real_row[:, None] & real_k[None, :]
        values = tl.load(x_at + k.to(tl.int64)[None, :] * x_column, mask=inside, other=0.0)
        if NORM:
            values = (values - middle[:, None]) * scale[:, None]
            if not WHOLE_DEPTHS:
                # Past the width this is not zero, and may be out of the range of float16.
                values = tl.where(real_k[None, :], values, 0.0)
        if high.dtype.element_ty == tl.float16:
            values_high, values_low = halves(values * x_scale)
        else:
            values_high = _tf32(values)
            values_low = _tf32(values - values_high)
        weight_inside = real_k[:, None] & real_output[None, :]
        weight_high = tl.load(high + weight_at + k[:, None], mask=weight_inside, other=0.0)
        weight_low = tl.load(low + weight_at + k[:, None], mask=weight_inside, other=0.0)
        if APART:
            part = tl.dot(values_low, weight_high, input_precision="tf32")
            part = tl.dot(values_high, weight_low, part, input_precision="tf32")
            total += tl.dot(values_high, weight_high, part, input_precision="tf32")
        else:
            total = tl.dot(values_low, weight_high, total, input_precision="tf32")
            total = tl.dot(values_high, weight_low, total, input_precision="tf32")
            total = tl.dot(values_high, weight_high, total, input_precision="tf32")
    if high.dtype.element_ty == tl.float16:
        total *= y_scale
    if HAS_BIAS:
        total += tl.load(bias + output, mask=real_output, other=0.0)[None, :]
    if GELU:
        total *= gelu_gate(total)
    inside = real_row[:, None] & real_output[None, :]
    y_at = y + batch * y_batch + row.to(tl.int64)[:, None] * y_row + output.to(tl.int64)[None, :] * y_column
    if ADD:
        total += tl.load(y_at, mask=inside, other=0.0)
    tl.store(y_at, total, mask=inside)
