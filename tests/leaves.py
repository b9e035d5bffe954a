"""Tensors of which fused operators take gradients, in their precision and in float64."""

from __future__ import annotations

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def leaves(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """The same normal values each time, on a GPU if there is one."""
    torch.manual_seed(0)
    return [torch.randn(shape, device=DEVICE).to(dtype).requires_grad_() for shape in shapes]


def wide(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """The same values in float64, as leaves of their own."""
    return [tensor.detach().double().requires_grad_() for tensor in tensors]


def close(found: list[torch.Tensor], expected: list[torch.Tensor], limit: float) -> None:
    """Assert that relative L2 errors are within a limit."""
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.double() - theirs).norm() <= limit * theirs.norm()
