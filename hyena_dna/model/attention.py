"""Causal self-attention with rotary positions, for comparison in the same backbone."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from hyena_dna.model.config import HyenaConfig

__all__ = ["Attention", "rotate"]

_ROTARY_BASE = 10_000.0


class Attention(nn.Module):
    """Multi-head causal attention; a drop-in replacement of the Hyena operator, O(length^2)."""

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.in_proj = nn.Linear(config.d_model, 3 * config.d_model)
        self.out_proj = nn.Linear(config.d_model, config.d_model)

    def forward(self, u: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
        """Mix positions.

        Args:
            u: (batch, length, d_model).
            padding: (batch, length), true where a row has ended; such positions are zeroed, so that a masked value
                that is not finite cannot spread. None where no row is padded.

        Returns:
            (batch, length, d_model); padded positions hold finite values without meaning.
        """
        if padding is not None:
            u = u.masked_fill(padding[..., None], 0)
        heads = self.in_proj(u).unflatten(-1, (3, self.num_heads, -1))  # (batch, length, 3, heads, width)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(rotate(query), rotate(key), value, is_causal=True)
        y: torch.Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return y


def rotate(x: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding (Su et al. 2021): rotate each pair of features by position times a frequency.

    Feature i is paired with feature i + width / 2; the pair turns by position / 10,000^(2 i / width) radians. Angles
    are float32 under every autocast.

    Args:
        x: (..., length, width), width even.

    Returns:
        (..., length, width), in the dtype of `x`.
    """
    length, width = x.shape[-2:]
    exponents = torch.arange(0, width, 2, dtype=torch.float32, device=x.device) / width
    positions = torch.arange(length, dtype=torch.float32, device=x.device)
    angles = torch.outer(positions, _ROTARY_BASE**-exponents)
    cos, sin = angles.cos(), angles.sin()
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1).to(x.dtype)
