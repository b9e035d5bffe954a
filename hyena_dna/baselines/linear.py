"""Linear models of every kind of task over given features: what the simple baselines share."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dna.evaluation.metrics import MAIN_METRIC, evaluate
from hyena_dna.evaluation.tasks import Scores, Targets, TaskKind

__all__ = ["BaselineFit", "LabelledSequences", "dev_score", "fit_linear"]

_ITERATIONS = 300


class LabelledSequences(NamedTuple):
    """Sequences whose truth is known.

    Attributes:
        sequences: token ids, each `(length,)`; the soft-mask bit is ignored.
        targets: see `hyena_dna.evaluation.tasks`.
    """

    sequences: Sequence[NDArray[np.uint8]]
    targets: Targets


class BaselineFit(NamedTuple):
    """Predictions of a baseline.

    Attributes:
        name: what it is.
        scores: of the test sequences, laid out as in `hyena_dna.evaluation.tasks`.
        dev_scores: of the dev sequences, for choosing thresholds.
        settings: hyperparameters, and how each was chosen where it was.
    """

    name: str
    scores: NDArray[np.float64]
    dev_scores: NDArray[np.float64]
    settings: dict[str, Any]


Predictor = Callable[[Any], NDArray[np.float64]]


def fit_linear(kind: TaskKind, n_labels: int, features: Any, targets: Targets, strength: float) -> Predictor:
    """Fit logistic regression, one for each of several labels, or ridge regression.

    Args:
        kind: the kind of task.
        n_labels: classes, or labels.
        features: (rows, features), dense or sparse.
        targets: of the rows.
        strength: inverse strength of the L2 penalty: C of the logistic regression, 1 / alpha of the ridge regression.

    Returns:
        A function from features to scores in the layout of the task. A class without training rows has probability 0.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge

    truth = np.asarray(targets)
    if kind == "regression":
        ridge = Ridge(alpha=1 / strength).fit(features, truth)
        return lambda rows: np.asarray(ridge.predict(rows), np.float64).reshape(-1, 1)
    if kind == "multilabel":
        parts = [fit_linear("binary", 2, features, truth[:, label], strength) for label in range(n_labels)]
        return lambda rows: np.concatenate([part(rows) for part in parts], 1)
    classes = np.unique(truth)
    wide = 2 if kind == "binary" else n_labels
    model = LogisticRegression(C=strength, max_iter=_ITERATIONS) if len(classes) > 1 else None
    if model is not None:
        with warnings.catch_warnings():
            # Nearly separable data approach their optimum slowly; the ranking is settled long before.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(features, truth)

    def predict(rows: Any) -> NDArray[np.float64]:
        scores = np.zeros((rows.shape[0], wide))
        scores[:, classes] = 1.0 if model is None else model.predict_proba(rows)
        return scores[:, 1:] if kind == "binary" else scores

    return predict


def dev_score(kind: TaskKind, n_labels: int, targets: Targets, scores: Scores) -> float:
    """The main metric of the task on dev rows, by which hyperparameters are chosen; higher is better."""
    labels = [str(label) for label in range(n_labels)]
    value = evaluate(kind, labels, targets, scores, n_bootstrap=0).metrics[MAIN_METRIC[kind]].value
    return value if math.isfinite(value) else -math.inf
