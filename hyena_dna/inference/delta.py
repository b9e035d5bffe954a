"""Exact scores of variants from one reference pass and short local passes.

Before the first changed token p nothing changes, in any layer. So with z the input of a long convolution and c its
output, for the T scored positions from p on

    c_alt[p : p + T] = c_ref[p : p + T] + conv_T(z_alt - z_ref, h[:T]),

a convolution of T positions instead of the whole window, and everything else in the model works position by position
or reaches back by the few taps of the short convolution. This holds for any change, insertions and deletions included:
positions are those of the window, not of the genome. It is exact, and better conditioned than the difference of two
long transforms, whose rounding errors spread over the whole window.
"""

from __future__ import annotations

import numpy as np
import torch

from hyena_dna.inference.allele_summary import Tails, summarise
from hyena_dna.inference.likelihood import next_token_log_probs, pick_tokens
from hyena_dna.inference.local_filters import LocalFilters, operators
from hyena_dna.inference.reference_pass import LayerTail, ReferenceTail
from hyena_dna.model.block import Block
from hyena_dna.model.model import HyenaDNA
from hyena_dna.ops.cpu_linear import linear_channels_first
from hyena_dna.ops.short_conv import short_conv

__all__ = ["MOST_LOCAL", "Batch", "DeltaScorer"]

MOST_LOCAL = 8
"""Most changed tokens of a variant that counts as local, whose first layer is computed only around them."""


class DeltaScorer:
    """Scores batches of variants against reference passes.

    Args:
        model: a model of Hyena operators in evaluation mode; its weights must not change while this is in use.
    """

    def __init__(self, model: HyenaDNA) -> None:
        self._model = model
        self._operators = operators(model)
        self._blocks = [block for block in model.backbone.layers if isinstance(block, Block)]
        self._filters = LocalFilters(model)
        self._past = model.config.short_filter_length - 1

    def score(
        self,
        reference: ReferenceTail,
        rows: torch.Tensor,
        ids: torch.Tensor,
        tails: Tails,
        *,
        local: bool,
        alleles: int,
    ) -> torch.Tensor:
        """Score a batch.

        Args:
            reference: the kept part of reference windows.
            rows: (n,) which of them each variant belongs to.
            ids: (n, past + columns) alternative tokens from the short convolution's past before `changed` on; any
                token where that lies outside the window.
            tails: what is scored, at most `columns` tokens each.
            local: whether every alternative differs from its reference in at most `MOST_LOCAL` tokens from `changed`.
            alleles: how many variants that follow each other have the same row and `changed`, all through the batch;
                what is kept of their reference is cut out once for all of them.

        Returns:
            (n, 3) float64: llr, llr_norm, dist.
        """
        model, past = self._model, self._past
        columns = ids.shape[1] - past
        batch = Batch(reference, rows, tails, columns, past, alleles)
        ids = ids.to(torch.int64)
        stream = model.backbone.embeddings(ids)
        width = max(1, int(tails.different.max())) + past
        for layer, kept in enumerate(reference.layers):
            if layer == 0 and local and width < columns:
                mixed = self._mix_locally(kept, stream, batch, width)
            else:
                mixed = self._mix(layer, kept, stream, batch)
            self._add(layer, stream, mixed)
        hidden = model.backbone.ln_f(stream[:, past:])
        scores = torch.empty(len(rows), columns, dtype=torch.float64, device=rows.device)
        scores[:, 0] = pick_tokens(batch.join(reference.log_probs[batch.rows, batch.at - 1][:, None]), ids[:, past])
        scores[:, 1:] = pick_tokens(next_token_log_probs(model, hidden[:, :-1]), ids[:, past + 1 :])
        batch.split(hidden).sub_(batch.positions(reference.hidden, columns))
        ref_scores = batch.join(batch.positions(reference.scores[..., None], columns)[..., 0])
        return summarise(tails, ref_scores, scores, hidden)

    def _add(self, layer: int, stream: torch.Tensor, mixed: torch.Tensor) -> None:
        """Add what a mixer's output projection makes of `mixed`, then the output of the MLP."""
        block, operator = self._blocks[layer], self._operators[layer]
        # The past keeps whatever it holds: every mixer takes it from the reference.
        weight = operator.out_proj.weight.T.expand(len(stream), -1, -1)
        stream[:, self._past :].baddbmm_(mixed.transpose(1, 2), weight).add_(operator.out_proj.bias)
        stream += block.mlp(block.norm2(stream))

    def _mix(self, layer: int, kept: LayerTail, stream: torch.Tensor, batch: Batch) -> torch.Tensor:
        """What a mixer hands to its output projection, (n, d_model, columns)."""
        config = self._model.config
        *gates, z = self._project(layer, kept, stream, batch).chunk(config.order + 1, dim=1)
        for n in range(config.order):
            index = n if config.leading_conv else n - 1
            if index >= 0:
                z = self._convolve(layer, index, z, kept, batch)
            z.mul_(gates[config.order - 1 - n])
        return z

    def _convolve(self, layer: int, index: int, z: torch.Tensor, kept: LayerTail, batch: Batch) -> torch.Tensor:
        """The output of a long convolution whose input is `z`: the reference's, and what the change of input adds."""
        padded = self._filters.padded(z)
        change = batch.split(padded[..., : batch.columns])
        torch.sub(batch.split(z), batch.channels(kept.sources[index], batch.columns), out=change)
        found = self._filters.convolve(layer, index, padded, batch.columns)
        batch.split(found).add_(batch.channels(kept.results[index], batch.columns))
        return found

    def _mix_locally(self, kept: LayerTail, stream: torch.Tensor, batch: Batch, width: int) -> torch.Tensor:
        """The same of the first layer where its input differs in few tokens: projections differ at `width` positions.

        The first long convolution then spreads `width` values, and gates are the reference's but for those positions.
        """
        config = self._model.config
        *gates, z = self._project(0, kept, stream[:, : batch.past + width], batch).chunk(config.order + 1, dim=1)
        for n in range(config.order):
            index = n if config.leading_conv else n - 1
            gate = gates[config.order - 1 - n]
            if index < 0:
                z.mul_(gate)
                continue
            if index == 0:
                batch.split(z).sub_(batch.channels(kept.sources[0], width))
                z = self._filters.spread(0, 0, z, batch.columns)
                batch.split(z).add_(batch.channels(kept.results[0], batch.columns))
            else:
                z = self._convolve(0, index, z, kept, batch)
            near = z[..., :width] * gate
            batch.split(z).mul_(batch.channels(kept.gates[index], batch.columns))
            z[..., :width] = near
        return z

    def _project(self, layer: int, kept: LayerTail, stream: torch.Tensor, batch: Batch) -> torch.Tensor:
        """All projections after the short convolution, without its past: (n, (order + 1) d_model, positions)."""
        past, operator = batch.past, self._operators[layer]
        batch.take_past(kept, stream)
        u = self._blocks[layer].norm1(stream)
        weight, bias = operator.in_proj.weight, operator.in_proj.bias
        short = operator.short_filter
        assert short.bias is not None
        if batch.inside is None:
            # A constant passes a convolution as a constant: one pass over memory less than adding it first.
            projected = linear_channels_first(u, weight)
            constant = torch.addcmul(short.bias, bias, short.weight.sum((1, 2)))
        else:
            # Before the window a projection is zero, not the projection of zero.
            projected = linear_channels_first(u, weight, bias)
            projected[..., :past] *= batch.inside[:, None]
            constant = short.bias
        return short_conv(projected, short.weight, constant)[..., past:]


class Batch:
    """Cuts what belongs to each variant of a batch out of what is kept of the reference windows.

    Variants at one place follow each other, `alleles` of them at every place, and share one cut.

    Attributes:
        rows: (places,) reference window of each place.
        at: (places,) index of `changed` among the kept positions.
        columns: positions computed.
        past: positions before `changed` that the short convolution reads.
        alleles: variants at every place.
        inside: (n, past), whether those are inside the window; None where all are.
        outside: (places,), how many of those are not.
    """

    def __init__(
        self, reference: ReferenceTail, rows: torch.Tensor, tails: Tails, columns: int, past: int, alleles: int
    ) -> None:
        # Kernels read these one after the other.
        self.rows = rows[::alleles].contiguous()
        self.at = torch.from_numpy(tails.changed[::alleles] - reference.stretch.start).to(rows.device)
        self.alleles = alleles
        self.columns = columns
        self.past = past
        before = tails.changed[:, None] + np.arange(-past, 0)
        self.inside = None if (before >= 0).all() else torch.from_numpy(before >= 0).to(rows.device)
        self.outside = torch.from_numpy(np.maximum(past - tails.changed[::alleles], 0)).to(rows.device)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """(n, ...) -> (places, alleles, ...), a view."""
        return x.view(-1, self.alleles, *x.shape[1:])

    def join(self, x: torch.Tensor) -> torch.Tensor:
        """(places, 1, ...) -> (n, ...), the same for every allele of a place."""
        return x.expand(-1, self.alleles, *x.shape[2:]).flatten(0, 1)

    def channels(self, x: torch.Tensor, count: int) -> torch.Tensor:
        """(windows, d_model, kept) -> (places, 1, d_model, count) from `changed` on; a copy."""
        return x.unfold(2, count, 1).permute(0, 2, 1, 3)[self.rows, self.at][:, None]

    def positions(self, x: torch.Tensor, count: int, *, before: int = 0) -> torch.Tensor:
        """(windows, kept, d_model) -> (places, 1, count, d_model) from `before` positions before `changed`; a copy."""
        return x.unfold(1, count, 1).permute(0, 1, 3, 2)[self.rows, self.at - before][:, None]

    def take_past(self, kept: LayerTail, stream: torch.Tensor) -> None:
        """Put the reference's input of a block into the first `past` positions of a stream, (n, positions, d_model)."""
        if self.past:
            self.split(stream[:, : self.past]).copy_(self.positions(kept.inputs, self.past, before=self.past))
