"""The entry point of the long convolution: checks shapes, chooses the implementation once and visibly."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from hyena_dna.ops.long_conv.fft import fft_long_conv
from hyena_dna.ops.long_conv.plain import FEW_VALUES, plain_long_conv
from hyena_dna.ops.long_conv.reference import reference_long_conv
from hyena_dna.ops.tier import is_fused

__all__ = ["MONARCH_LENGTH", "Implementation", "Precision", "choose", "long_conv"]

Implementation = Literal["auto", "reference", "rfft", "fft", "monarch"]
Precision = Literal["high", "fast"]

MONARCH_LENGTH = 1 << 20
"""Longest sequence that the Monarch convolution takes: 256 columns of 4,096 positions."""


def long_conv(
    u: torch.Tensor,
    kernel: torch.Tensor,
    skip: torch.Tensor | None = None,
    *,
    impl: Implementation = "auto",
    precision: Precision = "high",
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Causal convolution of every channel with a kernel as long as the sequence.

    y[b, c, t] = sum over s <= t of kernel[c, t - s] * u[b, c, s], plus skip[c] * u[b, c, t].

    Example:
        >>> u, kernel, skip = torch.randn(2, 8, 1000), torch.randn(8, 1000), torch.randn(8)
        >>> long_conv(u, kernel, skip).shape
        torch.Size([2, 8, 1000])

    Args:
        u: (batch, channels, length), any floating dtype.
        kernel: (channels, length), float32 or float64; lower precision loses accuracy that no implementation restores.
        skip: (channels,), or None for no direct term.
        impl: `reference` (the definition, float64 sums, O(length^2)), `rfft` (real FFTs in float32, or float64 for
            float64 inputs, differentiated by autograd), `fft` (the same in pieces, with a backward pass of its own that
            keeps no spectra), `monarch` (tensor cores through Triton, float16 operands, up to `MONARCH_LENGTH`
            positions), `auto` (`rfft` where `u` is small, `monarch` where that can run and `fast` is asked for, `fft`
            everywhere else). An implementation that cannot do what is asked raises; none is replaced.
        precision: largest relative L2 error against float64 on the same inputs, before rounding to the dtype of `u`:
            `high` 1e-5, `fast` 2e-3. All but `monarch` meet `high` at every length up to 1,000,000 and beyond.
        out: where to write, in shape and dtype of `u`, which it may be itself; only without autograd.

    Returns:
        (batch, channels, length), in the dtype of `u`; `out` where it is given.

    Raises:
        ValueError: shapes do not fit each other, a dtype is not floating, `impl` or `precision` is unknown, `impl`
            cannot do this, or `out` is given under autograd or does not fit `u`.
    """
    _check(u, kernel, skip)
    chosen = choose(u, kernel, impl=impl, precision=precision)
    if out is not None:
        if torch.is_grad_enabled():
            raise ValueError("a result is written in place only without autograd")
        if (out.shape, out.dtype) != (u.shape, u.dtype):
            raise ValueError(f"out is {u.dtype} {tuple(u.shape)} as u, not {out.dtype} {tuple(out.shape)}")
        if chosen == "fft":
            return fft_long_conv(u, kernel, skip, out=out)
        return out.copy_(long_conv(u, kernel, skip, impl=chosen, precision=precision))
    match chosen:
        case "reference":
            return reference_long_conv(u, kernel, skip)
        case "rfft":
            return plain_long_conv(u, kernel, skip)
        case "monarch":
            # Triton is there on GPUs only.
            from hyena_dna.ops.long_conv.monarch import monarch_long_conv

            return monarch_long_conv(u, kernel.float(), skip)
        case _:
            return fft_long_conv(u, kernel, skip)


def choose(
    u: torch.Tensor,
    kernel: torch.Tensor,
    *,
    impl: Implementation = "auto",
    precision: Precision = "high",
    alone: bool = True,
) -> Implementation:
    """The implementation that `long_conv` uses for these arguments: `impl` itself unless it is `auto`.

    Args:
        u: (batch, channels, length), as `long_conv` takes it; likewise kernel, impl and precision.
        alone: whether nothing is fused with the convolution, for whose sake kernels are launched anyway.

    Raises:
        ValueError: `impl` or `precision` is unknown, or `impl` is less precise.
    """
    if impl not in get_args(Implementation):
        raise ValueError(f"impl is {', '.join(get_args(Implementation))}, not {impl!r}")
    if precision not in get_args(Precision):
        raise ValueError(f"precision is {' or '.join(get_args(Precision))}, not {precision!r}")
    if impl == "monarch" and precision == "high":
        raise ValueError("monarch computes with precision fast, not high")
    if impl != "auto":
        return impl
    small = u.numel() <= FEW_VALUES.get(u.device.type, 0)
    fits = u.shape[-1] <= MONARCH_LENGTH and torch.float64 not in (u.dtype, kernel.dtype)
    if precision == "fast" and fits and not (alone and small) and is_fused(u.device):
        return "monarch"
    return "rfft" if small else "fft"


def _check(u: torch.Tensor, kernel: torch.Tensor, skip: torch.Tensor | None) -> None:
    if u.dim() != 3 or u.shape[-1] == 0:
        raise ValueError(f"u is (batch, channels, length) with length at least 1, not {tuple(u.shape)}")
    if kernel.shape != u.shape[1:]:
        raise ValueError(f"kernel is (channels, length) = {tuple(u.shape[1:])}, not {tuple(kernel.shape)}")
    if skip is not None and skip.shape != u.shape[1:2]:
        raise ValueError(f"skip is (channels,) = {tuple(u.shape[1:2])}, not {tuple(skip.shape)}")
    for tensor in (u, kernel) if skip is None else (u, kernel, skip):
        if not tensor.is_floating_point():
            raise ValueError(f"a long convolution needs floating inputs, not {tensor.dtype}")
