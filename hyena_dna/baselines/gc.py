"""The simplest baseline: GC content alone, which is the same on both strands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hyena_dna.baselines.linear import BaselineFit, LabelledSequences, fit_linear
from hyena_dna.evaluation.tasks import TaskKind
from hyena_dna.tokenizer import SOFT_MASK, A, C, G, T

__all__ = ["fit_predict_gc", "gc_contents"]


def gc_contents(sequences: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Share of C and G among the known bases of every sequence of token ids, NaN where there are none."""
    counts = np.array([np.bincount(s & np.uint8(SOFT_MASK - 1), minlength=T + 1)[A : T + 1] for s in sequences])
    counts = counts.reshape(len(sequences), 4)
    with np.errstate(invalid="ignore"):
        share: NDArray[np.float64] = (counts[:, C - A] + counts[:, G - A]) / counts.sum(1)
    return share


def fit_predict_gc(
    train: LabelledSequences, dev: LabelledSequences, test: Sequence[NDArray[np.uint8]], kind: TaskKind, n_labels: int
) -> BaselineFit:
    """Fit a linear model of GC content.

    Args:
        train: what it learns from.
        dev: only predicted: there is nothing to choose.
        test: sequences to predict.
        kind: the kind of task.
        n_labels: classes, or labels.
    """
    found = gc_contents(train.sequences)
    known = found[np.isfinite(found)]
    mean, spread = (known.mean(), known.std() or 1.0) if len(known) else (0.5, 1.0)

    def features(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return (np.nan_to_num(values, nan=mean)[:, None] - mean) / spread

    # One standardised feature needs next to no penalty.
    predict = fit_linear(kind, n_labels, features(found), train.targets, 1e3)
    scores, dev_scores = (predict(features(gc_contents(sequences))) for sequences in (test, dev.sequences))
    return BaselineFit("GC content", scores, dev_scores, {"features": "GC content"})
