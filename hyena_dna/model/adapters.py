"""Linear layers whose matrix has a low-rank update beside it (Hu et al. 2021, arXiv:2106.09685; made by peft).

An adapted layer adds the update in its `forward`. Code that multiplies with the matrix itself, as the Hyena operator
does group by group, would miss it without a word; it asks here instead.
"""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["linear_after_norm", "linear_weight"]


def linear_weight(layer: nn.Module) -> torch.Tensor:
    """The matrix that a linear layer multiplies with, (out, in), its update included where it has one.

    Args:
        layer: an `nn.Linear`, or what peft put in its place.
    """
    weight, adapters = layer.weight, getattr(layer, "lora_A", None)
    assert isinstance(weight, torch.Tensor)
    if not adapters:
        return weight
    merged = layer.merged_adapters
    assert isinstance(merged, list)
    if layer.disable_adapters:
        # Its own `forward` takes the update out of the matrix, which threads beside this one may be reading.
        for adapter in merged:
            weight = weight - layer.get_delta_weight(adapter)  # type: ignore[operator]
        return weight
    if merged:
        return weight
    for adapter in layer.active_adapters:  # type: ignore[union-attr]
        if adapter in adapters:
            weight = weight + layer.get_delta_weight(adapter)  # type: ignore[operator]
    return weight


def linear_after_norm(layer: nn.Module, norm: nn.LayerNorm | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Matrix and bias of a linear layer that has taken over the gain and the offset of the norm in front of it.

    Args:
        layer: as for `linear_weight`.
        norm: the norm; None for the layer as it is.

    Returns:
        (out, in) and (out,).
    """
    weight, bias = linear_weight(layer), layer.bias
    assert isinstance(bias, torch.Tensor)
    if norm is None:
        return weight, bias
    # A product of matrices would be rounded by autocast.
    return weight * norm.weight, bias + (weight * norm.bias).sum(1)
