"""Residual and layer norm, and MLP, through fused kernels with their own backward passes.

The definitions that they are tested against are the PyTorch forms in `hyena_dna.model.block` and `hyena_dna.model.mlp`.
Sums over rows are made per program and added in one order, so results are deterministic.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import triton

from hyena_dna.ops import row_kernels as kernels
from hyena_dna.ops.shares import shares

__all__ = ["add_bias", "column_sums", "fused_add_norm", "fused_add_unit", "fused_mlp"]

_ELEMENTS = 4096
# Enough programs for every multiprocessor to hold several, so that one computes while another loads, and few enough
# that their sums are small.
_PROGRAMS = 1056
# Values of the wide middle of an MLP at a time: two gigabytes, and fewer than 32 bits count.
_MLP_VALUES = 1 << 30
# The output of GELU is kept where it takes up to this share of the device's memory, a 256th, for every MLP.
_KEPT_SHARE = 256
_Gradients = tuple[torch.Tensor | None, ...]


def fused_add_norm(
    branch: torch.Tensor,
    residual: torch.Tensor | None,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add a branch to a float32 residual stream, and normalise the sum.

    Args:
        branch: (batch, length, d_model), any floating dtype.
        residual: (batch, length, d_model), float32, or None to start a stream.
        weight: (d_model,), gain of the norm, float32; likewise bias.
        bias: (d_model,).
        eps: added to the variance.
        dtype: of the normalised output.

    Returns:
        The normalised sum in `dtype`, and the sum itself in float32.
    """
    return _add_norm(branch, residual, (weight, bias, None, None), eps, dtype)


def fused_add_unit(
    branch: torch.Tensor,
    residual: torch.Tensor | None,
    eps: float,
    dtype: torch.dtype,
    biases: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`fused_add_norm` without gain and offset, and with biases that branches lack.

    The backward pass needs little more than the normalised sum, and sums the gradients of biases as it passes them.

    Args:
        branch: as for `fused_add_norm`; likewise residual, eps and dtype.
        biases: that of the branch, which both outputs get, and that of the branch which will follow, which the stream
            alone gets; each (d_model,), float32.

    Returns:
        The normalised sum in `dtype`, and the sum itself in float32.
    """
    return _add_norm(branch, residual, (None, None, *(biases or (None, None))), eps, dtype)


def _add_norm(
    branch: torch.Tensor,
    residual: torch.Tensor | None,
    parameters: tuple[torch.Tensor | None, ...],
    eps: float,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor]:
    # The kernel sums the gradients of two parameters at most.
    assert parameters[0] is None or parameters[2] is None
    if not torch.is_grad_enabled():
        return _normalise(branch.contiguous(), residual, parameters, eps, dtype, keep=False)[:2]
    result: tuple[torch.Tensor, torch.Tensor] = _AddNorm.apply(branch, residual, *parameters, eps, dtype)  # type: ignore[no-untyped-call]
    return result


def _normalise(
    branch: torch.Tensor,
    residual: torch.Tensor | None,
    parameters: tuple[torch.Tensor | None, ...],
    eps: float,
    dtype: torch.dtype,
    *,
    keep: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """The normalised sum and the sum; and with `keep` what the backward pass needs of it, and 1 / deviation of rows."""
    weight, bias, branch_bias, next_bias = parameters
    width = branch.shape[-1]
    rows = branch.numel() // width
    stream = torch.empty_like(branch, dtype=torch.float32)
    normed = torch.empty_like(branch, dtype=dtype)
    # In as few bits as the norm has.
    unit = normed if weight is None else torch.empty_like(normed) if keep else None
    rstd = stream.new_empty(rows) if keep else None
    padded, per_block, _, _ = _tiles(width, rows, _ELEMENTS, _PROGRAMS)
    kernels.add_norm_forward[(triton.cdiv(rows, per_block),)](
        branch, residual, weight, bias, branch_bias, next_bias, stream, normed, unit, rstd, rows, width, eps,
        HAS_RESIDUAL=residual is not None, HAS_GAIN=weight is not None, HAS_BIASES=branch_bias is not None,
        KEEP=keep, ROWS=per_block, WIDTH=padded,
    )  # fmt: skip
    return normed, stream, unit, rstd


def add_bias(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Add `bias` (width,) to x (..., width), contiguous, in place; returns x. Not differentiable."""
    elements = x.numel()
    kernels.add_bias[(triton.cdiv(elements, _ELEMENTS),)](x, bias, elements, x.shape[-1], BLOCK=_ELEMENTS)
    return x


def column_sums(x: torch.Tensor) -> torch.Tensor:
    """Sums over all dimensions but the last, float32: gradients of biases. Not differentiable. Deterministic."""
    x = x.contiguous()
    width = x.shape[-1]
    rows = x.numel() // width
    padded, per_block, per_program, programs = _tiles(width, rows, _ELEMENTS, _PROGRAMS)
    partial = x.new_empty((programs, width), dtype=torch.float32)
    kernels.column_sums[(programs,)](x, partial, rows, width, per_program, ROWS=per_block, WIDTH=padded)
    return partial.sum(0)


def _tiles(width: int, rows: int, elements: int, most: int) -> tuple[int, int, int, int]:
    """Padded width, rows per block, blocks per program, programs."""
    padded = triton.next_power_of_2(width)
    per_block = max(1, elements // padded)
    programs, per_program = shares(triton.cdiv(rows, per_block), most)
    return padded, per_block, per_program, programs


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        branch: torch.Tensor,
        residual: torch.Tensor | None,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        branch_bias: torch.Tensor | None,
        next_bias: torch.Tensor | None,
        eps: float,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        branch = branch.contiguous()
        parameters = weight, bias, branch_bias, next_bias
        normed, stream, unit, rstd = _normalise(branch, residual, parameters, eps, dtype, keep=True)
        ctx.save_for_backward(unit, rstd, weight)
        ctx.set_materialize_grads(False)
        ctx.branch_dtype, ctx.has_residual = branch.dtype, residual is not None
        ctx.has_biases = branch_bias is not None
        return normed, stream

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_normed: torch.Tensor, d_stream: torch.Tensor | None) -> _Gradients:
        unit, rstd, weight = ctx.saved_tensors
        width = unit.shape[-1]
        rows = unit.numel() // width
        # Fewer elements leave registers for more programs at a time, which wait for memory in turn.
        padded, per_block, per_program, programs = _tiles(width, rows, _ELEMENTS // 4, 4 * _PROGRAMS)
        d_branch = torch.empty_like(unit, dtype=ctx.branch_dtype)
        d_residual = torch.empty_like(unit, dtype=torch.float32) if ctx.has_residual else None
        has_gain, has_biases = weight is not None, ctx.has_biases
        partial = rstd.new_empty((programs, 2, width)) if has_gain or has_biases else None
        kernels.add_norm_backward[(programs,)](
            d_normed.contiguous(), None if d_stream is None else d_stream.contiguous(), unit, rstd, weight,
            d_branch, d_residual, partial, rows, width, per_program, HAS_STREAM=d_stream is not None,
            HAS_RESIDUAL=ctx.has_residual, HAS_GAIN=has_gain, HAS_BIASES=has_biases,
            ROWS=per_block, WIDTH=padded, num_stages=1,
        )  # fmt: skip
        sums = (None, None) if partial is None else tuple(partial.sum(0))
        of_norm, of_biases = (sums, (None, None)) if has_gain else ((None, None), sums)
        return d_branch, d_residual, *of_norm, *of_biases, None, None


def fused_mlp(
    x: torch.Tensor, weight1: torch.Tensor, bias1: torch.Tensor, weight2: torch.Tensor, bias2: torch.Tensor | None
) -> torch.Tensor:
    """fc2(gelu(fc1(x))), tanh form, in the dtype of `x`; the wide middle is made again in the backward pass.

    Where it takes little of the device's memory, the output of GELU is kept.

    Args:
        x: (batch, length, d_model), bfloat16 or float16 on a GPU.
        weight1: (d_inner, d_model); likewise bias1 (d_inner,), weight2 (d_model, d_inner), bias2 (d_model,) or
            None.

    Returns:
        (batch, length, d_model).
    """
    parameters = weight1, bias1, weight2, bias2
    if not torch.is_grad_enabled():
        return _transform(x, *_in_dtype(x, parameters), keep=False)[0]
    y: torch.Tensor = _Mlp.apply(x, *parameters)  # type: ignore[no-untyped-call]
    return y


def _transform(
    x: torch.Tensor,
    w1: torch.Tensor,
    b1: torch.Tensor,
    w2: torch.Tensor,
    b2: torch.Tensor | None,
    *,
    keep: bool,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The output, a chunk of rows at a time, and with `keep` the outputs of GELU, by chunk. All of one dtype."""
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    kept = []
    for rows, out in zip(*_chunks(len(b1), x, y), strict=True):
        middle = torch._addmm_activation(b1, rows, w1.t(), use_gelu=True)
        if b2 is None:
            torch.mm(middle, w2.t(), out=out)
        else:
            torch.addmm(b2, middle, w2.t(), out=out)
        if keep:
            kept.append(middle)
    return y, kept


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, *parameters: torch.Tensor | None) -> torch.Tensor:
        w1, b1, w2, b2 = _in_dtype(x, parameters)
        memory = torch.cuda.get_device_properties(x.device).total_memory
        keep = x[..., 0].numel() * len(b1) * x.itemsize * _KEPT_SHARE <= memory
        y, kept = _transform(x, w1, b1, w2, b2, keep=keep)
        ctx.save_for_backward(x, w1, b1, w2, *kept)
        ctx.dtypes = [None if value is None else value.dtype for value in parameters]
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> _Gradients:
        x, w1, b1, w2, *kept = ctx.saved_tensors
        d_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        width = len(b1)
        chunks = _chunks(width, x, grad.to(x.dtype), d_x)
        sums: list[torch.Tensor] = []
        for rows, g, out, middle in itertools.zip_longest(*chunks, kept):
            inner, d_inner = torch.addmm(b1, rows, w1.t()), g @ w2
            per_block, columns = 64, min(128, triton.next_power_of_2(width))
            partial = inner.new_empty((triton.cdiv(len(rows), per_block), width), dtype=torch.float32)
            kernels.gelu_backward[(len(partial), triton.cdiv(width, columns))](
                inner, d_inner, partial, len(rows), width, ROWS=per_block, COLUMNS=columns, AGAIN=middle is None
            )
            torch.mm(d_inner, w1, out=out)
            found = d_inner.t() @ rows, partial.sum(0), g.t() @ (inner if middle is None else middle)
            sums = [a.float() + b for a, b in zip(sums, found, strict=True)] if sums else list(found)
        if ctx.dtypes[3] is not None:
            sums.append(column_sums(grad))
        typed = (dtype and total.to(dtype) for total, dtype in itertools.zip_longest(sums, ctx.dtypes))
        return d_x, *typed


def _chunks(width: int, *tensors: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    """Rows of every tensor, as many at a time as their middle of `width` may be large."""
    return [torch.split(tensor.flatten(0, 1), max(1, _MLP_VALUES // width)) for tensor in tensors]


def _in_dtype(x: torch.Tensor, values: Sequence[torch.Tensor | None]) -> list[Any]:
    """Tensors in the dtype of `x`."""
    return [None if value is None else value.to(x.dtype) for value in values]
