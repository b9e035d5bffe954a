"""Files of a finished fine-tuning: metrics.json, predictions.tsv, report.html."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyena_dna.evaluation.calibration import calibrate
from hyena_dna.evaluation.metrics import MAIN_METRIC, Evaluation, difference
from hyena_dna.files import atomic_open
from hyena_dna.output.classification_report import NETWORK, Predictions, write_classification_report
from hyena_dna.training.finetune_config import FinetuneConfig
from hyena_dna.training.finetune_data import LabelledData
from hyena_dna.training.finetune_results import Predicted, summarise
from hyena_dna.training.run_folder import RunFolder

__all__ = ["FinetuneResults", "write_results"]


@dataclass(frozen=True, eq=False)
class FinetuneResults:
    """Everything that a report speaks of.

    Attributes:
        name: what the run is called.
        config: the run.
        data: the examples.
        runs: predictions of each fit, by seed and in each by fold.
        baselines: by name, predictions on each split.
        record: the content of `run.json` so far.
    """

    name: str
    config: FinetuneConfig
    data: LabelledData
    runs: list[Predicted]
    baselines: dict[str, list[Predicted]]
    record: dict[str, Any]

    def pooled(self, parts: Sequence[Predicted]) -> Predicted:
        """Predictions of all folds as one; of a single split as they are.

        Thresholds of one fold cannot stand for all; scores are moved so that 0.5 is every fold's threshold.
        """
        if len(parts) == 1:
            return parts[0]
        scores = [_centred(part) for part in parts]
        rows = np.concatenate([part.rows for part in parts])
        return Predicted(parts[0].facts, rows, np.concatenate(scores), ())


def _centred(part: Predicted) -> Any:
    """Scores whose decisions at 0.5 are those at the thresholds of their fold; ranks inside a fold stay."""
    if not part.thresholds:
        return part.scores
    cut = np.clip(np.asarray(part.thresholds), 1e-6, 1 - 1e-6)
    scores = np.clip(part.scores, 1e-12, 1 - 1e-12)
    odds = scores / (1 - scores) * (1 - cut) / cut
    return odds / (1 + odds)


def write_results(results: FinetuneResults, folder: RunFolder) -> dict[str, Any]:
    """Evaluate and write the files; returns the short result for `run.json`."""
    config, data = results.config, results.data
    folds = len(data.splits)
    settings = {"n_bootstrap": config.trainer.bootstrap, "seed": config.trainer.seed}
    singles = [run.evaluate(data, n_bootstrap=0, seed=0) for run in results.runs]
    first = results.pooled(results.runs[:folds])
    network = first.evaluate(data, **settings)
    rivals = {
        name: (parts[0].facts, results.pooled(parts).evaluate(data, **settings))
        for name, parts in results.baselines.items()
    }
    kind, labels = data.labelling.kind, data.labelling.labels
    targets = data.labelling.targets[first.rows]
    main = MAIN_METRIC[kind]
    content = {
        "name": results.name,
        "mode": config.mode,
        "task": results.record["task"],
        "kind": kind,
        "labels": list(labels),
        "evaluated_on": results.runs[0].facts["evaluated_on"],
        "splits": [
            {"description": split.description, "counts": data.counts(split), "sharing_sequence": overlaps}
            for split, overlaps in zip(data.splits, data.overlaps, strict=True)
        ],
        "evaluation": network.to_dict(),
        "calibration": None if kind == "regression" else calibrate(kind, targets, first.scores).to_dict(),
        "runs": [
            {**{key: value for key, value in run.facts.items() if key not in ("log_offset", "history")},
             "metrics": {name: estimate.value for name, estimate in single.metrics.items()}}
            for run, single in zip(results.runs, singles, strict=True)
        ],
        "summary": summarise(singles),
        "baselines": {
            name: {**facts, "evaluation": found.to_dict(), f"{main}_difference": _difference(network, found, main)}
            for name, (facts, found) in rivals.items()
        },
    }  # fmt: skip
    with atomic_open(folder.evaluation, "w") as handle:
        json.dump(_finite(content), handle, indent=1)
        handle.write("\n")
    _write_predictions(results, folder)
    drawn = {NETWORK: Predictions(targets, first.scores)}
    for parts in results.baselines.values():
        found = results.pooled(parts)
        drawn[parts[0].facts["name"]] = Predictions(data.labelling.targets[found.rows], found.scores)
    write_classification_report(
        folder.report, _finite(content), results.record, drawn, main_metric=main, history=folder.metrics
    )
    return {
        "evaluated_on": content["evaluated_on"],
        "metrics": {name: estimate.to_dict() for name, estimate in network.metrics.items()},
        "summary": content["summary"],
        "baselines": {
            facts["name"]: {name: estimate.to_dict() for name, estimate in found.metrics.items()}
            for facts, found in rivals.values()
        },
    }


def _difference(one: Evaluation, other: Evaluation, metric: str) -> dict[str, float | None] | None:
    return difference(one, other, metric).to_dict() if one.n_bootstrap else None


def _finite(tree: Any) -> Any:
    """The same with None for what is no number, which JSON does not know."""
    if isinstance(tree, dict):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and not np.isfinite(tree) else tree


def _write_predictions(results: FinetuneResults, folder: RunFolder) -> None:
    """One line per held-out example and fit: where it is, its label, its probabilities."""
    examples, kind = results.data.examples, results.data.labelling.kind
    labels = results.data.labelling.labels
    outputs = labels[1:] if kind == "binary" else labels
    columns = ["chrom", "start", "end", "name", "label", "seed", "fold", *outputs]
    with atomic_open(folder.predictions, "w") as handle:
        handle.write("\t".join(columns) + "\n")
        for run in results.runs:
            for row, scores in zip(run.rows.tolist(), run.scores.tolist(), strict=True):
                interval = examples.intervals[row]
                place = (interval.chrom, interval.start, interval.end) if interval else (".", 0, examples.lengths[row])
                given = (*place, examples.names[row], examples.labels[row] or ".", run.facts["seed"], run.facts["fold"])
                handle.write("\t".join([*map(str, given), *(f"{score:.6g}" for score in scores)]) + "\n")
