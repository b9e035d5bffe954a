"""How well a score ranks positives above negatives."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ranking", "rank_classes"]


class Ranking(NamedTuple):
    """Curves over all thresholds, from the highest score down; ties are one step.

    Attributes:
        auroc: chance that a positive ranks above a negative, ties counting half.
        average_precision: mean precision over the positives, the area under the precision-recall curve.
        false_positive_rate: share of negatives above each threshold, from 0 to 1.
        true_positive_rate: share of positives above each threshold, from 0 to 1; the recall.
        precision: share of positives among all above each threshold; 1 before the first.
        ranked: how many were ranked.
    """

    auroc: float
    average_precision: float
    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]
    precision: NDArray[np.float64]
    ranked: int


def rank_classes(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> Ranking:
    """Rank by score.

    Args:
        scores: (n,) higher means more like a positive; finite.
        positive: (n,) the true class; both classes occur.

    Raises:
        ValueError: a class is empty.
    """
    total, negatives = int(positive.sum()), int((~positive).sum())
    if not total or not negatives:
        raise ValueError("ranking needs both classes")
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    hits = np.cumsum(positive[order])[last]
    taken = last + 1
    recall = np.concatenate([[0.0], hits / total])
    false = np.concatenate([[0.0], (taken - hits) / negatives])
    precision = np.concatenate([[1.0], hits / taken])
    auroc = float(np.sum(np.diff(false) * (recall[1:] + recall[:-1]) / 2))
    return Ranking(auroc, float(np.sum(np.diff(recall) * precision[1:])), false, recall, precision, len(scores))
