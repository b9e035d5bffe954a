"""The long convolution by FFTs, with a backward pass of its own.

Autograd through `torch.fft` would transform complex sequences of full length in the backward pass and keep every
spectrum alive in between. Here the inputs alone are saved, and spectra are made again where they are needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from hyena_dna.ops.long_conv.transforms import Transform, choose_transform
from hyena_dna.ops.threads import run_pieces
from hyena_dna.ops.workspace import rows_per_chunk

__all__ = ["fft_long_conv"]

_Gradients = tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]


def fft_long_conv(
    u: torch.Tensor, kernel: torch.Tensor, skip: torch.Tensor | None = None, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Causal convolution of every channel with a kernel as long as the sequence, in O(length log length).

    The transforms run in float32, or in float64 where an input is float64. Channels are processed a few at a time
    (`hyena_dna.ops.workspace`), so temporaries do not grow with the number of channels. Differentiable any number of
    times in all three inputs.

    Args:
        u: (batch, channels, length).
        kernel: (channels, length).
        skip: (channels,), or None for no direct term.
        out: where to write, in shape and dtype of `u`, which it may be itself; for use without autograd.

    Returns:
        (batch, channels, length), in the dtype of `u`; `out` where it is given.
    """
    if out is not None or not torch.is_grad_enabled():
        return _convolve(u, kernel, skip, torch.empty_like(u) if out is None else out)
    y: torch.Tensor = _LongConv.apply(u, kernel, skip)  # type: ignore[no-untyped-call]
    return y


def _convolve(u: torch.Tensor, kernel: torch.Tensor, skip: torch.Tensor | None, out: torch.Tensor) -> torch.Tensor:
    dtype, transform = _transform(u, kernel)

    def convolve(part: slice) -> None:
        x = u[:, part].to(dtype)
        piece = transform.signal(transform.spectrum(x).mul_(transform.spectrum(kernel[part])))
        if skip is None:
            out[:, part] = piece
        elif out.dtype == dtype:
            torch.addcmul(piece, x, skip[part, None].to(dtype), out=out[:, part])
        else:
            out[:, part] = piece.addcmul_(x, skip[part, None].to(dtype))

    _for_channels(convolve, u, transform)
    return out


class _LongConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: torch.Tensor, kernel: torch.Tensor, skip: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(u, kernel, skip)
        return _convolve(u, kernel, skip, torch.empty_like(u))

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> _Gradients:
        (grad,) = grads
        u, kernel, skip = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _differentiable_gradients(grad, u, kernel, skip)
        return _gradients(grad, u, kernel, skip, ctx.needs_input_grad)


def _gradients(
    grad: torch.Tensor,
    u: torch.Tensor,
    kernel: torch.Tensor,
    skip: torch.Tensor | None,
    needed: tuple[bool, bool, bool],
) -> _Gradients:
    """Correlations with the output gradient: spectra of d_u are G conj(K), of d_kernel the batch sum of G conj(U)."""
    dtype, transform = _transform(u, kernel)
    d_u = torch.empty_like(u) if needed[0] else None
    d_kernel = torch.empty_like(kernel) if needed[1] else None
    d_skip = torch.empty_like(skip) if skip is not None and needed[2] else None

    def correlate(part: slice) -> None:
        x, g = u[:, part].to(dtype), grad[:, part].to(dtype)
        if d_skip is not None:
            d_skip[part] = torch.linalg.vecdot(g, x).sum(0).to(d_skip.dtype)
        spectrum = transform.spectrum(g)
        if d_kernel is not None:
            product = transform.spectrum(x).conj_physical_().mul_(spectrum)
            d_kernel[part] = transform.signal(product.sum(0)).to(d_kernel.dtype)
        if d_u is not None:
            spectrum.mul_(transform.spectrum(kernel[part]).conj_physical_())
            piece = transform.signal(spectrum)
            d_u[:, part] = piece if skip is None else piece.addcmul_(g, skip[part, None].to(dtype))

    _for_channels(correlate, u, transform)
    return d_u, d_kernel, d_skip


def _differentiable_gradients(
    grad: torch.Tensor, u: torch.Tensor, kernel: torch.Tensor, skip: torch.Tensor | None
) -> _Gradients:
    """The same gradients out of causal convolutions of reversed sequences, so that they can be differentiated again."""
    batch, channels, length = u.shape
    backwards = grad.flip(-1)
    d_u = fft_long_conv(backwards, kernel, skip).flip(-1)
    # Each row of the batch has a kernel of its own here, so rows stand in the place of channels.
    rows = fft_long_conv(backwards.reshape(1, batch * channels, length), u.reshape(batch * channels, length))
    d_kernel = rows.flip(-1).view(batch, channels, length).sum(0).to(kernel.dtype)
    d_skip = None if skip is None else (grad * u).sum((0, 2)).to(skip.dtype)
    return d_u, d_kernel, d_skip


def _transform(u: torch.Tensor, kernel: torch.Tensor) -> tuple[torch.dtype, Transform]:
    dtype = torch.promote_types(torch.promote_types(u.dtype, kernel.dtype), torch.float32)
    return dtype, choose_transform(u.shape[-1], dtype, u.device)


def _for_channels(function: Callable[[slice], None], u: torch.Tensor, transform: Transform) -> None:
    batch, channels, _ = u.shape
    on_cpu = u.device.type == "cpu"
    least = transform.least_rows // (batch + 1) if on_cpu else 1
    count = rows_per_chunk(u.device, (batch + 1) * transform.row_bytes)
    # Of the four buffers of a row two are alive at a time, so twice as many rows fit the caches.
    count = max(2 * count if on_cpu else count, least)
    calls = -(-channels // count)
    if on_cpu and calls > 1:
        # Shares of equal size for all threads.
        threads = torch.get_num_threads()
        count = -(-channels // (threads * -(-calls // threads)))
    parts = [slice(start, min(start + count, channels)) for start in range(0, channels, count)]
    if on_cpu:
        run_pieces(function, parts)
    else:
        for part in parts:
            function(part)
