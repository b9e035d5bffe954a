"""A block of the reference pass through fused kernels in float32 accuracy; the definition is in `reference_pass`."""

from __future__ import annotations

import torch

from hyena_dna.inference.fused_block import FusedBlock
from hyena_dna.inference.reference_pass import LayerTail, Stretch, cut_out
from hyena_dna.ops.fused_gate import fused_gate
from hyena_dna.ops.long_conv import long_conv

__all__ = ["run_fused_block"]


def run_fused_block(
    block: FusedBlock, stream: torch.Tensor, stretch: Stretch, *, keep_gates: bool, cut: bool
) -> tuple[LayerTail, torch.Tensor]:
    """Run a block over reference windows.

    Args:
        block: the block.
        stream: (windows, length, d_model), float32, contiguous; overwritten.
        stretch: what to keep.
        keep_gates: whether to keep the gates after the long convolutions.
        cut: whether to compute outputs for the kept positions only.

    Returns:
        What is kept, and the stream after the block: (windows, length, d_model), or of the kept positions that lie
        inside the window.
    """
    operator = block.operator
    config, length = operator.config, stream.shape[1]
    whole, margin = Stretch(0, length), config.short_filter_length - 1
    low, high = max(0, stretch.start), min(length, stretch.end)
    tail = LayerTail(cut_out(stream, 1, whole, stretch), [], [], [])
    kernels = operator.filter_fn(length)
    skips = operator.filter_fn.skips
    moments = block.moments(stream)
    first = config.order if config.leading_conv else config.order - 1
    *gates, v = block.project(stream, moments, slice(first, config.order + 1))
    z = fused_gate(v, gates[0] if gates else None)
    del gates, v
    for index in range(config.n_filters):
        tail.sources.append(cut_out(z, 2, whole, stretch))
        z = long_conv(z, kernels[index], skips[index], impl=operator.impl)
        tail.results.append(cut_out(z, 2, whole, stretch))
        group = block.gate(index + 1)
        held = whole
        if cut and index == config.n_filters - 1:
            held = Stretch(low, high)
            before = min(low, margin)
            part = stream[:, low - before : high]
            (gate,) = block.project(part, block.moments(part), slice(group, group + 1))
            z, values = z[..., low:high], fused_gate(gate, None)[..., before:]
        else:
            (gate,) = block.project(stream, moments, slice(group, group + 1))
            if not keep_gates:
                z = fused_gate(gate, z)
                continue
            values = fused_gate(gate, None)
        if keep_gates:
            tail.gates.append(cut_out(values, 2, held, stretch))
        z = z * values
    if cut:
        stream = stream[:, low:high].contiguous()
    block.add(stream, z)
    return tail, stream
