"""Kernels of long convolutions, or their gradients, as float16 with one factor for every channel."""

from __future__ import annotations

from typing import NamedTuple

import torch

__all__ = ["ScaledKernel"]


class ScaledKernel(NamedTuple):
    """Kernels are `values` times `scale`.

    The convolution's operands are float16 whatever it is given, and every channel has a scale of its own in them: so
    much of a kernel is lost anyway, and half the bytes of a million positions need not be moved.
    """

    values: torch.Tensor
    """(channels, length), float16 or float32."""

    scale: torch.Tensor
    """(channels,), float32."""
