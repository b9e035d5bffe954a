"""The small CNN learns what the k-mer baseline learns, of every task, on padded rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hyena_dna.baselines.linear import LabelledSequences
from hyena_dna.evaluation.metrics import evaluate
from hyena_dna.evaluation.tasks import TaskKind
from hyena_dna.tokenizer import PAD, Tokenizer
from hyena_dna.training import cnn_baseline
from hyena_dna.training.cnn_baseline import MotifNetwork, fit_predict_cnn


@pytest.fixture
def few_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cnn_baseline, "_EPOCHS", (2, 2))


def planted(kind: TaskKind, rows: int, seed: int) -> LabelledSequences:
    rng = np.random.default_rng(seed)
    words = [Tokenizer().encode(word) for word in (b"GATTACAGAT", b"CCAGTGGCCA")]
    sequences = [rng.integers(7, 11, rng.integers(40, 60)).astype(np.uint8) for _ in range(rows)]
    flags = rng.integers(0, 2, (rows, 2))
    if kind in ("binary", "regression"):
        flags[:, 1] = 0
    elif kind == "multiclass":
        flags[:, 1] *= 1 - flags[:, 0]
    for sequence, row in zip(sequences, flags, strict=True):
        for word in np.flatnonzero(row):
            start = rng.integers(0, 15) + 15 * word
            piece = words[word] if rng.integers(2) else Tokenizer().reverse_complement(words[word])
            sequence[start : start + 10] = piece
    targets: NDArray[Any] = {
        "binary": flags[:, 0],
        "regression": 10.0 + 5.0 * flags[:, 0],
        "multiclass": flags @ [1, 2],
        "multilabel": flags,
    }[kind]
    return LabelledSequences(sequences, targets)


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        pytest.param("binary", "ny", marks=pytest.mark.slow),
        pytest.param("multiclass", "abc", marks=pytest.mark.slow),
        pytest.param("regression", "v", marks=pytest.mark.slow),
        pytest.param("multilabel", "xy", marks=pytest.mark.slow),
    ],
)
def test_it_learns_planted_motifs(kind: TaskKind, labels: str) -> None:
    train, dev, test = (planted(kind, rows, seed) for seed, rows in enumerate((600, 150, 150)))
    found = fit_predict_cnn(train, dev, test.sequences, kind, len(labels))
    metrics = evaluate(kind, list(labels), test.targets, found.scores, n_bootstrap=0).metrics
    assert metrics["spearman" if kind == "regression" else "auroc"].value > (0.75 if kind == "regression" else 0.9)
    assert found.dev_scores.shape[0] == 150
    if kind == "regression":
        assert metrics["r2"].value > 0.4


@pytest.mark.parametrize(("kind", "outputs"), [("binary", 1), ("regression", 1), ("multiclass", 3), ("multilabel", 2)])
@pytest.mark.usefixtures("few_epochs")
def test_scores_of_every_task_have_its_layout(kind: TaskKind, outputs: int) -> None:
    train, dev, test = (planted(kind, rows, seed) for seed, rows in enumerate((40, 20, 7)))
    found = fit_predict_cnn(train, dev, test.sequences, kind, max(outputs, 2) if kind == "binary" else outputs)
    assert found.scores.shape == (7, outputs)
    assert found.dev_scores.shape == (20, outputs)
    assert np.isfinite(found.scores).all()
    if kind == "multiclass":
        np.testing.assert_allclose(found.scores.sum(1), 1.0)
    if kind == "regression":
        assert 5 < found.scores.mean() < 20


@pytest.mark.usefixtures("few_epochs")
def test_padding_and_the_strand_given_do_not_matter() -> None:
    torch.manual_seed(0)
    network = MotifNetwork(1).eval()
    ids = torch.randint(7, 11, (3, 37), dtype=torch.uint8)
    padded = torch.nn.functional.pad(ids, (0, 32), value=PAD)
    assert torch.allclose(network(ids[:1, :36]), network(padded[:1, :36]), atol=1e-6)
    mean = network(torch.full((1, 9), PAD, dtype=torch.uint8))
    assert torch.isfinite(mean).all()
    train = planted("binary", 30, 0)
    flipped = [Tokenizer().reverse_complement(row) for row in train.sequences]
    one = fit_predict_cnn(train, train, train.sequences, "binary", 2)
    other = fit_predict_cnn(train, train, flipped, "binary", 2)
    assert np.allclose(one.scores, other.scores, atol=1e-5)


@pytest.mark.usefixtures("few_epochs")
def test_the_same_seed_gives_the_same_scores_and_leaves_the_callers_random_state() -> None:
    train = planted("binary", 60, 0)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one = fit_predict_cnn(train, train, train.sequences, "binary", 2, seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    other = fit_predict_cnn(train, train, train.sequences, "binary", 2, seed=3)
    assert np.array_equal(one.scores, other.scores)
