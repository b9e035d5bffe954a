"""One pass over reference windows that keeps, of every layer, what scoring a variant in them needs.

A variant changes nothing before its first changed token, so only a stretch of each window is kept: from just before
the first position that any variant changes to the last position that any variant is scored at.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from hyena_dna.inference.likelihood import next_token_log_probs, pick_tokens
from hyena_dna.model.block import Block
from hyena_dna.model.model import HyenaDNA
from hyena_dna.model.operator import HyenaOperator
from hyena_dna.ops.cpu_linear import linear
from hyena_dna.ops.long_conv import long_conv
from hyena_dna.ops.tier import is_fused

__all__ = ["LayerTail", "ReferenceTail", "Stretch", "cut_out", "halo", "reference_pass", "runs_fused"]


class Stretch(NamedTuple):
    """Window positions that are kept, half-open. Positions outside the window are kept as zeros."""

    start: int
    end: int


class LayerTail(NamedTuple):
    """What is kept of one layer, for every window.

    Attributes:
        inputs: (windows, kept, d_model) the stream that enters the block, for the halo of its short convolution.
        sources: inputs of every long convolution, each (windows, d_model, kept).
        results: their outputs, skip term included, each (windows, d_model, kept).
        gates: the gate after each long convolution, each (windows, d_model, kept); kept of the first layer only, where
            a substitution leaves nearly all of them as they are.
    """

    inputs: torch.Tensor
    sources: list[torch.Tensor]
    results: list[torch.Tensor]
    gates: list[torch.Tensor]


class ReferenceTail(NamedTuple):
    """What is kept of a pass over reference windows.

    Attributes:
        stretch: the positions kept.
        layers: of every layer.
        hidden: (windows, kept, d_model) after the final norm.
        log_probs: (windows, kept, vocab_size) of the token after each position; zeros before the window.
        scores: (windows, kept) float64, log-probability of the reference's own token at each position; 0 at position
            0, which nothing predicts.
    """

    stretch: Stretch
    layers: list[LayerTail]
    hidden: torch.Tensor
    log_probs: torch.Tensor
    scores: torch.Tensor

    @property
    def nbytes(self) -> int:
        """Memory held."""
        tensors = [self.hidden, self.log_probs, self.scores]
        for layer in self.layers:
            tensors += [layer.inputs, *layer.sources, *layer.results, *layer.gates]
        return sum(tensor.nbytes for tensor in tensors)


def halo(model: HyenaDNA) -> int:
    """Positions before a change that its score reads: the short convolution's past, and the one that predicts it."""
    return max(1, model.config.short_filter_length - 1)


def runs_fused(model: HyenaDNA) -> bool:
    """Whether scoring with this model goes through the fused kernels, which compute in float32 accuracy."""
    weight = model.lm_head.weight
    return weight.dtype == torch.float32 and is_fused(weight.device)


def reference_pass(model: HyenaDNA, ids: torch.Tensor, stretch: Stretch) -> ReferenceTail:
    """Run the model over reference windows.

    The last layer computes outputs for the kept positions only.

    Args:
        model: a model of Hyena operators, in evaluation mode, inside `high_precision`.
        ids: (windows, length) token ids.
        stretch: what to keep.
    """
    stream = model.backbone.embeddings(ids)
    layers = []
    fused = runs_fused(model)
    for index, block in enumerate(model.backbone.layers):
        assert isinstance(block, Block)
        first, last = index == 0, index == len(model.backbone.layers) - 1
        if fused:
            # Triton is there on GPUs only.
            from hyena_dna.inference.fused_block import FusedBlock
            from hyena_dna.inference.fused_reference import run_fused_block

            tail, stream = run_fused_block(FusedBlock(block), stream, stretch, keep_gates=first, cut=last)
        else:
            tail, stream = _run_block(block, stream, stretch, keep_gates=first, cut=last)
        layers.append(tail)
    inside = slice(max(0, stretch.start), min(ids.shape[1], stretch.end))
    hidden = model.backbone.ln_f(stream)
    log_probs = next_token_log_probs(model, hidden)
    scores = torch.zeros(hidden.shape[:2], dtype=torch.float64, device=hidden.device)
    scores[:, 1:] = pick_tokens(log_probs[:, :-1], ids[:, inside][:, 1:])
    # The first score of a stretch that starts inside the window lacks its predictor; no variant is scored there.
    whole = Stretch(inside.start, inside.stop)
    return ReferenceTail(
        stretch, layers, cut_out(hidden, 1, whole, stretch), cut_out(log_probs, 1, whole, stretch),
        cut_out(scores, 1, whole, stretch),
    )  # fmt: skip


def _run_block(
    block: Block, stream: torch.Tensor, stretch: Stretch, *, keep_gates: bool, cut: bool
) -> tuple[LayerTail, torch.Tensor]:
    operator = block.mixer
    assert isinstance(operator, HyenaOperator)
    config, length = operator.config, stream.shape[1]
    whole = Stretch(0, length)
    low, high = max(0, stretch.start), min(length, stretch.end)
    u = block.norm1(stream)
    tail = LayerTail(cut_out(stream, 1, whole, stretch), [], [], [])
    kernels = operator.filter_fn(length)
    skips = operator.filter_fn.skips
    z = operator.project(u, config.order)
    for n in range(config.order):
        filter_index = n if config.leading_conv else n - 1
        if filter_index >= 0:
            tail.sources.append(cut_out(z, 2, whole, stretch))
            z = long_conv(z, kernels[filter_index], skips[filter_index], impl=operator.impl)
            tail.results.append(cut_out(z, 2, whole, stretch))
        group = config.order - 1 - n
        if cut and n == config.order - 1:
            margin = min(low, config.short_filter_length - 1)
            gate = operator.project(u[:, low - margin : high], group)[..., margin:]
            z = z[..., low:high]
            kept, held = Stretch(low, high), gate
        else:
            gate = operator.project(u, group)
            kept, held = whole, gate
        if keep_gates and filter_index >= 0:
            tail.gates.append(cut_out(held, 2, kept, stretch))
        z = z * gate
    stream = (stream[:, low:high] if cut else stream) + linear(
        z.transpose(1, 2), operator.out_proj.weight, operator.out_proj.bias
    )
    return tail, stream.add_(block.mlp(block.norm2(stream)))


def cut_out(x: torch.Tensor, dim: int, held: Stretch, wanted: Stretch) -> torch.Tensor:
    """The wanted positions of a tensor that holds others along a dimension, zero where it holds none; a copy."""
    shape = list(x.shape)
    shape[dim] = wanted.end - wanted.start
    low, high = max(held.start, wanted.start), min(held.end, wanted.end)
    if (low, high) == (wanted.start, wanted.end):
        return x.narrow(dim, low - held.start, high - low).clone(memory_format=torch.contiguous_format)
    padded = x.new_zeros(shape)
    padded.narrow(dim, low - wanted.start, high - low).copy_(x.narrow(dim, low - held.start, high - low))
    return padded
