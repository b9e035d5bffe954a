"""Metrics of predictions with bootstrap intervals, over all rows, per class and per group.

Values are scikit-learn's; intervals are percentiles over resamples of the rows (`hyena_dna.evaluation.bootstrap`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dna.evaluation import bootstrap
from hyena_dna.evaluation.tasks import Scores, Targets, TaskKind, check_layout
from hyena_dna.evaluation.thresholds import decide

__all__ = ["MAIN_METRIC", "Estimate", "Evaluation", "difference", "evaluate"]

MAIN_METRIC: dict[TaskKind, str] = {
    "binary": "auroc",
    "multiclass": "auroc",
    "multilabel": "auroc",
    "regression": "spearman",
}
"""The metric by which runs and baselines are compared."""

_MOST_GROUPS = 50


class Estimate(NamedTuple):
    """A metric and its 95 % interval; NaN where it has no value."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def to_dict(self) -> dict[str, float | None]:
        """As plain data; what has no value is None, which JSON can hold."""
        return {name: value if math.isfinite(value) else None for name, value in self._asdict().items()}


@dataclass(frozen=True)
class Evaluation:
    """How good predictions are.

    Attributes:
        kind: of the task.
        labels: names of the classes, or of the predicted number.
        rows: number of rows.
        metrics: over all rows. Classes: `accuracy`, `balanced_accuracy`, `mcc`, `f1` (binary: of the positive class;
            otherwise the mean over classes), `auroc`, `auprc` (mean over classes, each against the others). Several
            labels: `f1`, `mcc`, `balanced_accuracy`, `auroc`, `auprc` as means over labels, `accuracy` of single
            decisions, `exact_match` of whole rows. Regression: `r2`, `pearson`, `spearman`, `mse`, `mae`.
        per_class: for every class its `precision`, `recall`, `f1`, `auroc`, `auprc`.
        counts: rows of every class; empty for regression.
        per_group: the metrics of every group of rows, the largest groups first.
        group_rows: rows of every group in `per_group`.
        groups_left_out: groups beyond the fifty largest.
        confusion: (true class, predicted class) counts; for several labels (label, 2, 2); None for regression.
        thresholds: from which probability on a label is assigned; empty where the most probable class is taken.
        n_bootstrap: resamples behind the intervals.
        draws: the metrics of every resample, (n_bootstrap,) each.
    """

    kind: TaskKind
    labels: tuple[str, ...]
    rows: int
    metrics: dict[str, Estimate]
    per_class: dict[str, dict[str, Estimate]]
    counts: dict[str, int]
    per_group: dict[str, dict[str, Estimate]]
    group_rows: dict[str, int]
    groups_left_out: int
    confusion: NDArray[np.int64] | None
    thresholds: tuple[float, ...]
    n_bootstrap: int
    draws: dict[str, NDArray[np.float64]] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the resamples, as plain data for `metrics.json`."""
        return {
            "kind": self.kind,
            "labels": list(self.labels),
            "rows": self.rows,
            "n_bootstrap": self.n_bootstrap,
            "metrics": _plain(self.metrics),
            "per_class": {name: {"rows": self.counts[name], **_plain(found)} for name, found in self.per_class.items()},
            "per_group": {
                name: {"rows": self.group_rows[name], **_plain(found)} for name, found in self.per_group.items()
            },
            "groups_left_out": self.groups_left_out,
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "thresholds": list(self.thresholds),
        }


def _plain(metrics: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_dict() for name, estimate in metrics.items()}


def evaluate(
    task_kind: TaskKind,
    labels: Sequence[str],
    targets: Targets,
    scores: Scores,
    *,
    groups: Sequence[str | None] | None = None,
    thresholds: Sequence[float] | None = None,
    seed: int = 0,
    n_bootstrap: int = 1000,
) -> Evaluation:
    """Evaluate predictions against the truth.

    Args:
        task_kind: the kind of task; see `hyena_dna.evaluation.tasks` for the layout of targets and scores.
        labels: names of the classes (binary: the positive one second), or the one name of a predicted number.
        targets: the truth.
        scores: probabilities, or predicted values.
        groups: contig, or whatever else rows share, of every row; None for rows without one.
        thresholds: from which probability on a label is assigned, one for binary, one for each of several labels;
            0.5 where None. They must not have been chosen on these rows: see `choose_thresholds`.
        seed: of the resamples.
        n_bootstrap: number of resamples; 0 for no intervals.

    Raises:
        ValueError: targets and scores do not fit each other or the task, or there are no rows.
    """
    names = tuple(labels)
    truth, values = check_layout(task_kind, names, targets, scores)
    if not len(truth):
        raise ValueError("there is nothing to evaluate")
    cuts = () if task_kind in ("multiclass", "regression") else tuple(thresholds or [0.5] * values.shape[1])
    guess = decide(task_kind, values, cuts)
    overall, draws = _estimate(task_kind, truth, values, guess, len(names), seed, n_bootstrap)
    per_class, counts = {}, {}
    if task_kind != "regression":
        for index, (name, positive, score, guessed) in enumerate(_classes(task_kind, names, truth, values, guess)):
            counts[name] = int(positive.sum())
            per_class[name] = _class_estimates(positive, score, guessed, seed + index, n_bootstrap)
    found, sizes, left_out = {}, {}, 0
    if groups is not None:
        sizes = dict(Counter(group for group in groups if group is not None).most_common())
        left_out = max(0, len(sizes) - _MOST_GROUPS)
        sizes = dict(list(sizes.items())[:_MOST_GROUPS])
        member = np.array([group or "" for group in groups])
        for name in sizes:
            rows = member == name
            found[name] = _estimate(task_kind, truth[rows], values[rows], guess[rows], len(names), seed, n_bootstrap)[0]
    return Evaluation(
        task_kind, names, len(truth), overall, per_class, counts, found, sizes, left_out,
        _confusion(task_kind, truth, guess, len(names)), cuts, n_bootstrap, draws,
    )  # fmt: skip


def difference(one: Evaluation, other: Evaluation, metric: str) -> Estimate:
    """A metric of `one` minus that of `other`, with the interval over their common resamples.

    Both must have been evaluated on the same rows in the same order with the same seed: resample by resample they
    then share the luck of the draw, and the interval of the difference is narrower than the two intervals suggest.
    """
    if (one.rows, one.n_bootstrap) != (other.rows, other.n_bootstrap):
        raise ValueError("differences need evaluations of the same rows and resamples")
    value = one.metrics[metric].value - other.metrics[metric].value
    return Estimate(value, *bootstrap.interval(one.draws[metric] - other.draws[metric]))


def _classes(
    kind: TaskKind, labels: tuple[str, ...], truth: NDArray[Any], values: NDArray[np.float64], guess: NDArray[Any]
) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[np.float64], NDArray[np.bool_]]]:
    """Name, truth, score and decision of every class against the rest."""
    for index, name in enumerate(labels):
        if kind == "binary":
            yield name, truth == index, values[:, 0] if index else -values[:, 0], guess == index
        elif kind == "multiclass":
            yield name, truth == index, values[:, index], guess == index
        else:
            yield name, truth[:, index] == 1, values[:, index], guess[:, index] == 1


def _estimate(
    kind: TaskKind,
    truth: NDArray[Any],
    values: NDArray[np.float64],
    guess: NDArray[Any],
    n_labels: int,
    seed: int,
    n_bootstrap: int,
) -> tuple[dict[str, Estimate], dict[str, NDArray[np.float64]]]:
    point = _point(kind, truth, values, guess, n_labels)
    blocks = [
        _resampled(kind, truth, values, guess, n_labels, weights)
        for weights in bootstrap.resample_weights(len(truth), n_bootstrap, seed)
    ]
    if not blocks:
        return {name: Estimate(value) for name, value in point.items()}, {}
    draws = {name: np.concatenate([block[name] for block in blocks]) for name in point}
    return {name: Estimate(value, *bootstrap.interval(draws[name])) for name, value in point.items()}, draws


def _point(
    kind: TaskKind, truth: NDArray[Any], values: NDArray[np.float64], guess: NDArray[Any], n_labels: int
) -> dict[str, float]:
    """The metrics of all rows, by scikit-learn."""
    from sklearn import metrics

    if kind == "regression":
        return _regression_point(truth, values[:, 0])
    if kind == "multilabel":
        parts = [_point("binary", truth[:, k], values[:, [k]], guess[:, k], 2) for k in range(n_labels)]
        mean = {name: _mean([part[name] for part in parts]) for name in parts[0]}
        return mean | {"accuracy": float((truth == guess).mean()), "exact_match": float((truth == guess).all(1).mean())}
    recalls = metrics.recall_score(truth, guess, labels=np.unique(truth), average=None)
    several = len(np.union1d(truth, guess)) > 1
    found = {
        "accuracy": float(metrics.accuracy_score(truth, guess)),
        "balanced_accuracy": float(np.mean(recalls)),
        "mcc": float(metrics.matthews_corrcoef(truth, guess)) if several else 0.0,
    }
    if kind == "binary":
        f1 = metrics.f1_score(truth, guess, zero_division=0.0) if truth.any() else math.nan
        return found | {"f1": float(f1)} | _ranking_point(truth == 1, values[:, 0])
    ranks = [_ranking_point(truth == k, values[:, k]) for k in range(n_labels)]
    f1 = metrics.f1_score(truth, guess, average="macro", zero_division=0.0)
    return found | {"f1": float(f1)} | {name: _mean([rank[name] for rank in ranks]) for name in ("auroc", "auprc")}


def _ranking_point(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> dict[str, float]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    if positive.all() or not positive.any():
        return {"auroc": math.nan, "auprc": math.nan}
    return {
        "auroc": float(roc_auc_score(positive, scores)),
        "auprc": float(average_precision_score(positive, scores)),
    }


def _regression_point(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> dict[str, float]:
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    spread = len(truth) > 1 and np.ptp(truth) > 0
    correlated = spread and np.ptp(predicted) > 0
    return {
        "r2": float(r2_score(truth, predicted)) if spread else math.nan,
        "pearson": float(pearsonr(truth, predicted).statistic) if correlated else math.nan,
        "spearman": float(spearmanr(truth, predicted).statistic) if correlated else math.nan,
        "mse": float(mean_squared_error(truth, predicted)),
        "mae": float(mean_absolute_error(truth, predicted)),
    }


def _resampled(
    kind: TaskKind,
    truth: NDArray[Any],
    values: NDArray[np.float64],
    guess: NDArray[Any],
    n_labels: int,
    weights: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:
    """The metrics of `_point` for every resample."""
    if kind == "regression":
        return bootstrap.regression_metrics(truth, values[:, 0], weights)
    if kind == "multilabel":
        parts = [_resampled("binary", truth[:, k], values[:, [k]], guess[:, k], 2, weights) for k in range(n_labels)]
        mean = {name: _mean_of_draws([part[name] for part in parts]) for name in parts[0]}
        right, total = truth == guess, weights.sum(1)
        return mean | {
            "accuracy": weights @ right.mean(1) / total,
            "exact_match": weights @ right.all(1).astype(np.float64) / total,
        }
    matrices = bootstrap.confusions(truth, guess, 2 if kind == "binary" else n_labels, weights)
    found = bootstrap.confusion_metrics(matrices)
    if kind == "binary":
        f1 = bootstrap.label_metrics(matrices, 1)["f1"]
        return found | {"f1": f1} | bootstrap.ranking_metrics(truth == 1, values[:, 0], weights)
    ranks = [bootstrap.ranking_metrics(truth == k, values[:, k], weights) for k in range(n_labels)]
    return found | {name: _mean_of_draws([rank[name] for rank in ranks]) for name in ("auroc", "auprc")}


def _class_estimates(
    positive: NDArray[np.bool_],
    scores: NDArray[np.float64],
    guessed: NDArray[np.bool_],
    seed: int,
    n_bootstrap: int,
) -> dict[str, Estimate]:
    from sklearn.metrics import precision_recall_fscore_support

    point = _ranking_point(positive, scores)
    precision, recall, f1, _ = precision_recall_fscore_support(positive, guessed, average="binary", zero_division=0.0)
    occurs = positive.any()
    point |= {name: float(value) if occurs else math.nan
              for name, value in (("precision", precision), ("recall", recall), ("f1", f1))}  # fmt: skip
    draws: dict[str, list[NDArray[np.float64]]] = {name: [] for name in point}
    for weights in bootstrap.resample_weights(len(positive), n_bootstrap, seed):
        matrices = bootstrap.confusions(positive.astype(np.int64), guessed.astype(np.int64), 2, weights)
        found = bootstrap.label_metrics(matrices, 1) | bootstrap.ranking_metrics(positive, scores, weights)
        for name in point:
            draws[name].append(found[name])
    order = ("precision", "recall", "f1", "auroc", "auprc")
    if not n_bootstrap:
        return {name: Estimate(point[name]) for name in order}
    return {name: Estimate(point[name], *bootstrap.interval(np.concatenate(draws[name]))) for name in order}


def _confusion(kind: TaskKind, truth: NDArray[Any], guess: NDArray[Any], n_labels: int) -> NDArray[np.int64] | None:
    from sklearn.metrics import confusion_matrix, multilabel_confusion_matrix

    if kind == "regression":
        return None
    found = (
        multilabel_confusion_matrix(truth, guess)
        if kind == "multilabel"
        else confusion_matrix(truth, guess, labels=np.arange(2 if kind == "binary" else n_labels))
    )
    return np.asarray(found, np.int64)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan


def _mean_of_draws(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return bootstrap.mean_of_known(np.stack(values, 1))
