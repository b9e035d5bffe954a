"""Metrics of many bootstrap resamples at once.

A resample of rows is a weight for every row: how often it was drawn. Every metric here takes weights
`(resamples, rows)` and works on all resamples with the rows sorted once, so that a thousand of ten thousand rows take
a second or two. Their definitions are scikit-learn's on the rows repeated as often as their weights say.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "confusion_metrics",
    "confusions",
    "interval",
    "label_metrics",
    "mean_of_known",
    "ranking_metrics",
    "regression_metrics",
    "resample_weights",
]

Weights = NDArray[np.float64]
Draws = dict[str, NDArray[np.float64]]

# Weights of a block of resamples: a few arrays of this many numbers are in memory at a time.
_BLOCK = 1 << 22


def resample_weights(rows: int, resamples: int, seed: int) -> Iterator[Weights]:
    """Draw resamples of the rows with replacement (Efron 1979).

    The draws depend on the arguments alone: the same rows scored by two models are drawn alike, so that differences
    of metrics can be taken resample by resample.

    Yields:
        Weights `(resamples of a block, rows)`; the blocks add up to `resamples`.
    """
    rng = np.random.default_rng(seed)
    size = max(1, _BLOCK // max(1, rows))
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        drawn = rng.integers(0, rows, (count, rows))
        drawn += np.arange(count)[:, None] * rows
        yield np.bincount(drawn.ravel(), minlength=count * rows).reshape(count, rows).astype(np.float64)


def interval(draws: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Percentile interval over resamples `(resamples,)`; those where the metric has no value do not count."""
    known = draws[np.isfinite(draws)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def ranking_metrics(positive: NDArray[np.bool_], scores: NDArray[np.float64], weights: Weights) -> Draws:
    """Areas under the ROC curve (ties count half) and the precision-recall curve (average precision).

    Args:
        positive: (rows,) true class.
        scores: (rows,) higher means more like a positive.
        weights: (resamples, rows).

    Returns:
        `auroc` and `auprc`, (resamples,) each; NaN where a class is missing.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    first = np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1])
    taken = weights[:, order]
    hits = np.add.reduceat(taken * positive[order], first, axis=1)
    misses = np.add.reduceat(taken, first, axis=1) - hits
    found = np.cumsum(hits, 1)
    total = found[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = (misses * (found - hits / 2)).sum(1)
        auroc = pairs / (total * misses.sum(1))
        precision = found / (found + np.cumsum(misses, 1))
        auprc = np.where(hits > 0, hits * precision, 0.0).sum(1) / total
    return {"auroc": auroc, "auprc": auprc}


def confusions(truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int, weights: Weights) -> Weights:
    """Confusion matrices `(resamples, true class, predicted class)`."""
    cells = truth * classes + predicted
    order = np.argsort(cells, kind="stable")
    found, first = np.unique(cells[order], return_index=True)
    counts = np.zeros((len(weights), classes * classes))
    counts[:, found] = np.add.reduceat(weights[:, order], first, axis=1)
    return counts.reshape(-1, classes, classes)


def confusion_metrics(matrices: Weights) -> Draws:
    """Metrics of decisions over all classes.

    Args:
        matrices: (resamples, true class, predicted class) counts.

    Returns:
        `accuracy`; `balanced_accuracy`, the mean recall of the classes that occur; `mcc`, Matthews' correlation in
        Gorodkin's form for any number of classes (2004), 0 where all rows are of one class or predicted as one; and
        `f1`, the mean over classes that occur or are predicted.
    """
    right = np.einsum("rkk->rk", matrices)
    truths, guesses, total = matrices.sum(2), matrices.sum(1), matrices.sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = right / truths
        f1 = 2 * right / (truths + guesses)
        covariance = right.sum(1) * total - (truths * guesses).sum(1)
        spread = np.sqrt((total**2 - (guesses**2).sum(1)) * (total**2 - (truths**2).sum(1)))
        mcc = np.where(spread > 0, covariance / spread, 0.0)
    return {
        "accuracy": right.sum(1) / total,
        "balanced_accuracy": mean_of_known(recall),
        "mcc": mcc,
        "f1": mean_of_known(f1),
    }


def label_metrics(matrices: Weights, label: int) -> Draws:
    """Metrics of decisions for one class against the others: precision, recall, f1; 0 where undefined, as by
    convention, but NaN where the class does not occur.

    Args:
        matrices: (resamples, true class, predicted class) counts.
        label: the class.
    """
    right = matrices[:, label, label]
    truths, guesses = matrices[:, label].sum(1), matrices[:, :, label].sum(1)
    occurs = truths > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(guesses > 0, right / guesses, 0.0)
        recall = right / truths
        f1 = 2 * right / (truths + guesses)
    return {name: np.where(occurs, value, np.nan) for name, value in
            (("precision", precision), ("recall", recall), ("f1", f1))}  # fmt: skip


def regression_metrics(truth: NDArray[np.float64], predicted: NDArray[np.float64], weights: Weights) -> Draws:
    """Errors and correlations of predicted numbers.

    Returns:
        `r2` (coefficient of determination), `pearson`, `spearman` (mid-ranks within each resample), `mse`, `mae`;
        NaN where targets or predictions are constant and the metric needs a spread.
    """
    total = weights.sum(1)
    mse = weights @ ((truth - predicted) ** 2) / total
    # Moments about the overall mean: those of a resample about zero would lose digits.
    centred = truth - truth.mean()
    variance = weights @ centred**2 / total - (weights @ centred / total) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        r2 = np.where(variance > 0, 1 - mse / variance, np.nan)
    shape = weights.shape
    pearson = _correlation(np.broadcast_to(truth, shape), np.broadcast_to(predicted, shape), weights)
    spearman = _correlation(_ranks(truth, weights), _ranks(predicted, weights), weights)
    mae = weights @ abs(truth - predicted) / total
    return {"r2": r2, "pearson": pearson, "spearman": spearman, "mse": mse, "mae": mae}


def _ranks(values: NDArray[np.float64], weights: Weights) -> Weights:
    """Mid-rank of every row among the rows drawn, (resamples, rows)."""
    order = np.argsort(values, kind="stable")
    step = np.concatenate([[True], np.diff(values[order]) > 0])
    drawn = np.add.reduceat(weights[:, order], np.flatnonzero(step), axis=1)
    middle = np.cumsum(drawn, 1) - drawn / 2 + 0.5
    ranks = np.empty_like(weights)
    ranks[:, order] = middle[:, np.cumsum(step) - 1]
    return ranks


def _correlation(x: Weights, y: Weights, weights: Weights) -> NDArray[np.float64]:
    x, y = _centred(x, weights), _centred(y, weights)
    both, left, right = ((weights * a * b).sum(1) for a, b in ((x, y), (x, x), (y, y)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((left > 0) & (right > 0), both / np.sqrt(left * right), np.nan)


def _centred(values: Weights, weights: Weights) -> Weights:
    """Values less their mean, exactly zero where all values drawn are equal."""
    mean = (weights * values).sum(1, keepdims=True) / weights.sum(1, keepdims=True)
    drawn = weights > 0
    low = np.where(drawn, values, np.inf).min(1, keepdims=True)
    high = np.where(drawn, values, -np.inf).max(1, keepdims=True)
    centred: Weights = np.where(low == high, 0.0, values - mean)
    return centred


def mean_of_known(values: Weights) -> NDArray[np.float64]:
    """Mean over the second axis of what is a number, NaN where nothing is: `(resamples, classes)` to `(resamples,)`."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: NDArray[np.float64] = np.where(known, values, 0.0).sum(1) / known.sum(1)
    return mean
