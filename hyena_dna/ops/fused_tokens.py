"""Both ends of the model, embedding and head with cross-entropy, through kernels with their own backward passes.

The definitions that they are tested against are `torch.nn.functional.embedding` and `hyena_dna.ops.losses`. Sums over
positions are made per program and added in one order, so results are deterministic.
"""

from __future__ import annotations

from typing import Any

import torch
import triton

from hyena_dna.ops import token_kernels as kernels
from hyena_dna.ops.fused_linear import halves
from hyena_dna.ops.losses import MOST_FUSED_TOKENS
from hyena_dna.ops.shares import shares

__all__ = ["fused_embedding", "fused_head_loss"]

# Enough programs for every multiprocessor to hold several, so that one computes while another loads, and few enough
# that their sums are small.
_PROGRAMS = 1056
# Positions of one product, by kernel, the fastest by measurement.
_FORWARD_ROWS = 64
_BACKWARD_ROWS = 16
_Gradients = tuple[torch.Tensor | None, ...]


def fused_embedding(ids: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Rows of a small table, with gradients that are summed in one order, which those of `embedding` are not.

    Args:
        ids: (batch, length), int32 or int64, below the rows of `weight`.
        weight: (tokens, d_model), at most `MOST_FUSED_TOKENS` rows.

    Returns:
        (batch, length, d_model), in the dtype of `weight`.
    """
    embedded: torch.Tensor = _Embedding.apply(ids, weight)  # type: ignore[no-untyped-call]
    return embedded


def fused_head_loss(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, loss_weight: torch.Tensor, vocab: int
) -> torch.Tensor:
    """Weighted sum of next-token losses in nats (float64 scalar), without logits in memory.

    Args:
        hidden: (batch, length, d_model).
        weight: (padded vocab, d_model), float32; rows from `vocab` on take no part and get no gradient.
        targets: (batch, length), uint8 or any integer dtype.
        loss_weight: (batch, length), float32.
        vocab: number of real tokens, at most `MOST_FUSED_TOKENS`.
    """
    total: torch.Tensor = _HeadLoss.apply(hidden, weight, targets, loss_weight, vocab)  # type: ignore[no-untyped-call]
    return total


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(ids)
        ctx.table = weight.shape
        return torch.nn.functional.embedding(ids, weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> _Gradients:
        (ids,) = ctx.saved_tensors
        tokens, width = ctx.table
        programs, per_program = shares(triton.cdiv(ids.numel(), _BACKWARD_ROWS), _PROGRAMS)
        partial = grad.new_empty((programs, MOST_FUSED_TOKENS, width), dtype=torch.float32)
        kernels.embedding_backward[(programs,)](
            grad.contiguous(), ids.contiguous(), partial, ids.numel(), width, per_program,
            **_launch(width, _BACKWARD_ROWS),
        )  # fmt: skip
        return None, partial.sum(0)[:tokens].to(grad.dtype)


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        loss_weight: torch.Tensor,
        vocab: int,
    ) -> torch.Tensor:
        hidden, targets, loss_weight = hidden.contiguous(), targets.contiguous(), loss_weight.float().contiguous()
        ctx.save_for_backward(hidden, weight, targets, loss_weight)
        ctx.vocab = vocab
        rows, width = targets.numel(), hidden.shape[-1]
        programs, per_program = shares(triton.cdiv(rows, _FORWARD_ROWS), _PROGRAMS)
        partial = torch.empty(programs, dtype=torch.float64, device=hidden.device)
        kernels.head_loss_forward[(programs,)](
            hidden, _head_halves(weight, vocab), targets, loss_weight, partial, rows, width, per_program,
            VOCAB=vocab, **_launch(width, _FORWARD_ROWS),
        )  # fmt: skip
        return partial.sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> _Gradients:
        hidden, weight, targets, loss_weight = ctx.saved_tensors
        rows, width = targets.numel(), hidden.shape[-1]
        programs, per_program = shares(triton.cdiv(rows, _BACKWARD_ROWS), _PROGRAMS)
        d_hidden = torch.empty_like(hidden)
        partial = torch.empty((programs, MOST_FUSED_TOKENS, width), dtype=torch.float32, device=hidden.device)
        kernels.head_loss_backward[(programs,)](
            hidden, _head_halves(weight, ctx.vocab), targets, loss_weight, grad, d_hidden, partial, rows, width,
            per_program, VOCAB=ctx.vocab, **_launch(width, _BACKWARD_ROWS),
        )  # fmt: skip
        d_weight = torch.zeros_like(weight)
        d_weight[: ctx.vocab] = partial.sum(0)[: ctx.vocab]
        return d_hidden, d_weight, None, None, None


def _launch(width: int, rows: int) -> dict[str, int]:
    """Constants of the kernels."""
    return {"PADDED": MOST_FUSED_TOKENS, "ROWS": rows, "WIDTH": max(16, triton.next_power_of_2(width)), "num_stages": 1}


def _head_halves(weight: torch.Tensor, vocab: int) -> torch.Tensor:
    """The head as two float16 matrices that add up to it, (2, 16, d_model)."""
    head = weight.new_zeros((MOST_FUSED_TOKENS, weight.shape[1]), dtype=torch.float32)
    head[:vocab] = weight[:vocab]
    return torch.stack(halves(head))
