"""The straightforward scorer: a whole forward pass of the reference window and one of the alternative."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dna.datasets.alleles import StrandWindow
from hyena_dna.inference.allele_summary import Tails, summarise, window_tails
from hyena_dna.inference.likelihood import next_token_log_probs, pick_tokens
from hyena_dna.model.model import HyenaDNA

__all__ = ["two_pass_scores"]


def two_pass_scores(model: HyenaDNA, windows: Sequence[StrandWindow], span: int, batch_size: int) -> torch.Tensor:
    """Score windows by running the model over both alleles of each.

    Nothing is shared and nothing is cached: the definition that the delta method is tested against.

    Args:
        model: a model in evaluation mode, inside `high_precision`.
        windows: of one length.
        span: most tokens scored, in bp.
        batch_size: variants of one batch; twice as many rows are run.

    Returns:
        (windows, 3) float64: llr, llr_norm, dist.
    """
    parts = [
        _score_batch(model, windows[start : start + batch_size], span) for start in range(0, len(windows), batch_size)
    ]
    return torch.cat(parts)


def _score_batch(model: HyenaDNA, windows: Sequence[StrandWindow], span: int) -> torch.Tensor:
    tails = window_tails(windows, span)
    ref_scores, ref_hidden = _tail_pass(model, [window.ref_ids for window in windows], tails)
    alt_scores, alt_hidden = _tail_pass(model, [window.alt_ids for window in windows], tails)
    return summarise(tails, ref_scores, alt_scores, alt_hidden.sub_(ref_hidden))


def _tail_pass(model: HyenaDNA, rows: list[NDArray[np.uint8]], tails: Tails) -> tuple[torch.Tensor, torch.Tensor]:
    """Token scores (rows, T) and hidden states (rows, T, d_model) from `changed` on, zero past a row's own tail."""
    device = model.lm_head.weight.device
    ids = torch.from_numpy(np.stack(rows)).to(device)
    hidden = model.hidden(ids)
    columns = int(tails.lengths.max())
    scores = torch.zeros(len(rows), columns, dtype=torch.float64, device=device)
    kept = hidden.new_zeros(len(rows), columns, hidden.shape[-1])
    for row, (start, length) in enumerate(zip(tails.changed.tolist(), tails.lengths.tolist(), strict=True)):
        kept[row, :length] = hidden[row, start : start + length]
        first = max(start, 1)
        before = next_token_log_probs(model, hidden[row, first - 1 : start + length - 1])
        scores[row, first - start : length] = pick_tokens(before, ids[row, first : start + length])
    return scores, kept
