"""The stack of blocks between embeddings and heads."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from hyena_dna.errors import InputError
from hyena_dna.model.block import Block, add_norm
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.hooks import has_hooks
from hyena_dna.ops.losses import MOST_FUSED_TOKENS
from hyena_dna.ops.tier import is_fused

__all__ = ["Backbone", "BackboneOutput", "Embeddings"]


class BackboneOutput(NamedTuple):
    """What the backbone computes."""

    hidden: torch.Tensor
    """(batch, length, d_model), after the final norm."""

    residuals: tuple[torch.Tensor, ...] | None
    """The residual stream after every block, before the next norm, each (batch, length, d_model); None unless asked."""


class Embeddings(nn.Module):
    """Token embeddings; positions are known to the mixers alone."""

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.padded_vocab_size, config.d_model)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """(batch, length) of any integer dtype -> (batch, length, d_model)."""
        if input_ids.dtype not in (torch.int32, torch.int64):
            input_ids = input_ids.int()
        table = self.word_embeddings
        trained = torch.is_grad_enabled() and table.weight.requires_grad and table.weight.dtype == torch.float32
        plain = type(table) is nn.Embedding and table.num_embeddings <= MOST_FUSED_TOKENS and not has_hooks(table)
        if trained and plain and is_fused(input_ids.device):
            # Triton is there on GPUs only.
            from hyena_dna.ops.fused_tokens import fused_embedding

            return fused_embedding(input_ids, table.weight)
        embedded: torch.Tensor = table(input_ids)
        return embedded


class Backbone(nn.Module):
    """Embeddings, `n_layer` blocks, and the final norm.

    Attributes:
        recompute: keep only the input of every block for the backward pass and compute its inside again.
    """

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Block(config, first=index == 0) for index in range(config.n_layer))
        self.dropout = nn.Dropout(config.resid_dropout)
        self.ln_f = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.recompute = False

    def forward(
        self,
        embedded: torch.Tensor,
        *,
        lengths: torch.Tensor | None = None,
        output_residuals: bool = False,
        overwrite: bool = False,
    ) -> BackboneOutput:
        """Run all blocks.

        Args:
            embedded: (batch, length, d_model), length at most `max_length`.
            lengths: (batch,), number of real positions of every row, the rest being padding on the right; None where
                no row is padded.
            output_residuals: also return the residual stream after every block.
            overwrite: whether `embedded` may be written to where no gradients are needed.

        Raises:
            InputError: the input is empty or longer than `max_length`, or shapes do not fit.
        """
        self._check(embedded, lengths)
        padding = None if lengths is None else _padding(lengths.to(embedded.device), embedded.shape[1])
        hidden, residual = embedded, None
        residuals: list[torch.Tensor] = []
        for layer in self.layers:
            assert isinstance(layer, Block)
            if layer.is_tiled(hidden):
                if residual is not None:
                    hidden, residual = hidden + residual, None
                elif layer is self.layers[0] and (not overwrite or has_hooks(self.embeddings)):
                    hidden = hidden.clone()
                layer.advance(hidden, padding)
            elif self.recompute and torch.is_grad_enabled():
                # A pass that is recorded draws no random numbers, whose state it could not save.
                preserved = not (hidden.is_cuda and torch.cuda.is_current_stream_capturing())
                hidden, residual = checkpoint(
                    layer, hidden, residual, padding, use_reentrant=False, preserve_rng_state=preserved
                )
            else:
                hidden, residual = layer(hidden, residual, padding)
            if output_residuals:
                residuals.append(hidden.clone() if residual is None else hidden + residual)
        in_fp32 = self.config.residual_in_fp32
        hidden, _ = add_norm(self.dropout(hidden), residual, self.ln_f, in_fp32, feeds_linear=False)
        return BackboneOutput(hidden, tuple(residuals) if output_residuals else None)

    def _check(self, embedded: torch.Tensor, lengths: torch.Tensor | None) -> None:
        if embedded.dim() != 3 or embedded.shape[-1] != self.config.d_model:
            raise InputError(f"embeddings are (batch, length, {self.config.d_model}), not {tuple(embedded.shape)}")
        length, longest = embedded.shape[1], self.config.max_length
        if length == 0:
            raise InputError("the input is empty")
        if length > longest:
            raise InputError(
                f"the input has {length:,} tokens, the model takes at most {longest:,}",
                remedy="use shorter windows or a model with a longer context",
            )
        if lengths is not None and lengths.shape != embedded.shape[:1]:
            raise InputError(f"lengths are (batch,) = ({len(embedded)},), not {tuple(lengths.shape)}")


def _padding(lengths: torch.Tensor, length: int) -> torch.Tensor:
    return torch.arange(length, device=lengths.device) >= lengths[:, None]
