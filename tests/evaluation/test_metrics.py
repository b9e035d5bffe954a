"""Metrics are scikit-learn's; resampled ones are those of the rows drawn."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hyena_dna.evaluation import bootstrap
from hyena_dna.evaluation.metrics import MAIN_METRIC, Estimate, difference, evaluate
from hyena_dna.evaluation.tasks import TaskKind

KINDS: tuple[TaskKind, ...] = ("binary", "multiclass", "multilabel", "regression")


def example(kind: TaskKind, rows: int = 300, seed: int = 0) -> tuple[list[str], NDArray[Any], NDArray[np.float64]]:
    """Predictions that know something, with many ties."""
    rng = np.random.default_rng(seed)
    if kind == "regression":
        truth = rng.normal(3.0, 2.0, rows)
        return ["expression"], truth, (truth + rng.normal(0, 1.0, rows)).round(1)[:, None]
    if kind == "multilabel":
        many = (rng.random((rows, 3)) < [0.2, 0.5, 0.7]).astype(np.int64)
        return ["x", "y", "z"], many, np.clip(0.3 * many + rng.random(many.shape) * 0.7, 0, 1).round(1)
    n = 2 if kind == "binary" else 4
    classes = rng.choice(n, rows, p=[0.8, 0.2] if n == 2 else [0.4, 0.3, 0.2, 0.1])
    scores = np.exp(rng.normal(0, 1, (rows, n)) + 1.5 * np.eye(n)[classes]).round(1) + 0.1
    scores /= scores.sum(1, keepdims=True)
    return list("abcd")[:n], classes, scores[:, 1:] if n == 2 else scores


@pytest.mark.parametrize("kind", KINDS)
def test_a_resample_scores_as_its_rows_written_out(kind: TaskKind) -> None:
    labels, truth, scores = example(kind)
    drawn = evaluate(kind, labels, truth, scores, n_bootstrap=7, seed=3)
    weights = np.concatenate(list(bootstrap.resample_weights(len(truth), 7, 3)))
    assert (weights.sum(1) == len(truth)).all()
    for index, weight in enumerate(weights):
        rows = np.repeat(np.arange(len(truth)), weight.astype(int))
        written_out = evaluate(kind, labels, truth[rows], scores[rows], n_bootstrap=0).metrics
        assert set(written_out) == set(drawn.draws)
        for name, estimate in written_out.items():
            assert drawn.draws[name][index] == pytest.approx(estimate.value, abs=1e-9), name


def test_values_by_hand() -> None:
    found = evaluate("binary", ["no", "yes"], np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.6, 0.9]), n_bootstrap=0)
    # Decisions 0 1 1 1: three of four right; pairs of (yes, no) in order: 3 and a tie of 4.
    assert found.metrics["accuracy"].value == 0.75
    assert found.metrics["balanced_accuracy"].value == 0.75
    assert found.metrics["auroc"].value == pytest.approx(3.5 / 4)
    assert found.metrics["f1"].value == pytest.approx(0.8)
    assert found.metrics["mcc"].value == pytest.approx(2 / np.sqrt(12))
    assert found.metrics["auprc"].value == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert found.confusion is not None
    assert found.confusion.tolist() == [[1, 1], [0, 2]]
    assert found.per_class["no"]["recall"].value == 0.5
    assert found.per_class["no"]["auroc"].value == pytest.approx(3.5 / 4)
    assert found.counts == {"no": 2, "yes": 2}


def test_intervals_cover_what_they_say() -> None:
    """Of 95 % intervals of an area whose true value is known, about 95 % hold it."""
    rng = np.random.default_rng(1)
    positive = np.arange(200) < 80
    held = 0
    for trial in range(200):
        # Two normal distributions, one standard deviation apart: the area is the normal CDF of 1 / sqrt(2).
        scores = rng.normal(positive.astype(float), 1.0)
        (weights,) = bootstrap.resample_weights(200, 200, trial)
        low, high = bootstrap.interval(bootstrap.ranking_metrics(positive, scores, weights)["auroc"])
        held += low <= 0.76025 <= high
    assert 0.89 <= held / 200 <= 0.99


def test_random_scores_are_at_chance_and_constant_ones_have_no_correlation() -> None:
    rng = np.random.default_rng(5)
    found = evaluate("binary", ["a", "b"], rng.integers(0, 2, 4000), rng.random(4000), n_bootstrap=200)
    estimate = found.metrics["auroc"]
    assert estimate.low < 0.5 < estimate.high
    assert 0.02 < estimate.high - estimate.low < 0.06
    constant = evaluate("regression", ["y"], rng.normal(size=50), np.full(50, 0.1), n_bootstrap=20)
    assert np.isnan(constant.metrics["pearson"].value)
    assert np.isnan(constant.metrics["pearson"].low)
    assert json.loads(json.dumps(constant.to_dict(), allow_nan=False))["metrics"]["pearson"]["value"] is None


def test_a_class_that_is_missing_has_no_ranking() -> None:
    found = evaluate("binary", ["a", "b"], np.zeros(20, int), np.linspace(0, 1, 20), n_bootstrap=10)
    assert np.isnan(found.metrics["auroc"].value)
    assert found.metrics["accuracy"].value == 0.5
    assert np.isnan(found.per_class["b"]["f1"].value)
    assert found.metrics["mcc"].value == 0.0


def test_groups_and_thresholds() -> None:
    labels, truth, scores = example("binary", 400)
    groups = ["chrI" if row % 4 else None if row % 8 else "chrII" for row in range(400)]
    found = evaluate("binary", labels, truth, scores, groups=groups, thresholds=[0.9], n_bootstrap=20)
    assert found.group_rows == {"chrI": 300, "chrII": 50}
    assert found.thresholds == (0.9,)
    member = np.array([group == "chrII" for group in groups])
    alone = evaluate("binary", labels, truth[member], scores[member], thresholds=[0.9], n_bootstrap=20)
    assert found.per_group["chrII"] == alone.metrics
    assert found.metrics["accuracy"].value == ((scores[:, 0] >= 0.9) == truth).mean()
    many = evaluate("binary", labels, truth, scores, groups=[str(row // 2) for row in range(400)], n_bootstrap=0)
    assert len(many.per_group) == 50
    assert many.groups_left_out == 150


def test_differences_are_paired() -> None:
    """Two models that are nearly the same differ by little, however wide their own intervals are."""
    labels, truth, scores = example("binary", 500)
    one = evaluate("binary", labels, truth, scores, n_bootstrap=300)
    other = evaluate("binary", labels, truth, scores + np.random.default_rng(0).normal(0, 0.01, scores.shape),
                     n_bootstrap=300)  # fmt: skip
    gap = difference(one, other, MAIN_METRIC["binary"])
    own = one.metrics["auroc"]
    assert gap.low <= gap.value <= gap.high
    assert gap.high - gap.low < 0.3 * (own.high - own.low)
    assert difference(one, one, "auroc") == Estimate(0.0, 0.0, 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_layout_is_checked(kind: TaskKind) -> None:
    labels, truth, scores = example(kind, 10)
    with pytest.raises(ValueError, match="scores of"):
        evaluate(kind, labels, truth, scores[:9])
    with pytest.raises(ValueError, match="finite"):
        evaluate(kind, labels, truth, np.where(np.arange(10)[:, None] == 3, np.nan, scores))
    with pytest.raises(ValueError, match="nothing"):
        evaluate(kind, labels, truth[:0], scores[:0])


def test_a_thousand_resamples_of_ten_thousand_rows_take_seconds() -> None:
    _, truth, scores = example("binary", 10_000)
    began = time.process_time()
    list(map(np.sum, (bootstrap.ranking_metrics(truth == 1, scores[:, 0], weights)["auroc"]
                      for weights in bootstrap.resample_weights(10_000, 250, 0))))  # fmt: skip
    assert time.process_time() - began < 2.5
