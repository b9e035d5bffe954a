"""Reliability, temperature and thresholds on predictions whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from hyena_dna.evaluation.calibration import calibrate, fit_temperature, probabilities
from hyena_dna.evaluation.tasks import TaskKind
from hyena_dna.evaluation.thresholds import choose_thresholds, decide


def test_honest_probabilities_are_calibrated_and_boasting_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    chance = rng.random(20_000)
    truth = (rng.random(20_000) < chance).astype(int)
    honest = calibrate("binary", truth, chance[:, None])
    assert honest.ece < 0.015
    assert sum(low <= mean <= high for low, mean, high in zip(honest.low, honest.confidence, honest.high, strict=True)
               ) >= len(honest.rows) - 3  # fmt: skip
    assert honest.brier == pytest.approx(1 / 6, abs=0.01)
    boasting = calibrate("binary", truth, (chance > 0.5).astype(float)[:, None])
    # Says 0 or 1 and is right three times of four.
    assert boasting.ece == pytest.approx(0.25, abs=0.02)
    assert boasting.rows == [int((chance <= 0.5).sum()), int((chance > 0.5).sum())]


def test_ece_by_hand() -> None:
    found = calibrate("binary", np.array([0, 1, 1, 1]), np.array([[0.1], [0.1], [0.9], [0.8]]), bins=2)
    assert found.confidence == pytest.approx([0.1, 0.85])
    assert found.frequency == [0.5, 1.0]
    assert found.ece == pytest.approx(0.5 * 0.4 + 0.5 * 0.15)
    assert found.mce == pytest.approx(0.4)
    several = calibrate("multiclass", np.array([0, 2]), np.array([[0.6, 0.3, 0.1], [0.5, 0.1, 0.4]]), bins=1)
    assert several.confidence == pytest.approx([0.55])
    assert several.frequency == [0.5]
    with pytest.raises(ValueError, match="regression"):
        calibrate("regression", np.zeros(2), np.zeros((2, 1)))


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("boast", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_boasting(kind: TaskKind, boast: float) -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 1.5, (6000, 1 if kind == "binary" else 3))
    scores = probabilities(kind, logits)
    if kind == "multiclass":
        truth = (scores.cumsum(1) < rng.random((6000, 1))).sum(1)
    else:
        truth = (rng.random(scores.shape) < scores).astype(int)
        truth = truth[:, 0] if kind == "binary" else truth
    found = fit_temperature(kind, truth, logits * boast)
    assert found == pytest.approx(boast, rel=0.08)
    raw, scaled = probabilities(kind, logits * boast), probabilities(kind, logits * boast, found)
    assert calibrate(kind, truth, scaled).ece <= calibrate(kind, truth, raw).ece + 0.005
    assert (raw.argmax(1) == scaled.argmax(1)).all()


def test_a_separable_validation_set_gives_a_bounded_temperature() -> None:
    found = fit_temperature("binary", np.array([0, 0, 1, 1]), np.array([[-1.0], [-2.0], [1.0], [2.0]]))
    assert 0.04 < found < 1
    assert fit_temperature("regression", np.zeros(3), np.zeros((3, 1))) == 1.0
    assert (probabilities("regression", np.full((2, 1), 7.0), 3.0) == 7.0).all()


def test_thresholds_are_the_best_by_exhaustive_search() -> None:
    from sklearn.metrics import matthews_corrcoef

    rng = np.random.default_rng(3)
    truth = (rng.random(200) < 0.1).astype(int)
    scores = np.clip(0.3 * truth + rng.normal(0.2, 0.1, 200), 0, 1).round(2)[:, None]
    (cut,) = choose_thresholds("binary", truth, scores)

    def mcc(threshold: float) -> float:
        return float(matthews_corrcoef(truth, decide("binary", scores, [threshold])))

    best = max(mcc(value) for value in np.linspace(0, 1, 201) + 0.0025)
    assert mcc(cut) == pytest.approx(best, abs=1e-9)
    assert mcc(cut) > mcc(0.5) + 0.05


def test_thresholds_of_each_task() -> None:
    assert choose_thresholds("multiclass", np.array([0, 1]), np.eye(2)) == ()
    assert choose_thresholds("binary", np.zeros(3, int), np.ones((3, 1))) == (0.5,)
    assert choose_thresholds("binary", np.array([0, 1]), np.ones((2, 1))) == (0.5,)
    two = choose_thresholds(
        "multilabel", np.array([[0, 0], [1, 0], [1, 1]]), np.array([[0.1, 0.2], [0.3, 0.3], [0.6, 0.9]])
    )
    assert two == pytest.approx((0.2, 0.6))
    assert decide("multilabel", np.array([[0.2, 0.5]]), two).tolist() == [[1, 0]]
    assert decide("multiclass", np.array([[0.2, 0.8]]), ()).tolist() == [1]
