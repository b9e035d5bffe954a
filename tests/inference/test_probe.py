"""Probes: chance where there is nothing to learn, knowledge where there is, and no credit for neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hyena_dna.errors import InputError
from hyena_dna.inference.probe import probe
from hyena_dna.inference.probe_models import LinearClassifier, fit_softmax, nearest_classes
from hyena_dna.inference.projection import project


def blobs(count: int = 300, distance: float = 6.0) -> tuple[NDArray[np.float32], list[str | None]]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, count)
    vectors = rng.normal(size=(count, 8)) + distance * np.eye(3, 8)[labels]
    return vectors.astype(np.float32), [f"class{label}" for label in labels]


def test_what_is_there_is_found() -> None:
    result = probe(*blobs())
    assert result.linear.accuracy > 0.97
    assert result.knn.accuracy > 0.97
    assert result.majority.accuracy < 0.45
    assert result.groups is None
    assert sum(result.classes.values()) == result.records == 300


def test_learns_from_a_bounded_number_of_records(monkeypatch: pytest.MonkeyPatch) -> None:
    learnt: list[int] = []

    def count(x: NDArray[np.float32], *rest: Any, **options: Any) -> LinearClassifier:
        learnt.append(len(x))
        return fit_softmax(x, *rest, **options)

    monkeypatch.setattr("hyena_dna.inference.probe.fit_softmax", count)
    monkeypatch.setattr("hyena_dna.inference.probe._MOST_LEARNT", 30)
    vectors, labels = blobs(distance=12)
    found = probe(vectors, labels)
    assert set(learnt) == {30}
    assert found.records == len(labels)
    assert found.linear.accuracy > 0.95


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_the_linear_classifier_is_that_of_scikit_learn(classes: int, strength: float) -> None:
    from sklearn.linear_model import LogisticRegression

    vectors, _ = blobs(distance=1)
    codes = np.random.default_rng(0).integers(0, 3, 300) % classes
    found = fit_softmax(vectors, codes, classes, strength=strength)
    wanted = LogisticRegression(C=strength, tol=1e-8, max_iter=1000).fit(vectors.astype(np.float64), codes)
    logits = vectors @ found.weight.T + found.bias
    expected = wanted.decision_function(vectors)
    if classes == 2:
        logits = logits[:, 1] - logits[:, 0]
    else:
        # The same may be added to the logits of all classes.
        logits -= logits.mean(1, keepdims=True)
    np.testing.assert_allclose(logits, expected, atol=2e-3)
    assert (found.predict(vectors) == wanted.predict(vectors)).mean() > 0.99


def test_nearest_neighbours_are_those_of_scikit_learn() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    vectors, labels = blobs(2500, distance=2)
    codes = np.array([int(str(label)[-1]) for label in labels])
    wanted = KNeighborsClassifier(15, metric="cosine").fit(vectors[:400], codes[:400]).predict(vectors[400:])
    assert (nearest_classes(vectors[:400], codes[:400], vectors[400:], 15) == wanted).all()
    assert (nearest_classes(vectors[:2], np.array([1, 0]), vectors[2:9], 15) == 0).all()


def test_noise_is_chance() -> None:
    vectors, labels = blobs(distance=0)
    result = probe(vectors, labels)
    assert abs(result.linear.balanced_accuracy - 1 / 3) < 0.1
    assert abs(result.linear.mcc) < 0.12
    assert result.majority.mcc == 0


def test_contigs_are_not_shared_by_folds() -> None:
    # Every contig has its own direction, every contig's records one label: random folds read the contig, not the label.
    rng = np.random.default_rng(1)
    chroms = [f"chr{number}" for number in rng.integers(0, 20, 400)]
    where = {chrom: (rng.normal(size=16) * 5, f"class{number % 2}") for number, chrom in enumerate(sorted(set(chroms)))}
    vectors = np.stack([where[chrom][0] + rng.normal(size=16) for chrom in chroms]).astype(np.float32)
    labels: list[str | None] = [where[chrom][1] for chrom in chroms]
    assert probe(vectors, labels).knn.accuracy > 0.95
    grouped = probe(vectors, labels, groups=chroms)
    assert grouped.groups == "chrom"
    assert grouped.knn.accuracy < 0.8


def test_records_without_a_label_are_left_out() -> None:
    vectors, labels = blobs()
    labels[:50] = [None] * 50
    assert probe(vectors, labels).records == 250


def test_records_without_a_place_are_not_grouped() -> None:
    vectors, labels = blobs()
    assert probe(vectors, labels, groups=[None] * len(labels)).groups is None


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["a"] * 10, "two classes"), ([None] * 10, "two classes"), (["a"] * 9 + ["b"], "two records")],
)
def test_too_little_to_learn_from(labels: list[str | None], message: str) -> None:
    with pytest.raises(InputError, match=message):
        probe(np.zeros((10, 2), np.float32), labels)


def test_the_summary_is_plain_data_and_the_lines_say_how() -> None:
    vectors, labels = blobs()
    result = probe(vectors, labels, groups=["x", "y", "z"] * 100)
    assert result.summary()["linear"]["accuracy"] == result.linear.accuracy
    assert "3 folds by chrom" in result.lines()[0]


def test_components_are_those_of_a_decomposition() -> None:
    vectors, _ = blobs()
    found = project(vectors, "pca")
    scaled = (vectors - vectors.mean(0)) / vectors.std(0)
    left, values, _ = np.linalg.svd(scaled.astype(np.float64), full_matrices=False)
    np.testing.assert_allclose(np.abs(found.points), np.abs(left[:, :2] * values[:2]), rtol=1e-4, atol=1e-4)
    assert "PC1" in found.axes[0]


@pytest.mark.slow
def test_umap_separates_classes_and_repeats_itself() -> None:
    pytest.importorskip("umap")
    vectors, labels = blobs(distance=12)
    first, again = project(vectors, "umap", seed=3), project(vectors, "umap", seed=3)
    assert (first.points == again.points).all()
    assert probe(first.points.astype(np.float32), labels).knn.accuracy > 0.95


def test_constant_vectors_have_a_picture_too() -> None:
    assert np.isfinite(project(np.ones((5, 4), np.float32), "pca").points).all()


def test_too_few_points() -> None:
    with pytest.raises(InputError, match="at least 3"):
        project(np.ones((2, 4), np.float32), "pca")
