"""The kinds of prediction tasks, and how their targets and scores are laid out.

kind         targets                          scores
binary       (n,) int, 1 for labels[1]        (n, 1) probability of labels[1]
multiclass   (n,) int, index into labels      (n, labels) probabilities that sum to one
multilabel   (n, labels) 0 or 1               (n, labels) probabilities
regression   (n,) float                       (n, 1) predicted values
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Scores", "Targets", "TaskKind", "check_layout"]

TaskKind = Literal["binary", "multiclass", "multilabel", "regression"]

Targets = NDArray[Any]
Scores = NDArray[Any]


def check_layout(
    kind: TaskKind, labels: Sequence[str], targets: Targets, scores: Scores
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Targets and scores as arrays of the shapes above; binary and regression scores may also be `(n,)`.

    Raises:
        ValueError: shapes do not fit each other or the task, or a number is not finite.
    """
    truth, values = np.asarray(targets), np.asarray(scores, np.float64)
    if kind in ("binary", "regression") and values.ndim == 1:
        values = values[:, None]
    wide = 1 if kind in ("binary", "regression") else len(labels)
    if values.shape != (len(truth), wide):
        raise ValueError(f"scores of a {kind} task are {(len(truth), wide)}, not {values.shape}")
    if truth.shape != (values.shape if kind == "multilabel" else (len(values),)):
        raise ValueError(f"targets of a {kind} task do not have shape {truth.shape}")
    if not np.isfinite(values).all() or not np.isfinite(truth).all():
        raise ValueError("targets and scores must be finite")
    if kind == "regression":
        return truth.astype(np.float64), values
    truth = truth.astype(np.int64)
    top = len(labels) if kind == "multiclass" else 2
    if truth.size and (truth.min() < 0 or truth.max() >= top):
        raise ValueError(f"classes of a {kind} task lie in 0..{top - 1}")
    return truth, values
