"""The report of a fine-tuning run, of every kind of task: what it says, and that it is one sound page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyena_dna.evaluation.calibration import calibrate
from hyena_dna.evaluation.metrics import MAIN_METRIC, difference, evaluate
from hyena_dna.evaluation.tasks import TaskKind
from hyena_dna.output.classification_report import NETWORK, Predictions, write_classification_report

LABELS: dict[TaskKind, list[str]] = {
    "binary": ["background", "<promoter>"],
    "multiclass": ["a", "b", "c"],
    "multilabel": ["x", "y"],
    "regression": ["level"],
}


def build(kind: TaskKind, folder: Path, *, network: float = 2.0, fits: int = 1) -> str:
    """A report of a network that knows `network` times as much as chance beside a baseline that knows half of that."""
    rng = np.random.default_rng(0)
    labels, rows = LABELS[kind], 400
    truth: Any
    if kind == "regression":
        truth = rng.normal(size=rows)
        scores = [truth[:, None] * s + rng.normal(size=(rows, 1)) for s in (network, 1.0)]
    elif kind == "multilabel":
        truth = rng.integers(0, 2, (rows, 2))
        scores = [1 / (1 + np.exp(-s * (truth - 0.5) + rng.normal(size=truth.shape))) for s in (network, 1.0)]
    else:
        truth = rng.integers(0, len(labels), rows)
        raw = [np.exp(s * np.eye(len(labels))[truth] + rng.normal(size=(rows, len(labels)))) for s in (network, 1.0)]
        scores = [s / s.sum(1, keepdims=True) for s in raw]
        scores = [s[:, 1:] for s in scores] if kind == "binary" else scores
    groups = ["chrI" if row % 3 else "chrII" for row in range(rows)]
    one, other = (evaluate(kind, labels, truth, s, groups=groups, n_bootstrap=50) for s in scores)
    main = MAIN_METRIC[kind]
    counts = {part: dict.fromkeys(labels, 7) for part in ("train", "val", "test")}
    content = {
        "name": "example", "mode": "full", "kind": kind, "labels": labels, "evaluated_on": "test",
        "splits": [{"description": "contigs", "counts": counts}],
        "evaluation": one.to_dict(),
        "calibration": None if kind == "regression" else calibrate(kind, truth, scores[0]).to_dict(),
        "runs": [{"temperature": 1.25}],
        "summary": {main: {"mean": 0.7, "sd": 0.1, "low": 0.6, "high": 0.8, "runs": fits}},
        "baselines": {"kmer": {"name": "k-mers", "settings": {"k": 4, "C": 0.25}, "evaluation": other.to_dict(),
                               f"{main}_difference": difference(one, other, main).to_dict()}},
    }  # fmt: skip
    record = {
        "command": ["hyena-dna", "finetune"], "device": "CPU", "precision": "fp32", "threads": 2, "parameters": 1234,
        "inputs": [{"path": "x.bed", "size": 1000}], "seconds": {"training": 61.0}, "versions": {"torch": "2"},
        "config": {"trainer": {"seed": 7}},
    }  # fmt: skip
    history = folder / "metrics.csv"
    lines = [f"{seed},0,{epoch},,{1 / epoch},,{1.1 / epoch},0.{epoch}" for seed in range(fits) for epoch in (1, 2, 3)]
    history.write_text("seed,fold,epoch,step,loss,lr,val_loss,val_metric\n" + "\n".join(lines) + "\n")
    drawn = {NETWORK: Predictions(truth, scores[0]), "k-mers": Predictions(truth, scores[1])}
    path = folder / "report.html"
    write_classification_report(path, json.loads(json.dumps(content)), record, drawn, main_metric=main, history=history)
    return path.read_text("utf-8")


class _Balance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("kind", LABELS)
def test_the_page_is_whole_and_stands_alone(kind: TaskKind, tmp_path: Path) -> None:
    page = build(kind, tmp_path)
    parser = _Balance()
    parser.feed(page)
    assert not parser.open
    assert not re.search(r"(src|href)=|url\(|<script|@import", page)
    assert "nan" not in page.lower().replace("nanometre", "")
    assert "None" not in page
    for heading in ("Metrics", "By contig", "Examples", "Loss by epoch", "Run"):
        assert f"<h2>{heading}</h2>" in page
    classes = kind != "regression"
    for heading in ("ROC", "Precision and recall", "Decisions", "By class", "Do the probabilities mean what they say?"):
        assert (f"<h2>{heading}</h2>" in page) == classes
    assert ("<h2>Predicted against true</h2>" in page) == (not classes)
    assert page.count("<svg") == (2 + 2 + classes if classes else 3)


def test_it_shows_the_numbers_with_intervals(tmp_path: Path) -> None:
    page = build("binary", tmp_path)
    found = re.search(r"<tr><td>AUROC</td><td class=\"best\">(0\.\d{3})<br><span class=\"range\">(0\.\d{3}) to", page)
    assert found
    assert float(found[2]) < float(found[1])
    assert "&lt;promoter&gt;" in page
    assert "<promoter>" not in page
    assert "k 4, C 0.25" in page
    assert "1.250" in page
    assert "this probability on: &lt;promoter&gt; 0.5000" in page


def test_the_verdict(tmp_path: Path) -> None:
    assert "Yes: better than every baseline; the closest is k-mers" in build("binary", tmp_path, network=3.0)
    assert "Not shown: the model is" in build("binary", tmp_path, network=0.8)
    assert "No: k-mers is better" in build("binary", tmp_path, network=-1.0)


def test_several_fits_are_summarised(tmp_path: Path) -> None:
    page = build("binary", tmp_path, fits=3)
    assert "Over all seeds and folds" in page
    assert "<td>0.7000</td><td>0.1000</td><td>0.6000 to 0.8000</td>" in page
    assert "seed 2, fold 0" in page
    assert "Over all seeds and folds" not in build("binary", tmp_path)
