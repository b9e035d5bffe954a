"""GC and k-mer baselines of every task: they learn what they can see, and not what they cannot."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hyena_dna.baselines.gc import fit_predict_gc, gc_contents
from hyena_dna.baselines.kmer import fit_predict_kmer
from hyena_dna.baselines.linear import LabelledSequences, fit_linear
from hyena_dna.errors import InputError
from hyena_dna.evaluation.metrics import evaluate
from hyena_dna.evaluation.tasks import TaskKind
from hyena_dna.tokenizer import Tokenizer

LABELS: dict[TaskKind, list[str]] = {
    "binary": ["no", "yes"],
    "multiclass": ["a", "b", "c"],
    "multilabel": ["x", "y"],
    "regression": ["level"],
}


def planted(kind: TaskKind, rows: int, seed: int) -> LabelledSequences:
    """Random bases in which each class, label or level has its own word, twice, on either strand."""
    rng = np.random.default_rng(seed)
    words = [Tokenizer().encode(word) for word in (b"GATTACA", b"CCAGTGG", b"TTGCGTA")]
    sequences = [rng.integers(7, 11, rng.integers(80, 120)).astype(np.uint8) for _ in range(rows)]
    targets: NDArray[Any]
    if kind == "multilabel":
        targets = rng.integers(0, 2, (rows, 2))
        chosen = [[w for w in range(2) if flags[w]] for flags in targets]
    elif kind == "regression":
        targets = rng.integers(0, 5, rows).astype(float)
        chosen = [[0] * int(level) for level in targets]
    else:
        targets = rng.integers(0, len(LABELS[kind]), rows)
        chosen = [[target - 1] if target else [] for target in targets]
    for sequence, which in zip(sequences, chosen, strict=True):
        for turn, word in enumerate(which * (1 if kind == "regression" else 2)):
            piece = words[word] if rng.integers(2) else Tokenizer().reverse_complement(words[word])
            sequence[turn * 10 : turn * 10 + 7] = piece
    return LabelledSequences(sequences, targets)


@pytest.mark.parametrize("kind", LABELS)
def test_kmers_learn_planted_words_and_use_test_for_nothing_else(kind: TaskKind) -> None:
    train, dev, test = (planted(kind, rows, seed) for seed, rows in enumerate((200, 80, 80)))
    names = LABELS[kind]
    found = fit_predict_kmer(train, dev, test.sequences, kind, len(names), kmers=(3,))
    value = evaluate(kind, names, test.targets, found.scores, n_bootstrap=0).metrics
    assert value["spearman" if kind == "regression" else "auroc"].value > 0.7
    assert found.settings["k"] == 3
    assert evaluate(kind, names, dev.targets, found.dev_scores, n_bootstrap=0).rows == 80
    again = fit_predict_kmer(train, dev, test.sequences[:20], kind, len(names), kmers=(3,))
    assert again.settings == found.settings
    assert np.allclose(again.scores, found.scores[:20])


@pytest.mark.parametrize("kind", LABELS)
def test_gc_sees_composition_alone(kind: TaskKind) -> None:
    rng = np.random.default_rng(0)
    train = planted(kind, 300, 1)
    names = LABELS[kind]
    blind = fit_predict_gc(train, train, train.sequences, kind, len(names))
    assert evaluate(kind, names, train.targets, blind.scores, n_bootstrap=0).rows == 300
    share = rng.uniform(0.2, 0.8, 300)
    sequences = [rng.choice(np.array([7, 8, 9, 10], np.uint8), 200, p=[(1 - s) / 2, s / 2, s / 2, (1 - s) / 2])
                 for s in share]  # fmt: skip
    high = {
        "binary": (share > 0.5).astype(int),
        "multiclass": np.digitize(share, [0.4, 0.6]),
        "multilabel": np.stack([share > 0.5, share < 0.4], 1).astype(int),
        "regression": share,
    }[kind]
    seen = fit_predict_gc(LabelledSequences(sequences, high), train, sequences, kind, len(names))
    value = evaluate(kind, names, high, seen.scores, n_bootstrap=0).metrics
    assert value["pearson" if kind == "regression" else "auroc"].value > (0.95 if kind != "multiclass" else 0.8)


def test_words_on_either_strand_are_counted_together() -> None:
    train, dev, test = (planted("regression", 300, seed) for seed in range(3))
    found = fit_predict_kmer(train, dev, test.sequences, "regression", 1, kmers=(4,))
    assert found.settings["strands"] == "both"
    given = fit_predict_kmer(train, dev, test.sequences, "regression", 1, kmers=(4,), strands="given")
    assert given.settings["dev_spearman"] < found.settings["dev_spearman"]


def test_gc_contents_by_hand() -> None:
    rows = [Tokenizer().encode(s) for s in (b"GGCCAATT", b"gcgcNNNN", b"NN", b"")]
    found = gc_contents(rows)
    assert found[:2].tolist() == [0.5, 1.0]
    assert np.isnan(found[2:]).all()
    train = LabelledSequences(rows, np.array([0, 1, 0, 1]))
    assert np.isfinite(fit_predict_gc(train, train, rows, "binary", 2).scores).all()


def test_shuffled_labels_give_chance() -> None:
    rng = np.random.default_rng(4)
    train, dev, test = (
        part._replace(targets=rng.permutation(part.targets)) for part in (planted("binary", 200, s) for s in range(3))
    )
    found = fit_predict_kmer(train, dev, test.sequences, "binary", 2, kmers=(3,))
    value = evaluate("binary", ["no", "yes"], test.targets, found.scores, n_bootstrap=0).metrics["auroc"].value
    # Three standard errors of the area at this number of rows.
    assert abs(value - 0.5) < 0.125


def test_a_class_without_training_rows_has_no_probability() -> None:
    predict = fit_linear("multiclass", 3, np.array([[0.0], [1.0], [0.1], [0.9]]), np.array([0, 2, 0, 2]), 1.0)
    scores = predict(np.array([[0.0], [1.0]]))
    assert scores[:, 1].tolist() == [0, 0]
    assert scores.argmax(1).tolist() == [0, 2]
    constant = fit_linear("binary", 2, np.zeros((3, 1)), np.ones(3, int), 1.0)
    assert constant(np.zeros((2, 1))).tolist() == [[1.0], [1.0]]


def test_nothing_to_choose_on_is_an_error() -> None:
    train = planted("binary", 20, 0)
    with pytest.raises(InputError, match="validation rows"):
        fit_predict_kmer(train, LabelledSequences([], np.empty(0, int)), train.sequences, "binary", 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "auroc", "mcc"),
    [
        ("prom_prom_core_all", 0.8632, 0.558),
        ("prom_prom_300_tata", 0.7885, 0.426),
        ("tf_0", 0.8912, 0.645),
        ("tf_1", 0.9270, 0.705),
        ("mouse_0", 0.8646, 0.551),
    ],
)
def test_published_kmer_figures(name: str, auroc: float, mcc: float, shared_data: Path) -> None:
    parts = {}
    for split in ("train", "dev", "test"):
        with open(shared_data / "gue" / name / f"{split}.csv", newline="") as handle:
            rows = list(csv.DictReader(handle))
        sequences = [Tokenizer().encode(row["sequence"]) for row in rows]
        parts[split] = LabelledSequences(sequences, np.array([int(row["label"]) for row in rows]))
    found = fit_predict_kmer(parts["train"], parts["dev"], parts["test"].sequences, "binary", 2, strands="given")
    metrics = evaluate("binary", ["0", "1"], parts["test"].targets, found.scores, n_bootstrap=0).metrics
    assert metrics["auroc"].value == pytest.approx(auroc, abs=0.01)
    assert metrics["mcc"].value == pytest.approx(mcc, abs=0.01)
