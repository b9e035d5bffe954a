"""The short convolution of the projections: depthwise, causal, a few taps."""

from __future__ import annotations

import torch

__all__ = ["MOST_FUSED_TAPS", "short_conv"]

MOST_FUSED_TAPS = 5
"""Taps that the fused kernels take: no further than from one aligned group of four positions into the next."""


def short_conv(u: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Convolve every channel with its own few taps, causally.

    y[b, c, t] = bias[c] + sum over j of weight[c, 0, taps - 1 - j] * u[b, c, t - j], with u = 0 before the sequence:
    what `torch.nn.functional.conv1d` gives with `groups=channels`, padded by `taps - 1` and cut to `length`. One
    multiply-add per tap is about twice as fast as the general depthwise convolution and needs no padded copy.

    Args:
        u: (batch, channels, length).
        weight: (channels, 1, taps).
        bias: (channels,).

    Returns:
        (batch, channels, length), in the dtype of `u`.
    """
    taps = weight.to(u.dtype).squeeze(1).unbind(-1)
    y = torch.addcmul(bias.to(u.dtype)[:, None], u, taps[-1][:, None])
    for shift, tap in enumerate(reversed(taps[:-1]), start=1):
        if shift < u.shape[-1]:
            y[..., shift:].addcmul_(u[..., :-shift], tap[:, None])
    return y
