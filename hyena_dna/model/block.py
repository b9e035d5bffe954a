"""One block: a mixer over positions, then an MLP over channels, around a residual stream."""

from __future__ import annotations

import torch
from torch import nn

from hyena_dna.model.attention import Attention
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.mlp import Mlp
from hyena_dna.model.operator import HyenaOperator

__all__ = ["Block", "add_residual"]


class Block(nn.Module):
    """Pre-norm block that carries the residual stream apart from the branch that is yet to be added.

    Args:
        config: the model.
        first: whether this is the first block, whose input is the embeddings with a dropout of their own.
    """

    def __init__(self, config: HyenaConfig, *, first: bool) -> None:
        super().__init__()
        self.residual_in_fp32 = config.residual_in_fp32
        self.dropout1 = nn.Dropout(config.embed_dropout if first else config.resid_dropout)
        self.norm1 = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.mixer = Attention(config) if config.mixer == "attention" else HyenaOperator(config)
        self.dropout2 = nn.Dropout(config.resid_dropout)
        self.norm2 = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.mlp = Mlp(config)

    def forward(
        self, hidden: torch.Tensor, residual: torch.Tensor | None, padding: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the block.

        Args:
            hidden: (batch, length, d_model), the last branch: embeddings or the MLP output of the block before.
            residual: (batch, length, d_model), the sum of all branches before, or None at the first block.
            padding: (batch, length), true where a row has ended, or None.

        Returns:
            The MLP output and the residual stream that it is to be added to, both (batch, length, d_model).
        """
        residual = add_residual(self.dropout1(hidden), residual, self.residual_in_fp32)
        hidden = self.mixer(self.norm1(residual.to(self.norm1.weight.dtype)), padding)
        residual = add_residual(self.dropout2(hidden), residual, self.residual_in_fp32)
        return self.mlp(self.norm2(residual.to(self.norm2.weight.dtype))), residual


def add_residual(branch: torch.Tensor, residual: torch.Tensor | None, in_fp32: bool) -> torch.Tensor:
    """Add a branch to the residual stream, which `in_fp32` keeps at float32 or better.

    Args:
        branch: (batch, length, d_model).
        residual: (batch, length, d_model), or None to start a stream.
        in_fp32: whether the stream is float32 where its parts have fewer bits.
    """
    total = branch if residual is None else branch + residual
    return total.to(torch.promote_types(total.dtype, torch.float32)) if in_fp32 else total
