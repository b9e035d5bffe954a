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
from hyena_dna.ops.long_conv.monarch_plan import MOST_TILE_POINTS, MonarchPlan, monarch_plan
from hyena_dna.ops.long_conv.sequence_sums import magnitudes
from hyena_dna.ops.scaled_kernel import ScaledKernel

__all__ = [
    "Source",
    "Spectrum",
    "convolve",
    "convolve_backward",
    "convolve_keeping",
    "monarch_long_conv",
    "monarch_spectrum",
    "wants_peaks",
]

# Sequences that one program along rows takes, as far as there are enough for all multiprocessors.
_MOST_SEQUENCES = 8
_PROGRAMS = 2112
# Registers of a thread that leave a multiprocessor room for three programs along rows, or four along split columns,
# where few of them are missed: `rows_backward` misses many where a tile has several rows.
_FEW_REGISTERS = 168
_FEW_REGISTERS_OF_COLUMNS = 128
# Most of a kernel's gradient in float16: far from what it loses of values near zero, with room for a window of eight.
_HALF_ROOM = 8192.0
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


@dataclass(frozen=True)
class Source:
    """What the gradient of kernels needs to know of the input of a convolution.

    Attributes:
        values: (batch, channels, 2, size) float16, spectra of the input times `scale`; where one kernel does it all,
            the input itself.
        scale: (batch, channels) float32; None where one kernel does it all.
    """

    values: torch.Tensor
    scale: torch.Tensor | None


def monarch_spectrum(
    kernel: torch.Tensor, skip: torch.Tensor | None = None, factor: torch.Tensor | None = None
) -> Spectrum:
    """Transform kernels once for any number of convolutions. Not differentiable.

    Args:
        kernel: (channels, length), float32 or float16.
        skip: (channels,), the direct term, which is a part of the kernel's first value; or None.
        factor: (channels,), positive, what kernels are to be multiplied by (but not direct terms); None for nothing.
    """
    channels, length = kernel.shape
    plan = monarch_plan(length, kernel.device)
    kernel = kernel.detach().contiguous()
    peak, bound = magnitudes(kernel)
    first = None
    if skip is not None:
        first = skip.detach().float().contiguous()
        if factor is not None:
            first = first / factor
        peak, bound = peak + first.abs(), bound + first.abs()
    # Values in float16 are not to be rounded again.
    scale = _power_of_two(peak)
    bound = torch.where(bound > 0, bound, 1.0)
    values = kernel.new_empty((channels, 2, plan.size), dtype=torch.float16)
    root = math.sqrt(plan.size)
    if plan.n1 == 1:
        tiles.tile_spectrum[(-(-channels // plan.tile),)](
            kernel, first, scale, bound, values, plan.f1, plan.f2, plan.there, channels, length, root,
            **plan.row_launch, HAS_FIRST=first is not None,
        )  # fmt: skip
    else:
        _columns_forward(plan, kernel[None], scale, values, first)
        programs, per_program = _row_programs(plan, channels)
        passes.rows_spectrum[programs](
            values, root / (bound * scale), plan.f1, plan.f2, plan.there, *plan.outer, channels, per_program,
            **plan.row_launch, N1=plan.n1,
        )  # fmt: skip
    return Spectrum(values, bound if factor is None else bound * factor)


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
    if u.stride(-1) != 1:
        u = u.contiguous()
    if not torch.is_grad_enabled():
        return convolve(u, monarch_spectrum(kernel, skip))
    y: torch.Tensor = _MonarchConv.apply(u, kernel, skip)  # type: ignore[no-untyped-call]
    return y


class _MonarchConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: torch.Tensor, kernel: torch.Tensor, skip: torch.Tensor | None) -> torch.Tensor:
        spectrum = monarch_spectrum(kernel, skip)
        y, source = _convolve(u, spectrum, None, keep=any(ctx.needs_input_grad[1:]))
        ctx.save_for_backward(spectrum.values, spectrum.bound, *((source.values, source.scale) if source else ()))
        ctx.kernel_dtype, ctx.skip_dtype = kernel.dtype, None if skip is None else skip.dtype
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> _Gradients:
        values, bound, *source = ctx.saved_tensors
        d_u, found = convolve_backward(grad, Source(*source) if source else None, Spectrum(values, bound))
        if found is None:
            return d_u, None, None
        d_kernel = found.values
        return d_u, d_kernel.to(ctx.kernel_dtype), None if ctx.skip_dtype is None else d_kernel[:, 0].to(ctx.skip_dtype)


def wants_peaks(length: int) -> bool:
    """Whether convolutions of this length need the largest magnitude of every sequence before they start."""
    return length > MOST_TILE_POINTS


def convolve(u: torch.Tensor, spectrum: Spectrum, peak: torch.Tensor | None = None) -> torch.Tensor:
    """`monarch_long_conv` with known spectra and without autograd.

    Args:
        u: (batch, channels, length), adjacent along positions.
        spectrum: of the kernels.
        peak: (batch, channels), float32, the largest magnitude of every sequence or little more; None to look.

    Returns:
        (batch, channels, length), in the dtype of `u`, contiguous.
    """
    return _convolve(u, spectrum, peak, keep=False)[0]


def convolve_keeping(
    u: torch.Tensor, spectrum: Spectrum, peak: torch.Tensor | None = None
) -> tuple[torch.Tensor, Source]:
    """`convolve`, and what `convolve_backward` needs of its input."""
    y, source = _convolve(u, spectrum, peak, keep=True)
    assert source is not None
    return y, source


def _convolve(
    u: torch.Tensor, spectrum: Spectrum, peak: torch.Tensor | None, *, keep: bool
) -> tuple[torch.Tensor, Source | None]:
    plan = monarch_plan(u.shape[-1], u.device)
    if plan.n1 == 1:
        return _convolve_tiles(plan, u, spectrum, 1), Source(u, None) if keep else None
    scale = _scale(u, peak)
    work = _first_pass(plan, u, scale)
    kept = torch.empty_like(work) if keep else None
    _convolve_rows(plan, work, spectrum, 1, kept)
    y = torch.empty_like(u, memory_format=torch.contiguous_format)
    _columns_inverse(plan, work, spectrum.bound / scale, y)
    return y, None if kept is None else Source(kept, scale)


def convolve_backward(
    grad: torch.Tensor,
    source: Source | None,
    spectrum: Spectrum,
    grad_peak: torch.Tensor | None = None,
    *,
    half: bool = False,
) -> tuple[torch.Tensor, ScaledKernel | None]:
    """Gradients of `convolve`: of the input in its dtype, and of the kernels, whose first value is the skip's.

    Args:
        grad: (batch, channels, length), of the output.
        source: what `convolve_keeping` kept; None where the kernels want no gradient.
        spectrum: of the kernels.
        grad_peak: (batch, channels), the largest magnitudes of `grad`, as for `convolve`.
        half: whether the gradient of the kernels is to be float16, with a scale; otherwise it is float32, and its scale
            is one.

    Returns:
        (batch, channels, length), and the kernels' gradient or None.
    """
    length = grad.shape[-1]
    plan = monarch_plan(length, grad.device)
    if grad.stride(-1) != 1:
        grad = grad.contiguous()
    if plan.n1 == 1:
        d_kernel = None if source is None else _d_kernel_of_tiles(plan, grad, source.values, half=half)
        return _convolve_tiles(plan, grad, spectrum, -1), d_kernel
    scale = _scale(grad, grad_peak)
    work = _first_pass(plan, grad, scale)
    of_kernel = None if source is None else _both_gradients(plan, work, scale, source, spectrum)
    if of_kernel is None:
        _convolve_rows(plan, work, spectrum, -1)
    d_u = torch.empty_like(grad, memory_format=torch.contiguous_format)
    _columns_inverse(plan, work, spectrum.bound / scale, d_u)
    # Of a million positions each of these is a gigabyte: none outlives its use.
    del work
    return d_u, None if of_kernel is None else _d_kernel_of_rows(plan, *of_kernel, length, half=half)


def _d_kernel_of_tiles(plan: MonarchPlan, grad: torch.Tensor, u: torch.Tensor, *, half: bool) -> ScaledKernel:
    batch, channels, length = u.shape
    d_kernel = u.new_empty((channels, length), dtype=torch.float32)
    # Half a tile, for two transforms are held at a time.
    tile = max(1, plan.tile // 2)
    count = -(-batch // tile)
    # Enough programs to fill a device, each with a fixed share of the batch, so that sums have one order.
    per_split = -(-count // max(1, min(count, 2048 // channels)))
    splits = -(-count // per_split)
    d_spectrum = u.new_empty((splits, channels, 2, plan.size), dtype=torch.float32)
    tiles.tile_d_kernel[(channels * splits,)](
        grad, u, d_spectrum, plan.f1, plan.f2, plan.there_half,
        batch, channels, length, *grad.stride()[:2], *u.stride()[:2], per_split,
        **{**plan.row_launch, "T": tile}, maxnreg=_FEW_REGISTERS if tile < plan.tile else None,
    )  # fmt: skip
    tiles.tile_inverse[(-(-channels // plan.tile),)](
        d_spectrum.sum(0), d_kernel, plan.f1, plan.f2, plan.back, channels, length, math.sqrt(plan.size),
        **plan.row_launch, num_warps=8,
    )  # fmt: skip
    if not half:
        return ScaledKernel(d_kernel, d_kernel.new_ones(channels))
    scale = _power_of_two(d_kernel.abs().amax(1)) * _HALF_ROOM
    return ScaledKernel((d_kernel * scale[:, None]).half(), scale.reciprocal_())


def _both_gradients(
    plan: MonarchPlan, work: torch.Tensor, g_scale: torch.Tensor, source: Source, spectrum: Spectrum
) -> tuple[torch.Tensor, torch.Tensor]:
    """The middle of both gradients: of the input in place, of the kernels in a tensor like `work`, before their scale.

    Kernels are the first sequence of every channel there, and their scale is (channels,).
    """
    assert source.scale is not None
    batch, channels = work.shape[:2]
    # A product of two spectra of norm at most sqrt(M) has a norm of at most M; M^(1/4) of it goes, and all of it fits.
    products = 1 / (source.scale * g_scale)
    largest = products.amax(0)
    head_room = batch * plan.size**0.25
    kept = torch.empty_like(work)
    programs, per_program = _row_programs(plan, channels)
    passes.rows_backward[programs](
        work, kept, source.values, spectrum.values, products / (largest * head_room),
        plan.f1, plan.f2, plan.there, plan.back, *plan.outer,
        batch, channels, per_program, **plan.row_launch, N1=plan.n1, maxnreg=_FEW_REGISTERS if plan.tile == 1 else None,
    )  # fmt: skip
    return kept, largest * (head_room * math.sqrt(plan.size))


def _d_kernel_of_rows(
    plan: MonarchPlan, work: torch.Tensor, scale: torch.Tensor, length: int, *, half: bool
) -> ScaledKernel:
    channels = work.shape[1]
    d_kernel = work.new_empty((channels, length), dtype=torch.float16 if half else torch.float32)
    # A sum of products of sequences of norm at most sqrt(M), less M^(1/4) of it: at most M^(1/4) before the scale.
    room = 2.0 ** math.floor(math.log2(_HALF_ROOM / plan.size**0.25))
    applied = torch.full_like(scale, room) if half else scale
    _columns_inverse(plan, work, applied, d_kernel[None])
    return ScaledKernel(d_kernel, scale / applied)


def _convolve_tiles(plan: MonarchPlan, u: torch.Tensor, spectrum: Spectrum, sign: int) -> torch.Tensor:
    """Convolve (`sign` 1), or run time backwards (-1), which is the gradient in the input, in one kernel."""
    batch, channels, length = u.shape
    y = torch.empty_like(u, memory_format=torch.contiguous_format)
    tiles.tile_forward[(channels * -(-batch // plan.tile),)](
        u, spectrum.values, spectrum.bound, y, plan.f1, plan.f2, plan.there, plan.back, batch, channels, length,
        *u.stride()[:2], **plan.row_launch, SIGN=sign,
    )  # fmt: skip
    return y


def _first_pass(plan: MonarchPlan, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Sequences times `scale` (batch, channels), after the pass along columns: (batch, channels, 2, size)."""
    work = x.new_empty((*x.shape[:2], 2, plan.size), dtype=torch.float16)
    _columns_forward(plan, x, scale, work)
    return work


def _row_programs(plan: MonarchPlan, sequences: int) -> tuple[tuple[int], int]:
    """Programs along rows of so many sequences, and sequences that one takes."""
    tiles_per_row = plan.n1 // plan.tile
    per_program = max(1, min(_MOST_SEQUENCES, sequences * tiles_per_row // _PROGRAMS))
    return (tiles_per_row * -(-sequences // per_program),), per_program


def _convolve_rows(
    plan: MonarchPlan, work: torch.Tensor, spectrum: Spectrum, sign: int, kept: torch.Tensor | None = None
) -> None:
    """The middle of a convolution (`sign` 1) or correlation (-1), in place; `kept` gets the spectra of `work`."""
    batch, channels = work.shape[:2]
    programs, per_program = _row_programs(plan, batch * channels)
    passes.rows_convolve[programs](
        work, kept, spectrum.values, plan.f1, plan.f2, plan.there, plan.back, *plan.outer,
        batch, channels, per_program, **plan.row_launch, N1=plan.n1, SIGN=sign, KEEP=kept is not None,
        maxnreg=_FEW_REGISTERS,
    )  # fmt: skip


def _scale(x: torch.Tensor, peak: torch.Tensor | None) -> torch.Tensor:
    """What brings every sequence to at most one, (batch, channels)."""
    return _inverse(torch.linalg.vector_norm(x, ord=math.inf, dim=-1).float() if peak is None else peak)


def _power_of_two(peak: torch.Tensor) -> torch.Tensor:
    """The power of two that brings every sequence to at most one; 1 for a sequence of zeros."""
    # No further than where it would be infinite.
    return torch.exp2(-torch.frexp(peak).exponent.clamp(min=-100))


def _inverse(peak: torch.Tensor) -> torch.Tensor:
    """1 / the largest magnitude of every sequence; 1 for a sequence of zeros."""
    return torch.where(peak > 0, peak, 1.0).reciprocal_()


def _columns_forward(
    plan: MonarchPlan, x: torch.Tensor, scale: torch.Tensor, out: torch.Tensor, first: torch.Tensor | None = None
) -> None:
    batch, channels, length = x.shape
    passes.columns_forward[(batch * channels * (plan.n2 // plan.columns),)](
        x, first, scale, out, *plan.column_tables, channels, length, *x.stride()[:2],
        **plan.outer_launch, COLUMNS=plan.columns, HAS_FIRST=first is not None,
        maxnreg=_FEW_REGISTERS_OF_COLUMNS if plan.split else None,
    )  # fmt: skip


def _columns_inverse(plan: MonarchPlan, work: torch.Tensor, scale: torch.Tensor, y: torch.Tensor) -> None:
    """The last pass over the first of `work` that `y` (batch, channels, length) has room for."""
    batch, channels, length = y.shape
    passes.columns_inverse[(batch * channels * (plan.n2 // plan.columns_back),)](
        work, scale.contiguous(), y, *plan.column_tables, length, **plan.outer_launch, COLUMNS=plan.columns_back
    )
