"""Whether someone waits for what passes through modules, which shortcuts past them would not show."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.module import _has_any_global_hook

__all__ = ["has_hooks"]


def has_hooks(module: nn.Module) -> bool:
    """Whether anyone waits for what passes through a module or its children, or runs something else in their place."""
    return bool(_has_any_global_hook()) or any(  # type: ignore[no-untyped-call]
        "forward" in vars(child)
        or child._forward_hooks
        or child._forward_pre_hooks
        or child._backward_hooks
        or child._backward_pre_hooks
        for child in module.modules()
    )
