"""AdamW with the parameter groups of implicit-filter models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from hyena_dna.training.config import OptimConfig

__all__ = ["build_optimizer", "clip_coefficient", "is_decayed", "is_filter", "set_lr_scale"]


def is_filter(name: str) -> bool:
    """Whether a parameter belongs to an implicit filter: its network, its sine frequencies, or its skip term."""
    return ".filter_fn." in name


def is_decayed(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies to a parameter.

    Only matrices of the projections and the MLP, and the taps of the short convolution, are pulled to zero. Norms and
    biases set scales and offsets, rows of rare tokens would fade, and the filter network describes a function, the
    smoothness of which is not a matter of small weights.
    """
    return parameter.ndim >= 2 and not is_filter(name) and "embeddings" not in name and not name.startswith("lm_head")


def build_optimizer(model: nn.Module, config: OptimConfig) -> AdamW:
    """AdamW over three groups: decayed, not decayed, and filters (never decayed, with a learning rate of their own).

    Each group carries its `peak_lr`, from which `set_lr_scale` makes the rate of a step, and the `names` of its
    parameters. Parameters on a GPU get the fused update, which also keeps the loss scale of fp16 on the device.
    """
    filter_lr = config.lr if config.filter_lr is None else config.filter_lr
    wanted = (("decayed", config.lr, config.weight_decay), ("plain", config.lr, 0.0), ("filter", filter_lr, 0.0))
    members: dict[str, list[tuple[str, nn.Parameter]]] = {kind: [] for kind, _, _ in wanted}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kind = "filter" if is_filter(name) else "decayed" if is_decayed(name, parameter) else "plain"
            members[kind].append((name, parameter))
    groups: list[dict[str, Any]] = [
        {
            "params": [parameter for _, parameter in members[kind]],
            "names": [name for name, _ in members[kind]],
            "lr": lr,
            "peak_lr": lr,
            "weight_decay": decay,
        }
        for kind, lr, decay in wanted
        if members[kind]
    ]
    fused = all(parameter.is_cuda for parameter in model.parameters())
    return AdamW(groups, lr=config.lr, betas=config.betas, fused=fused)


def set_lr_scale(optimizer: torch.optim.Optimizer, scale: float) -> None:
    """Set every group's learning rate to `scale` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * scale


def clip_coefficient(gradients: Iterable[Tensor], factor: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """Norm of `factor` times the gradients, and what to multiply them with so that it stays within `limit`.

    Everything stays on the device: nothing waits for the GPU.

    Returns:
        The norm before clipping (float32 scalar) and the multiplier (float32 scalar), `factor` included.
    """
    norm = torch.nn.utils.get_total_norm(list(gradients)) * factor
    return norm, factor * (limit / (norm + 1e-6)).clamp(max=1.0)
