"""Regression on k-mer counts: strong for short elements, and the bar that a network has to clear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hyena_dna.baselines.kmers import count_kmers
from hyena_dna.baselines.linear import BaselineFit, LabelledSequences, dev_score, fit_linear
from hyena_dna.errors import InputError
from hyena_dna.evaluation.metrics import MAIN_METRIC
from hyena_dna.evaluation.tasks import TaskKind

__all__ = ["fit_predict_kmer"]

_KMERS = (3, 4, 5, 6)
# Over the mean length of the sequences these are the inverse penalties C. Counts grow with the length, and so does
# what a weight does; measured on elements of 70, 100 and 300 bp, the best product of both was between 0.5 and 3.
_STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def fit_predict_kmer(
    train: LabelledSequences,
    dev: LabelledSequences,
    test: Sequence[NDArray[np.uint8]],
    kind: TaskKind,
    n_labels: int,
    *,
    strands: Literal["given", "both", "choose"] = "choose",
    kmers: Sequence[int] = _KMERS,
) -> BaselineFit:
    """Fit logistic (or ridge) regression on k-mer counts; everything that can be chosen is chosen on dev.

    The penalty is weakened step by step until the dev metric falls.

    Args:
        train: what it learns from.
        dev: where k, the penalty and the strands are chosen, by the main metric of the task.
        test: sequences to predict; they choose nothing.
        kind: the kind of task.
        n_labels: classes, or labels.
        strands: count k-mers as they stand, or together with their reverse complements, or choose on dev.
        kmers: values of k to try.

    Raises:
        InputError: there are no dev rows.
    """
    if not len(dev.sequences):
        raise InputError("the k-mer baseline chooses k and its penalty on validation rows, and there are none")
    length = max(1.0, float(np.mean([len(sequence) for sequence in train.sequences])))
    best: tuple[float, dict[str, Any], NDArray[np.float64], Any] | None = None
    for both in {"given": (False,), "both": (True,), "choose": (False, True)}[strands]:
        for k in kmers:
            train_counts = count_kmers(train.sequences, k, both_strands=both)
            dev_counts = count_kmers(dev.sequences, k, both_strands=both)
            before = -math.inf
            for strength in _STRENGTHS:
                predict = fit_linear(kind, n_labels, train_counts, train.targets, strength / length)
                dev_scores = predict(dev_counts)
                value = dev_score(kind, n_labels, dev.targets, dev_scores)
                if best is None or value > best[0]:
                    chosen = {"k": k, "C": strength / length, "strands": "both" if both else "given"}
                    best = value, chosen, dev_scores, predict
                if value < before:
                    break
                before = value
    assert best is not None, "there are settings to try"
    value, settings, dev_scores, predict = best
    scores = predict(count_kmers(test, settings["k"], both_strands=settings["strands"] == "both"))
    settings[f"dev_{MAIN_METRIC[kind]}"] = value if math.isfinite(value) else None
    name = "k-mer ridge regression" if kind == "regression" else "k-mer logistic regression"
    return BaselineFit(name, scores, dev_scores, settings)
