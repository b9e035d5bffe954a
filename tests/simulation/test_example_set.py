"""The committed example set: it is what the command makes, and its promoter task asks for the grammar."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pysam
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hyena_dna.genome.sequence import gc_fraction
from hyena_dna.simulation.grammar import PROMOTER, satisfied
from hyena_dna.simulation.layout import WINDOW
from hyena_dna.simulation.simulate import simulate

EXAMPLE = Path(__file__).parents[2] / "data" / "example"

Fold = tuple[list[bytes], NDArray[np.int64]]


@pytest.fixture(scope="module")
def folds() -> dict[str, Fold]:
    splits = json.loads((EXAMPLE / "splits.json").read_text())
    fold = {name: split for split, names in splits.items() for name in names}
    windows: dict[str, list[bytes]] = {split: [] for split in splits}
    labels: dict[str, list[int]] = {split: [] for split in splits}
    with pysam.FastaFile(str(EXAMPLE / "genome.fa.gz")) as fasta:
        for line in (EXAMPLE / "promoters.bed").read_text().splitlines():
            chrom, start, end, label = line.split("\t")[:4]
            first = (int(start) + int(end) - WINDOW) // 2
            windows[fold[chrom]].append(fasta.fetch(chrom, first, first + WINDOW).upper().encode())
            labels[fold[chrom]].append(label == "promoter")
    return {split: (windows[split], np.array(labels[split], np.int64)) for split in splits}


def _kmer_counts(windows: list[bytes], k: int) -> NDArray[np.float32]:
    table = np.full(256, -1)
    table[list(b"ACGT")] = range(4)
    counts = np.zeros((len(windows), 4**k), np.float32)
    for row, window in zip(counts, windows, strict=True):
        bases = table[np.frombuffer(window, np.uint8)]
        stretches = np.lib.stride_tricks.sliding_window_view(bases, k)
        stretches = stretches[(stretches >= 0).all(1)]
        np.add.at(row, stretches @ 4 ** np.arange(k), 1)
    return counts


def test_the_set_is_small_enough_for_git() -> None:
    assert sum(path.stat().st_size for path in EXAMPLE.iterdir()) < 5_000_000


def test_the_task_has_enough_examples_in_every_fold(folds: dict[str, Fold]) -> None:
    assert len(folds["train"][0]) > 3_000
    assert min(len(folds[split][0]) for split in ("valid", "test")) > 300
    assert all(labels.mean() == 0.5 for _, labels in folds.values())
    assert all(len(window) == WINDOW for windows, _ in folds.values() for window in windows)


def test_gc_content_does_not_solve_the_task(folds: dict[str, Fold]) -> None:
    for split in folds:
        windows, labels = folds[split]
        area = roc_auc_score(labels, [gc_fraction(window) for window in windows])
        assert 0.4 < area < 0.6


def test_the_grammar_solves_the_task(folds: dict[str, Fold]) -> None:
    windows, labels = folds["test"]
    assert roc_auc_score(labels, [satisfied(window, PROMOTER) for window in windows]) > 0.97


@pytest.mark.slow
def test_kmers_do_not_solve_the_task(folds: dict[str, Fold]) -> None:
    best, chosen = 0.0, 0.0
    for k in range(1, 7):
        counts = {split: _kmer_counts(windows, k) for split, (windows, _) in folds.items()}
        for strength in (0.001, 0.01, 0.1, 1.0):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))
            model.fit(counts["train"], folds["train"][1])
            area = {s: roc_auc_score(folds[s][1], model.decision_function(counts[s])) for s in ("valid", "test")}
            if area["valid"] > best:
                best, chosen = area["valid"], area["test"]
    assert chosen < 0.7


@pytest.mark.slow
def test_the_committed_set_is_what_the_command_makes(tmp_path: Path) -> None:
    truth = json.loads((EXAMPLE / "truth.json").read_text())
    made = simulate(tmp_path / "set", seed=truth["seed"], length=truth["length"], contigs=len(truth["contigs"])).output
    assert {path.name for path in made.iterdir()} == {path.name for path in EXAMPLE.iterdir()}
    for path in sorted(EXAMPLE.iterdir()):
        # Compressed bytes may differ between versions of htslib; what they hold may not.
        if path.suffix in (".gz", ".bam"):
            assert gzip.decompress(path.read_bytes()) == gzip.decompress((made / path.name).read_bytes()), path.name
        elif path.suffix not in (".gzi", ".tbi", ".bai"):
            assert path.read_bytes() == (made / path.name).read_bytes(), path.name
