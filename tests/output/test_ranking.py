"""Risks: ties that flatter a score, curves that are not those of the field's reference implementation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from hyena_dna.output.ranking import rank_classes


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_areas_are_those_of_scikit_learn(levels: int) -> None:
    rng = np.random.default_rng(levels)
    positive = rng.random(500) < 0.2
    scores = np.floor((rng.normal(size=500) + positive) * levels / 6).astype(np.float64)
    ranking = rank_classes(scores, positive)
    assert ranking.auroc == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    assert ranking.average_precision == pytest.approx(average_precision_score(positive, scores), abs=1e-12)
    assert (ranking.false_positive_rate[-1], ranking.true_positive_rate[-1]) == (1.0, 1.0)


def test_a_constant_score_is_chance() -> None:
    positive = np.arange(10) < 3
    assert rank_classes(np.zeros(10), positive).auroc == 0.5


def test_one_class_cannot_be_ranked() -> None:
    with pytest.raises(ValueError, match="both classes"):
        rank_classes(np.zeros(3), np.ones(3, np.bool_))
