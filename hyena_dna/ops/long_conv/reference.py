"""The long convolution as it is defined: slow, exact, obvious."""

from __future__ import annotations

import torch

__all__ = ["reference_long_conv"]


def reference_long_conv(u: torch.Tensor, kernel: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
    """y[b, c, t] = sum over s <= t of kernel[c, t - s] * u[b, c, s], plus skip[c] * u[b, c, t].

    Sums in float64 and O(length^2), by the definition; every other implementation is tested against it.

    Args:
        u: (batch, channels, length).
        kernel: (channels, length).
        skip: (channels,), or None for no direct term.

    Returns:
        (batch, channels, length), in the dtype of `u`.
    """
    wide_u, wide_kernel = u.double(), kernel.double()
    outputs = [
        (wide_u[..., : t + 1] * wide_kernel[:, : t + 1].flip(-1)).sum(-1)  # s = 0..t meets kernel[t - s]
        for t in range(u.shape[-1])
    ]
    y = torch.stack(outputs, dim=-1)
    if skip is not None:
        y = y + skip.double()[:, None] * wide_u
    return y.to(u.dtype)
