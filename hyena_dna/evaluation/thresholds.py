"""From probabilities to decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena_dna.evaluation.tasks import Scores, Targets, TaskKind

__all__ = ["choose_thresholds", "decide"]


def decide(kind: TaskKind, scores: Scores, thresholds: Sequence[float]) -> NDArray[Any]:
    """The class of every row, in the layout of targets; predicted numbers stay what they are.

    Args:
        kind: the kind of task.
        scores: see `hyena_dna.evaluation.tasks`.
        thresholds: a label is assigned from this probability on; one for binary, one for each of several labels.
    """
    if kind == "regression":
        return scores[:, 0]
    if kind == "multiclass":
        best: NDArray[Any] = scores.argmax(1)
        return best
    chosen = (scores >= np.asarray(thresholds, np.float64)).astype(np.int64)
    return chosen if kind == "multilabel" else chosen[:, 0]


def choose_thresholds(kind: TaskKind, targets: Targets, scores: Scores) -> tuple[float, ...]:
    """The probability from which on a label is best assigned, by Matthews' correlation on validation rows.

    Of equally good thresholds the one nearest to 0.5 is taken. They lie half-way between neighbouring scores, so that
    rounding decides nothing.

    Args:
        kind: the kind of task.
        targets: validation targets.
        scores: validation probabilities, after calibration where there is one.

    Returns:
        One threshold for binary, one for each of several labels, none where the most probable class is taken.
    """
    if kind in ("multiclass", "regression"):
        return ()
    values = np.asarray(scores, np.float64).reshape(len(scores), -1)
    truth = np.asarray(targets).reshape(values.shape)
    return tuple(_best_cut(truth[:, k] == 1, values[:, k]) for k in range(values.shape[1]))


def _best_cut(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    if positive.all() or not positive.any():
        return 0.5
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    # Everything up to and including each of these is assigned the label.
    last = np.flatnonzero(np.diff(ordered))
    if not len(last):
        return 0.5
    true = np.cumsum(positive[order])[last].astype(np.float64)
    taken = last + 1.0
    total, positives = float(len(scores)), float(positive.sum())
    covariance = true * total - taken * positives
    mcc = covariance / np.sqrt(taken * (total - taken) * positives * (total - positives))
    cuts = (ordered[last] + ordered[last + 1]) / 2
    best = np.flatnonzero(mcc >= mcc.max() - 1e-12)
    return float(cuts[best[np.argmin(abs(cuts[best] - 0.5))]])
