"""The delta method through fused kernels in float32 accuracy; the definition is `hyena_dna.inference.delta`."""

from __future__ import annotations

import torch

from hyena_dna.inference.delta import Batch, DeltaScorer
from hyena_dna.inference.fused_block import fused_blocks
from hyena_dna.inference.reference_pass import LayerTail
from hyena_dna.model.model import HyenaDNA
from hyena_dna.ops.fused_gate import ReferenceCut, fused_change

__all__ = ["FusedDeltaScorer"]


class FusedDeltaScorer(DeltaScorer):
    """Scores batches of variants against reference passes, as `DeltaScorer` does.

    Args:
        model: a float32 model of Hyena operators in evaluation mode; its weights must not change while this is in use.
    """

    def __init__(self, model: HyenaDNA) -> None:
        super().__init__(model)
        self._fused = fused_blocks(model)

    def _mix(self, layer: int, kept: LayerTail, stream: torch.Tensor, batch: Batch) -> torch.Tensor:
        block = self._fused[layer]
        config = block.operator.config
        batch.take_past(kept, stream)
        *gates, v = block.project(stream, block.moments(stream), slice(0, config.order + 1))
        where = ReferenceCut(batch.rows, batch.at, batch.outside, batch.alleles)
        room = self._filters.padded(v.values[..., batch.past :])
        source = room[..., : batch.columns]
        partner = None if config.leading_conv else gates[config.order - 1]
        fused_change(v, partner, where, source, source=kept.sources[0])
        for index in range(config.n_filters):
            change = self._filters.convolve(layer, index, room, batch.columns)
            gate, result = gates[block.gate(index + 1)], kept.results[index]
            after = kept.sources[index + 1] if index + 1 < config.n_filters else None
            out = torch.empty_like(change, memory_format=torch.contiguous_format) if after is None else source
            z = fused_change(gate, change, where, out, result=result, source=after)
        return z

    def _add(self, layer: int, stream: torch.Tensor, mixed: torch.Tensor) -> None:
        self._fused[layer].add(stream, mixed, past=self._past)
