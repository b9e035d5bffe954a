"""A scorer without a model: cheap numbers that depend on the windows alone, and on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dna.datasets.alleles import StrandWindow


class StubScores(NamedTuple):
    llr: NDArray[np.float64]
    llr_norm: NDArray[np.float64]
    dist: NDArray[np.float64]


class StubScorer:
    """The difference of position-weighted sums of token ids, antisymmetric like a log-likelihood ratio."""

    def score(self, windows: Sequence[StrandWindow]) -> StubScores:
        size = len(windows[0].ref_ids)
        weights = np.sin(np.arange(size)) + 0.1
        difference = [window.alt_ids.astype(np.float64) - window.ref_ids for window in windows]
        llr = np.array([row @ weights for row in difference])
        norm = np.array([np.nan if w.n_alt == 0 else x / w.n_alt for x, w in zip(llr, windows, strict=True)])
        return StubScores(llr, norm, np.array([np.abs(row).sum() for row in difference]))


class FastScorer:
    """Almost nothing per window, to time what is around the model."""

    def score(self, windows: Sequence[StrandWindow]) -> StubScores:
        llr = np.array(
            [int(window.alt_ids[window.changed]) - int(window.ref_ids[window.changed]) for window in windows]
        )
        return StubScores(llr - 0.5, llr * 0.25, np.abs(llr) + 0.125)
