"""The next-token loss straight from hidden states."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional as F

from hyena_dna.ops.tier import is_fused

__all__ = ["MOST_FUSED_TOKENS", "WeightedLoss", "next_token_loss"]

MOST_FUSED_TOKENS = 16
"""Tokens that the fused kernels of embedding and head take."""


class WeightedLoss(NamedTuple):
    """A loss that is still to be divided, so that ranks and micro-batches can be added first."""

    loss_sum: torch.Tensor
    """Sum over tokens of weight times negative log-likelihood, in nats; float64 scalar."""

    weight_sum: torch.Tensor
    """Sum of the weights; float64 scalar."""


def next_token_loss(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    loss_weight: torch.Tensor,
    *,
    vocab: int = 12,
    chunk: int = 65_536,
) -> WeightedLoss:
    """Cross-entropy of the LM head over the real tokens, without the logits of the whole batch in memory at once.

    The head and its log-softmax run in float32 under every autocast, sums in float64. Padded rows of the embedding
    matrix take no part.

    Args:
        hidden: (batch, length, d_model), final hidden states.
        weight: (padded vocab, d_model), the LM head.
        targets: (batch, length), token ids below `vocab`, uint8 or any integer dtype.
        loss_weight: (batch, length), weight of every target; 0 excludes it.
        vocab: number of real tokens, the first rows of `weight`.
        chunk: tokens whose logits are computed at once.

    Raises:
        ValueError: shapes do not fit each other.
    """
    if not hidden.shape[:-1] == targets.shape == loss_weight.shape:
        raise ValueError(
            f"hidden {tuple(hidden.shape)}, targets {tuple(targets.shape)} and loss_weight "
            f"{tuple(loss_weight.shape)} do not agree in batch and length"
        )
    weight_sum = loss_weight.sum(dtype=torch.float64)
    if vocab <= MOST_FUSED_TOKENS and torch.float64 not in (hidden.dtype, weight.dtype) and is_fused(hidden.device):
        # Triton is there on GPUs only.
        from hyena_dna.ops.fused_tokens import fused_head_loss

        return WeightedLoss(fused_head_loss(hidden, weight, targets, loss_weight, vocab), weight_sum)
    loss_sum = torch.zeros((), dtype=torch.float64, device=hidden.device)
    with torch.autocast(hidden.device.type, enabled=False):
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        head = weight[:vocab].to(dtype)
        for states, target, share in zip(
            torch.split(hidden.flatten(0, -2), chunk),
            torch.split(targets.flatten(), chunk),
            torch.split(loss_weight.flatten(), chunk),
            strict=True,
        ):
            nats = F.cross_entropy(F.linear(states.to(dtype), head), target.long(), reduction="none")
            loss_sum = loss_sum + (nats * share.to(dtype)).sum(dtype=torch.float64)
    return WeightedLoss(loss_sum, weight_sum)
