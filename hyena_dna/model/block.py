"""One block: a mixer over positions, then an MLP over channels, around a residual stream."""

from __future__ import annotations

import torch
from torch import nn

from hyena_dna.model.adapters import linear_after_norm, linear_weight
from hyena_dna.model.attention import Attention
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.hooks import has_hooks
from hyena_dna.model.mlp import Mlp
from hyena_dna.model.operator import HyenaOperator
from hyena_dna.ops.tier import is_fused
from hyena_dna.ops.workspace import Tile

__all__ = ["Block", "add_norm"]


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
            The MLP output and the residual stream that it is to be added to, both (batch, length, d_model). The bias of
            that output is in the one or in the other: it is their sum that means something.
        """
        if self._is_fused(hidden, residual):
            return self._fused(self.dropout1(hidden), residual, padding)
        normed, residual = add_norm(self.dropout1(hidden), residual, self.norm1, self.residual_in_fp32)
        mixed = self.dropout2(self.mixer(normed, padding))
        normed, residual = add_norm(mixed, residual, self.norm2, self.residual_in_fp32)
        return self.mlp(normed), residual

    def _is_fused(self, hidden: torch.Tensor, residual: torch.Tensor | None) -> bool:
        """Whether `_fused` serves this input: with autograd, where nobody waits for what passes through the inside."""
        return (
            type(self.mixer) is HyenaOperator
            and type(self.mlp) is Mlp
            and torch.is_grad_enabled()
            and self.mixer.is_fused(hidden)
            and _takes_fused_norm(hidden, residual, self.norm1, self.residual_in_fp32)
            # A bias in the stream escapes the dropout of its branch, which is here or in what follows.
            and self.dropout2.p == 0
            and not has_hooks(self)
        )

    def _fused(
        self, hidden: torch.Tensor, residual: torch.Tensor | None, padding: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`forward` with less to move and to keep.

        Linear layers take over gains and offsets of the norms. Biases of both branches come in with the second norm,
        which sums their gradients: that of the MLP is in the stream before its branch is.
        """
        # Triton is there on GPUs only.
        from hyena_dna.ops.fused_rows import fused_add_unit, fused_mlp

        mixer, mlp, dtype = self.mixer, self.mlp, torch.get_autocast_dtype("cuda")
        assert isinstance(mixer, HyenaOperator)
        unit, residual = fused_add_unit(hidden, residual, self.norm1.eps, dtype)
        mixed = mixer.mix_fused(unit, padding, self.norm1, has_bias=False)
        biases = mixer.out_proj.bias, mlp.fc2.bias
        unit, residual = fused_add_unit(mixed, residual, self.norm2.eps, dtype, biases)
        return fused_mlp(unit, *linear_after_norm(mlp.fc1, self.norm2), linear_weight(mlp.fc2), None), residual

    def is_tiled(self, stream: torch.Tensor) -> bool:
        """Whether `advance` serves this input; where hooks wait for whole tensors inside the block it does not."""
        return (
            type(self.mixer) is HyenaOperator
            and self.mixer.is_tiled(stream)
            and not self.training
            and not has_hooks(self)
        )

    def advance(self, stream: torch.Tensor, padding: torch.Tensor | None = None) -> None:
        """Add both branches to the residual stream in place, a tile of positions at a time, for inference.

        Args:
            stream: (batch, length, d_model), the sum of all branches before; of all after.
            padding: (batch, length), true where a row has ended, or None.
        """
        assert isinstance(self.mixer, HyenaOperator)

        def add(tile: Tile, mixed: torch.Tensor) -> None:
            part = stream[tile]
            part += mixed
            part += self.mlp(self.norm2(part))

        self.mixer.mix_tiles(lambda tile: self.norm1(stream[tile]), add, stream, padding)


def add_norm(
    branch: torch.Tensor,
    residual: torch.Tensor | None,
    norm: nn.LayerNorm,
    in_fp32: bool,
    *,
    feeds_linear: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add a branch to the residual stream, which `in_fp32` keeps at float32 or better, and normalise the sum.

    Args:
        branch: (batch, length, d_model).
        residual: (batch, length, d_model), or None to start a stream.
        norm: the layer norm that reads the stream.
        in_fp32: whether the stream is float32 where its parts have fewer bits.
        feeds_linear: whether a linear layer reads the normalised sum, which autocast would round for it anyway.

    Returns:
        The normalised sum, for the branch that follows, and the sum.
    """
    if _takes_fused_norm(branch, residual, norm, in_fp32):
        # Triton is there on GPUs only.
        from hyena_dna.ops.fused_rows import fused_add_norm

        lower = feeds_linear and torch.is_autocast_enabled("cuda")
        dtype = torch.get_autocast_dtype("cuda") if lower else torch.float32
        return fused_add_norm(branch, residual, norm.weight, norm.bias, norm.eps, dtype)
    total = branch if residual is None else branch + residual
    if in_fp32:
        total = total.to(torch.promote_types(total.dtype, torch.float32))
    return norm(total.to(norm.weight.dtype)), total


def _takes_fused_norm(branch: torch.Tensor, residual: torch.Tensor | None, norm: nn.LayerNorm, in_fp32: bool) -> bool:
    single = all(value is None or value.dtype == torch.float32 for value in (residual, norm.weight))
    return in_fp32 and single and branch.dtype != torch.float64 and is_fused(branch.device)
