"""Triton kernels of embedding and head, which know few tokens: products with one-hot tokens, cross-entropy."""

from __future__ import annotations

import triton
import triton.language as tl

from hyena_dna.ops.split_kernels import halves, split_dot

__all__ = ["embedding_backward", "head_loss_backward", "head_loss_forward"]


@triton.jit
def embedding_backward(
    grad, ids, partial, rows, width, per_program, PADDED: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr
):
    """Sums of `grad` (rows, width) by token over a share of the rows, `partial` (programs, PADDED, width)."""
    column = tl.arange(0, WIDTH)
    token = tl.arange(0, PADDED)
    total = tl.zeros((PADDED, WIDTH), dtype=tl.float32)
    for block in range(tl.program_id(0) * per_program, (tl.program_id(0) + 1) * per_program):
        row = block * ROWS + tl.arange(0, ROWS)
        inside = (row < rows)[:, None] & (column < width)[None, :]
        at = row.to(tl.int64)[:, None] * width + column[None, :]
        g = tl.load(grad + at, mask=inside, other=0.0).to(tl.float32)
        found = tl.load(ids + row, mask=row < rows, other=0).to(tl.int32)
        hot = (token[:, None] == found[None, :]).to(tl.float32)
        total = tl.dot(hot, g, total, input_precision="tf32x3")
    base = partial + tl.program_id(0) * (PADDED * width)
    tl.store(base + token[:, None] * width + column[None, :], total, mask=(column < width)[None, :])


@triton.jit
def _log_softmax(xh, xl, head, width, VOCAB: tl.constexpr, PADDED: tl.constexpr, WIDTH: tl.constexpr):
    """Of the logits x head^T, (ROWS, PADDED) float32; `head` (2, PADDED, width), its halves."""
    column = tl.arange(0, WIDTH)
    token = tl.arange(0, PADDED)
    at = token[None, :] * width + column[:, None]
    inside = (column < width)[:, None]
    wh = tl.load(head + at, mask=inside, other=0.0)
    wl = tl.load(head + PADDED * width + at, mask=inside, other=0.0)
    logits = tl.where((token < VOCAB)[None, :], split_dot(xh, xl, wh, wl), float("-inf"))
    peak = tl.max(logits, axis=1)
    total = peak + tl.log(tl.sum(tl.exp(logits - peak[:, None]), axis=1))
    return logits - total[:, None]


@triton.jit
def _head_tile(
    hidden, targets, share, block, rows, width, PADDED: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr
):
    """Halves of states, one-hot targets and weights of a block of tokens."""
    row = block * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    at = row.to(tl.int64)[:, None] * width + column[None, :]
    inside = (row < rows)[:, None] & (column < width)[None, :]
    xh, xl = halves(tl.load(hidden + at, mask=inside, other=0.0).to(tl.float32))
    target = tl.load(targets + row, mask=row < rows, other=0).to(tl.int32)
    part = tl.load(share + row, mask=row < rows, other=0.0)
    return at, inside, xh, xl, tl.arange(0, PADDED)[None, :] == target[:, None], part


@triton.jit
def head_loss_forward(
    hidden, head, targets, share, partial, rows, width, per_program,
    VOCAB: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Sums of weighted negative log-likelihoods, nats, one float64 per program."""
    total = tl.zeros((ROWS,), dtype=tl.float64)
    for block in range(tl.program_id(0) * per_program, (tl.program_id(0) + 1) * per_program):
        _, _, xh, xl, hot, part = _head_tile(hidden, targets, share, block, rows, width, PADDED, ROWS, WIDTH)
        log_p = _log_softmax(xh, xl, head, width, VOCAB, PADDED, WIDTH)
        total -= (tl.sum(tl.where(hot, log_p, 0.0), axis=1) * part).to(tl.float64)
    tl.store(partial + tl.program_id(0), tl.sum(total, axis=0))


@triton.jit
def head_loss_backward(
    hidden, head, targets, share, factor, d_hidden, partial, rows, width, per_program,
    VOCAB: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Gradients of `factor` times the sum; `partial` (programs, PADDED, width) of the head."""
    # Applied to results: gradients of a mean over many tokens are less than float16 holds.
    scale = tl.load(factor).to(tl.float32)
    column = tl.arange(0, WIDTH)
    of_head = tl.arange(0, PADDED)[:, None] * width + column[None, :]
    d_head = tl.zeros((PADDED, WIDTH), dtype=tl.float32)
    for block in range(tl.program_id(0) * per_program, (tl.program_id(0) + 1) * per_program):
        at, inside, xh, xl, hot, part = _head_tile(hidden, targets, share, block, rows, width, PADDED, ROWS, WIDTH)
        p = tl.exp(_log_softmax(xh, xl, head, width, VOCAB, PADDED, WIDTH))
        gh, gl = halves(tl.where(hot, p - 1.0, p) * part[:, None])
        d_head += split_dot(tl.trans(gh), tl.trans(gl), xh, xl)
        wh = tl.load(head + of_head, mask=(column < width)[None, :], other=0.0)
        wl = tl.load(head + PADDED * width + of_head, mask=(column < width)[None, :], other=0.0)
        d_x = split_dot(gh, gl, wh, wl) * scale
        tl.store(d_hidden + at, d_x.to(d_hidden.dtype.element_ty), mask=inside)
    base = partial + tl.program_id(0) * (PADDED * width)
    tl.store(base + of_head, d_head * scale, mask=(column < width)[None, :])
