"""From token log-probabilities and hidden states of two alleles to the scores of a variant on one strand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dna.datasets.alleles import StrandWindow

__all__ = ["StrandScores", "Tails", "summarise", "window_tails"]


class StrandScores(NamedTuple):
    """Scores of windows, each on its own strand, in the order in which they were given.

    Attributes:
        llr: (n,) nats: log P of the alternative minus log P of the reference over the scored span.
        llr_norm: (n,) nats per base: both alleles up to the same last genomic base, each divided by its number of
            scored bases; NaN where one has none, or where the longer allele does not fit into the scored span.
        dist: (n,) L2 distance between the mean last-layer hidden states over the scored span.
    """

    llr: NDArray[np.float64]
    llr_norm: NDArray[np.float64]
    dist: NDArray[np.float64]


class Tails(NamedTuple):
    """What is scored of every window: positions `changed` to `changed + length`.

    Attributes:
        changed: (n,) first changed token.
        lengths: (n,) scored tokens T = min(span, window - changed).
        n_ref: (n,) bases of the reference allele.
        n_alt: (n,) bases of the alternative allele.
        different: (n,) tokens from `changed` to the last one that differs inside the scored span; 0 where none does.
    """

    changed: NDArray[np.int64]
    lengths: NDArray[np.int64]
    n_ref: NDArray[np.int64]
    n_alt: NDArray[np.int64]
    different: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> Tails:
        """The same of some of the windows."""
        return Tails(*(column[rows] for column in self))


def window_tails(windows: Sequence[StrandWindow], span: int) -> Tails:
    """The scored part of each window.

    Args:
        windows: at least one.
        span: most tokens that are scored from the first changed one on, in bp.
    """
    rows = []
    for window in windows:
        start, length = window.changed, min(span, len(window.ref_ids) - window.changed)
        differs = window.ref_ids[start : start + length] != window.alt_ids[start : start + length]
        # argmax finds the first true entry at the speed of memory; reversed, the last one.
        backwards = differs[::-1]
        last = int(backwards.argmax())
        different = length - last if backwards[last] else 0
        rows.append((start, length, window.n_ref, window.n_alt, different))
    return Tails(*np.array(rows, np.int64).reshape(-1, 5).T)


def summarise(tails: Tails, ref_scores: torch.Tensor, alt_scores: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """The three scores of each window.

    Windows whose alleles are equal over the scored span get exactly 0 for `llr` and `dist`, whatever rounding did.

    Args:
        tails: what is scored, of n windows.
        ref_scores: (n, T) float64, log-probability of each reference token from `changed` on, 0 where position 0 has
            no prefix to be predicted from; columns past a window's own length are ignored.
        alt_scores: (n, T) float64, the same of the alternative.
        shifts: (n, T, d_model) alternative minus reference hidden states.

    Returns:
        (n, 3) float64: llr, llr_norm, dist.
    """
    device, columns = ref_scores.device, ref_scores.shape[1]
    unscored = (tails.changed == 0).astype(np.int64)
    shared = tails.lengths - np.maximum(tails.n_ref, tails.n_alt)
    ends = np.stack([tails.lengths, tails.n_ref + shared, tails.n_alt + shared, tails.different == 0, shared, unscored])
    length, ref_end, alt_end, same, downstream, first = torch.from_numpy(ends).to(device)[..., None]
    steps = torch.arange(columns, device=device)

    alt_scores = torch.where(same.bool(), ref_scores, alt_scores)
    scored = steps < length
    llr = (alt_scores - ref_scores).where(scored, 0).sum(-1)
    ref_count, alt_count = ref_end - first, alt_end - first
    ref_mean = ref_scores.where(steps < ref_end, 0).sum(-1) / ref_count[:, 0]
    alt_mean = alt_scores.where(steps < alt_end, 0).sum(-1) / alt_count[:, 0]
    counted = ((ref_count > 0) & (alt_count > 0) & (downstream >= 0))[:, 0]
    llr_norm = (alt_mean - ref_mean).where(counted, torch.nan)
    # One product instead of a masked copy: the mask is 0 or 1 / T.
    mean = torch.bmm((scored.to(shifts.dtype) / length)[:, None], shifts)[:, 0].double()
    dist = mean.norm(dim=-1).where(~same.bool()[:, 0], 0)
    return torch.stack([llr, llr_norm, dist], dim=-1)
