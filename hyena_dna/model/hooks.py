"""Whether someone waits for what passes through modules, which shortcuts past them would not show."""

from __future__ import annotations

from torch import nn

__all__ = ["has_hooks"]


def has_hooks(module: nn.Module) -> bool:
    """Whether anyone waits for what passes through a module or its children."""
    return any(
        child._forward_hooks or child._forward_pre_hooks or child._backward_hooks or child._backward_pre_hooks
        for child in module.modules()
    )
