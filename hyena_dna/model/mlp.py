"""The position-wise MLP of a block."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from hyena_dna.model.adapters import linear_weight
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.hooks import has_hooks
from hyena_dna.ops.cpu_linear import linear
from hyena_dna.ops.tier import is_fused
from hyena_dna.ops.workspace import map_rows, rows_per_chunk

__all__ = ["Mlp"]


class Mlp(nn.Module):
    """fc2(gelu(fc1(x))), with the tanh approximation of GELU as published."""

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.d_model, config.d_inner)
        self.fc2 = nn.Linear(config.d_inner, config.d_model)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, length, d_model) -> (batch, length, d_model); without autograd a chunk of positions at a time."""
        if torch.is_autocast_enabled(x.device.type) and is_fused(x.device) and not has_hooks(self):
            # Triton is there on GPUs only.
            from hyena_dna.ops.fused_rows import fused_mlp

            x = x.to(torch.get_autocast_dtype(x.device.type))
            return fused_mlp(x, linear_weight(self.fc1), self.fc1.bias, linear_weight(self.fc2), self.fc2.bias)
        if torch.is_grad_enabled():
            return self._transform(x)
        inner_bytes = 2 * self.fc1.out_features * x.element_size()
        return map_rows(self._transform, x.flatten(0, 1), rows_per_chunk(x.device, inner_bytes)).view(x.shape)

    def _transform(self, x: torch.Tensor) -> torch.Tensor:
        plain = type(self.fc1) is nn.Linear and type(self.fc2) is nn.Linear
        if (torch.is_grad_enabled() and not plain) or has_hooks(self):
            y: torch.Tensor = self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
            return y
        inner = linear(x, linear_weight(self.fc1), self.fc1.bias, gelu=True)
        return linear(inner, linear_weight(self.fc2), self.fc2.bias)
