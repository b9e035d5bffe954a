"""The long convolution on tensor cores: precision `fast`, on a GPU, through Triton.

Sequences of up to 4,096 points are convolved in one kernel that reads its input and writes its output once. Longer ones
take three: along columns, along rows (with the product of spectra in the middle), along columns; complex float16
intermediates are what memory sees in between. `hyena_dna.ops.long_conv.monarch_transforms` has the arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from hyena_dna.ops.long_conv import monarch_passes as passes
from hyena_dna.ops.long_conv import monarch_tiles as tiles
from hyena_dna.ops.long_conv.monarch_plan import MonarchPlan, monarch_plan
from hyena_dna.ops.long_conv.sequence_sums import magnitudes, pair_sums

__all__ = ["Spectrum", "convolve", "convolve_backward", "monarch_long_conv", "monarch_spectrum"]

_Gradients = tuple[torch.Tensor | None, ...]


@dataclass(frozen=True)
class Spectrum:
    """Kernels in the frequency domain, as `monarch_long_conv` takes them.

    Attributes:
        values: (channels, 2, size) float16, spectra divided by `bound`, in the kernels' own order.
        bound: (channels,) float32, sum of the magnitudes of every kernel, which no value of its spectrum exceeds.
    """

    values: torch.Tensor
    bound: torch.Tensor


def monarch_spectrum(kernel: torch.Tensor) -> Spectrum:
    """Transform kernels (channels, length), float32, once for any number of convolutions. Not differentiable."""
    channels, length = kernel.shape
    plan = monarch_plan(length, kernel.device)
    kernel = kernel.detach().contiguous()
    peak, bound = magnitudes(kernel)
    scale, bound = _inverse(peak), torch.where(bound > 0, bound, 1.0)
    values = kernel.new_empty((channels, 2, plan.size), dtype=torch.float16)
    root = math.sqrt(plan.size)
    if plan.n1 == 1:
        tiles.tile_spectrum[(-(-channels // plan.tile),)](
            kernel, scale, bound, values, plan.f1, plan.f2, plan.twiddle, plan.ramp, channels, length, root,
            **plan.row_launch,
        )  # fmt: skip
    else:
        _columns_forward(plan, kernel[None], scale, values)
        _spectrum_in_place(plan, values, root / (bound * scale))
    return Spectrum(values, bound)


def monarch_long_conv(u: torch.Tensor, kernel: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
    """Causal convolution of every channel with a kernel as long as the sequence, relative L2 error about 1e-3.

    float16 operands, float32 accumulation. Rounding noise is spread over the whole sequence, so that causality holds to
    the precision only. Differentiable once. Deterministic.

    Args:
        u: (batch, channels, length); float32, bfloat16 or float16.
        kernel: (channels, length), float32.
        skip: (channels,), or None for no direct term.

    Returns:
        (batch, channels, length), in the dtype of `u`.

    Raises:
        ValueError: `length` is above `MONARCH_LENGTH`.
    """
    y: torch.Tensor = _MonarchConv.apply(u, kernel, skip)  # type: ignore[no-untyped-call]
    return y


class _MonarchConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: torch.Tensor, kernel: torch.Tensor, skip: torch.Tensor | None) -> torch.Tensor:
        if u.stride(-1) != 1:
            u = u.contiguous()
        spectrum = monarch_spectrum(kernel)
        ctx.save_for_backward(u, spectrum.values, spectrum.bound, skip)
        ctx.kernel_dtype = kernel.dtype
        return convolve(u, spectrum, skip)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> _Gradients:
        u, values, bound, skip = ctx.saved_tensors
        d_u, d_kernel, d_skip = convolve_backward(grad, u, Spectrum(values, bound), skip)
        return d_u, d_kernel.to(ctx.kernel_dtype), None if d_skip is None else d_skip.to(skip.dtype)


def convolve(u: torch.Tensor, spectrum: Spectrum, skip: torch.Tensor | None) -> torch.Tensor:
    """`monarch_long_conv` with known spectra and without autograd.

    Args:
        u: (batch, channels, length), adjacent along positions.
        spectrum: of the kernels.
        skip: (channels,), or None for no direct term.

    Returns:
        (batch, channels, length), in the dtype of `u`, contiguous.
    """
    batch, channels, length = u.shape
    plan = monarch_plan(length, u.device)
    if plan.n1 == 1:
        return _convolve_tiles(plan, u, spectrum, skip, 1)
    y = torch.empty_like(u, memory_format=torch.contiguous_format)
    scale = _inverse(torch.linalg.vector_norm(u, ord=math.inf, dim=-1).float())
    work = _first_pass(plan, u, scale)
    passes.rows_forward[(channels * (plan.n1 // plan.tile),)](
        work, spectrum.values, *plan.row_tables, batch, channels, **plan.row_launch, N1=plan.n1
    )
    _columns_inverse(plan, work, spectrum.bound / scale, skip, u, y)
    return y


def convolve_backward(
    grad: torch.Tensor, u: torch.Tensor, spectrum: Spectrum, skip: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Gradients of `convolve`: of the input in its dtype, of kernels and skip term in float32.

    Args:
        grad: (batch, channels, length), of the output.
        u: (batch, channels, length), the input, adjacent along positions.
        spectrum: of the kernels.
        skip: (channels,), or None.

    Returns:
        (batch, channels, length); (channels, length); (channels,), or None where there is no skip term.
    """
    batch, channels, length = u.shape
    plan = monarch_plan(length, u.device)
    if grad.stride(-1) != 1:
        grad = grad.contiguous()
    root = math.sqrt(plan.size)
    if plan.n1 == 1:
        d_kernel = u.new_empty((channels, length), dtype=torch.float32)
        count = -(-batch // plan.tile)
        # Enough programs to fill a device, each with a fixed share of the batch, so that sums have one order.
        per_split = -(-count // max(1, min(count, 2048 // channels)))
        splits = -(-count // per_split)
        d_spectrum = u.new_empty((splits, channels, 2, plan.size), dtype=torch.float32)
        d_skips = u.new_empty((splits, channels), dtype=torch.float32) if skip is not None else None
        tiles.tile_d_kernel[(channels * splits,)](
            grad, u, d_spectrum, d_skips, plan.f1, plan.f2, plan.twiddle, plan.ramp, batch, channels, length,
            grad.stride(0), grad.stride(1), u.stride(0), u.stride(1), per_split,
            **plan.row_launch, SKIP=skip is not None, num_warps=8,
        )  # fmt: skip
        tiles.tile_inverse[(-(-channels // plan.tile),)](
            d_spectrum.sum(0), d_kernel, plan.f1, plan.f2, plan.twiddle, plan.ramp, channels, length, root,
            **plan.row_launch, num_warps=8,
        )  # fmt: skip
        d_skip = None if d_skips is None else d_skips.sum(0)
        return _convolve_tiles(plan, grad, spectrum, skip, -1), d_kernel, d_skip
    u_peak, g_peak, d_skips = pair_sums(u, grad)
    u_scale, g_scale = _inverse(u_peak), _inverse(g_peak)
    work, d_work = _first_pass(plan, u, u_scale), _first_pass(plan, grad, g_scale)
    # A product of two spectra of norm at most sqrt(M) has a norm of at most M; M^(1/4) of it goes, and all of it fits.
    products = 1 / (u_scale * g_scale)
    largest = products.amax(0)
    head_room = batch * plan.size**0.25
    d_spectrum = u.new_empty((channels, 2, plan.size), dtype=torch.float16)
    # Kernels that go forward and back at once would hold two tiles each, for which there are no registers.
    _spectrum_in_place(plan, work, None)
    _spectrum_in_place(plan, d_work, None)
    tiles_per_row = plan.n1 // plan.tile
    passes.rows_d_kernel[(channels * tiles_per_row,)](
        d_work, work, products / (largest * head_room), d_spectrum, *plan.row_tables, batch, channels,
        **plan.row_launch, N1=plan.n1,
    )  # fmt: skip
    del work
    passes.rows_d_input[(batch * channels * tiles_per_row,)](
        d_work, spectrum.values, *plan.row_tables, channels, **plan.row_launch, N1=plan.n1
    )
    d_u = torch.empty_like(u, memory_format=torch.contiguous_format)
    _columns_inverse(plan, d_work, spectrum.bound / g_scale, skip, grad, d_u)
    # Of a million positions each of these is a gigabyte: none outlives its use.
    del d_work
    d_kernel = u.new_empty((channels, length), dtype=torch.float32)
    _columns_inverse(plan, d_spectrum, largest * (head_room * root), None, d_kernel[None], d_kernel[None])
    return d_u, d_kernel, None if skip is None else d_skips.sum(0)


def _convolve_tiles(
    plan: MonarchPlan, u: torch.Tensor, spectrum: Spectrum, skip: torch.Tensor | None, sign: int
) -> torch.Tensor:
    """Convolve (`sign` 1), or run time backwards (-1), which is the gradient in the input, in one kernel."""
    batch, channels, length = u.shape
    y = torch.empty_like(u, memory_format=torch.contiguous_format)
    tiles.tile_forward[(channels * -(-batch // plan.tile),)](
        u, spectrum.values, spectrum.bound, skip, y, plan.f1, plan.f2, plan.twiddle, plan.ramp, batch, channels,
        length, u.stride(0), u.stride(1), **plan.row_launch, SKIP=skip is not None, SIGN=sign,
    )  # fmt: skip
    return y


def _first_pass(plan: MonarchPlan, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Sequences times `scale` (batch, channels), after the pass along columns."""
    work = x.new_empty((x.shape[0] * x.shape[1], 2, plan.size), dtype=torch.float16)
    _columns_forward(plan, x, scale, work)
    return work


def _spectrum_in_place(plan: MonarchPlan, work: torch.Tensor, factor: torch.Tensor | None) -> None:
    passes.rows_spectrum[(len(work) * (plan.n1 // plan.tile),)](
        work, factor, *plan.row_tables, **plan.row_launch, N1=plan.n1, FACTOR=factor is not None
    )


def _inverse(peak: torch.Tensor) -> torch.Tensor:
    """1 / the largest magnitude of every sequence; 1 for a sequence of zeros."""
    return torch.where(peak > 0, peak, 1.0).reciprocal_()


def _columns_forward(plan: MonarchPlan, x: torch.Tensor, scale: torch.Tensor, out: torch.Tensor) -> None:
    batch, channels, length = x.shape
    passes.columns_forward[(batch * channels * (plan.n2 // plan.columns),)](
        x, scale, out, plan.outer_f, plan.inner, plan.ramp_rows, plan.ramp_columns, channels, length,
        x.stride(0), x.stride(1), **plan.outer_launch,
    )  # fmt: skip


def _columns_inverse(
    plan: MonarchPlan,
    work: torch.Tensor,
    scale: torch.Tensor,
    skip: torch.Tensor | None,
    direct: torch.Tensor,
    y: torch.Tensor,
) -> None:
    batch, channels, length = y.shape
    passes.columns_inverse[(batch * channels * (plan.n2 // plan.columns),)](
        work, scale.contiguous(), skip, direct, y, plan.outer_f, plan.inner, plan.ramp_rows, plan.ramp_columns,
        channels, length, direct.stride(0), direct.stride(1), **plan.outer_launch, SKIP=skip is not None,
    )  # fmt: skip
