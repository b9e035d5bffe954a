"""The long convolution by real FFTs, with a backward pass of real FFTs as well.

Autograd through `torch.fft` would transform complex sequences of full length in the backward pass and keep every
spectrum alive in between. Here the inputs alone are saved, and spectra are made again where they are needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.fft import irfft, rfft

from hyena_dna.ops.fft_size import fast_fft_size
from hyena_dna.ops.workspace import rows_per_chunk

__all__ = ["fft_long_conv"]

# Padded input, its spectrum, the inverse transform, and the copy that a complex-to-real transform destroys.
_BUFFERS = 4

_Gradients = tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]


def fft_long_conv(u: torch.Tensor, kernel: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
    """Causal convolution of every channel with a kernel as long as the sequence, in O(length log length).

    The transforms run in float32, or in float64 where an input is float64. Channels are processed a few at a time
    (`hyena_dna.ops.workspace`), so temporaries do not grow with the number of channels. Differentiable any number of
    times in all three inputs.

    Args:
        u: (batch, channels, length).
        kernel: (channels, length).
        skip: (channels,), or None for no direct term.

    Returns:
        (batch, channels, length), in the dtype of `u`.
    """
    y: torch.Tensor = _LongConv.apply(u, kernel, skip)  # type: ignore[no-untyped-call]
    return y


class _LongConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: torch.Tensor, kernel: torch.Tensor, skip: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(u, kernel, skip)
        size, dtype = _transform(u, kernel)
        length = u.shape[-1]
        y = torch.empty_like(u)
        for part in _channel_chunks(u, size, dtype):
            x = u[:, part].to(dtype)
            spectrum = rfft(x, n=size).mul_(rfft(kernel[part].to(dtype), n=size))
            piece = irfft(spectrum, n=size)[..., :length]
            y[:, part] = piece if skip is None else piece.addcmul_(x, skip[part, None].to(dtype))
        return y

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
    """Correlations with the output gradient G: d_u = irfft(G conj(K)), d_kernel = irfft(batch sum of G conj(U))."""
    size, dtype = _transform(u, kernel)
    length = u.shape[-1]
    d_u = torch.empty_like(u) if needed[0] else None
    d_kernel = torch.empty_like(kernel) if needed[1] else None
    d_skip = torch.empty_like(skip) if skip is not None and needed[2] else None
    for part in _channel_chunks(u, size, dtype):
        x, g = u[:, part].to(dtype), grad[:, part].to(dtype)
        if d_skip is not None:
            d_skip[part] = torch.linalg.vecdot(g, x).sum(0).to(d_skip.dtype)
        spectrum = rfft(g, n=size)
        if d_kernel is not None:
            product = rfft(x, n=size).conj_physical_().mul_(spectrum)
            d_kernel[part] = irfft(product.sum(0), n=size)[..., :length].to(d_kernel.dtype)
        if d_u is not None:
            spectrum.mul_(rfft(kernel[part].to(dtype), n=size).conj_physical_())
            piece = irfft(spectrum, n=size)[..., :length]
            d_u[:, part] = piece if skip is None else piece.addcmul_(g, skip[part, None].to(dtype))
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


def _transform(u: torch.Tensor, kernel: torch.Tensor) -> tuple[int, torch.dtype]:
    dtype = torch.promote_types(torch.promote_types(u.dtype, kernel.dtype), torch.float32)
    return fast_fft_size(2 * u.shape[-1] - 1), dtype


def _channel_chunks(u: torch.Tensor, size: int, dtype: torch.dtype) -> Iterator[slice]:
    batch, channels, _ = u.shape
    # With fewer transforms than threads, threads would idle.
    least = torch.get_num_threads() if u.device.type == "cpu" else 1
    count = max(least, rows_per_chunk(u.device, (batch + 1) * size * dtype.itemsize * _BUFFERS))
    return (slice(start, min(start + count, channels)) for start in range(0, channels, count))
