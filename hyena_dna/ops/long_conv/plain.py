"""The plain formulation of the long convolution: real FFTs of twice the length, differentiated by autograd."""

from __future__ import annotations

import torch

__all__ = ["FEW_VALUES", "plain_long_conv"]

FEW_VALUES = {"cuda": 1 << 23, "cpu": 1 << 16}
"""Values of an input up to which launching operations takes longer than they do, so that the fewest win; by device, as
measured on an H200 and on two cores."""


def plain_long_conv(u: torch.Tensor, kernel: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
    """Causal convolution of every channel, in float32, or in float64 where an input is.

    Autograd keeps every spectrum alive. Differentiable any number of times in all three inputs.

    Args:
        u: (batch, channels, length).
        kernel: (channels, length).
        skip: (channels,), or None for no direct term.

    Returns:
        (batch, channels, length), in the dtype of `u`.
    """
    size = 2 * u.shape[-1]
    dtype = torch.promote_types(torch.promote_types(u.dtype, kernel.dtype), torch.float32)
    x = u.to(dtype)
    spectrum = torch.fft.rfft(x, n=size) * torch.fft.rfft(kernel.to(dtype), n=size)
    y: torch.Tensor = torch.fft.irfft(spectrum, n=size)[..., : u.shape[-1]]
    if skip is not None:
        y = y + x * skip[:, None].to(dtype)
    return y.to(u.dtype)
