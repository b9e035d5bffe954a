"""What fine-tuned models and baselines reach on held-out examples: calibration, metrics with intervals, summaries."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dna.baselines.gc import fit_predict_gc
from hyena_dna.baselines.kmer import fit_predict_kmer
from hyena_dna.baselines.linear import BaselineFit, LabelledSequences
from hyena_dna.datasets.label_splits import Split
from hyena_dna.evaluation.calibration import fit_temperature, probabilities
from hyena_dna.evaluation.metrics import Evaluation, evaluate
from hyena_dna.evaluation.thresholds import choose_thresholds
from hyena_dna.files import atomic_open, atomic_path
from hyena_dna.model.classifier import TaskConfig
from hyena_dna.training.cnn_baseline import fit_predict_cnn
from hyena_dna.training.finetune_data import LabelledData

__all__ = ["Predicted", "calibrated", "fit_baseline", "held_out", "load_predicted", "save_predicted", "summarise"]


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predictions of one model on the held-out examples of one split.

    Attributes:
        facts: how the model came to be: seed, fold, best epoch, hyperparameters.
        rows: example numbers.
        scores: (rows, outputs) calibrated probabilities or predicted values.
        thresholds: from which probability on a label is assigned.
    """

    facts: dict[str, Any]
    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    thresholds: tuple[float, ...]

    def evaluate(self, data: LabelledData, *, n_bootstrap: int, seed: int) -> Evaluation:
        """Metrics with intervals, per class and per contig."""
        of_all = data.examples.contigs
        contigs = [of_all[row] for row in self.rows.tolist()]
        return evaluate(
            data.labelling.kind,
            data.labelling.labels,
            data.labelling.targets[self.rows],
            self.scores,
            groups=contigs if any(contigs) else None,
            thresholds=self.thresholds or None,
            n_bootstrap=n_bootstrap,
            seed=seed,
        )


def held_out(split: Split) -> tuple[str, NDArray[np.int64]]:
    """What results are reported on: the test part, or validation where there is no test."""
    return ("test", split.test) if len(split.test) else ("validation", split.val)


def calibrated(task: TaskConfig, targets: NDArray[Any], logits: NDArray[np.float32]) -> TaskConfig:
    """The task with temperature and thresholds chosen on validation rows; for regression unchanged.

    Args:
        task: the task.
        targets: of validation rows.
        logits: of the same rows.
    """
    if task.kind == "regression":
        return task
    temperature = fit_temperature(task.kind, targets, logits)
    scores = probabilities(task.kind, logits, temperature)
    return task.model_copy(
        update={"temperature": temperature, "thresholds": choose_thresholds(task.kind, targets, scores)}
    )


def fit_baseline(
    name: str, data: LabelledData, split: Split, *, strands: bool, seed: int, device: torch.device
) -> Predicted:
    """Fit a simple model on the same training rows, its settings chosen on the same validation rows.

    Args:
        name: gc, kmer or cnn.
        data: the examples.
        split: the rows.
        strands: the CNN reads both strands.
        seed: of the CNN.
        device: where the CNN runs.
    """
    ids, lengths = data.examples.ids, data.examples.lengths

    def sequences(rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        return [ids[row, : lengths[row]] for row in rows.tolist()]

    def labelled(rows: NDArray[np.int64]) -> LabelledSequences:
        return LabelledSequences(sequences(rows), data.labelling.targets[rows])

    kind, count = data.labelling.kind, len(data.labelling.labels)
    _, rows = held_out(split)
    train, dev, test = labelled(split.train), labelled(split.val), sequences(rows)
    found: BaselineFit
    match name:
        case "gc":
            found = fit_predict_gc(train, dev, test, kind, count)
        case "kmer":
            found = fit_predict_kmer(train, dev, test, kind, count)
        case _:
            found = fit_predict_cnn(train, dev, test, kind, count, strands=strands, seed=seed, device=device)
    thresholds = choose_thresholds(kind, data.labelling.targets[split.val], found.dev_scores)
    return Predicted({"name": found.name, "settings": found.settings}, rows, found.scores, thresholds)


def save_predicted(path: Path, predicted: Predicted) -> None:
    """Write predictions to a .npz and what is known of them to a .json beside it, which comes last."""
    with atomic_path(path.with_suffix(".npz")) as temporary:
        np.savez(temporary, rows=predicted.rows, scores=predicted.scores, thresholds=np.array(predicted.thresholds))
    with atomic_open(path.with_suffix(".json"), "w") as handle:
        json.dump(predicted.facts, handle)


def load_predicted(path: Path) -> Predicted | None:
    """Read what `save_predicted` wrote; None where it is not there, or not complete."""
    if not path.with_suffix(".json").is_file():
        return None
    facts = json.loads(path.with_suffix(".json").read_text("utf-8"))
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
        return Predicted(facts, arrays["rows"], arrays["scores"], tuple(arrays["thresholds"].tolist()))


def summarise(evaluations: Sequence[Evaluation]) -> dict[str, dict[str, float | int | None]]:
    """Mean of every metric over runs, their standard deviation, and Student's 95 % interval of the mean."""
    from scipy.stats import t

    summary: dict[str, dict[str, float | int | None]] = {}
    for name in evaluations[0].metrics:
        values = np.array([evaluation.metrics[name].value for evaluation in evaluations])
        values = values[np.isfinite(values)]
        mean = float(values.mean()) if len(values) else math.nan
        deviation = float(values.std(ddof=1)) if len(values) > 1 else math.nan
        half = (
            float(t.ppf(0.975, len(values) - 1)) * deviation / math.sqrt(len(values)) if len(values) > 1 else math.nan
        )
        row: Mapping[str, float] = {"mean": mean, "sd": deviation, "low": mean - half, "high": mean + half}
        summary[name] = {key: value if math.isfinite(value) else None for key, value in row.items()}
        summary[name]["runs"] = len(values)
    return summary
