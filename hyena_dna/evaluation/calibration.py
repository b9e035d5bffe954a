"""Whether probabilities mean what they say: reliability, expected calibration error, temperature scaling."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena_dna.evaluation.tasks import Scores, Targets, TaskKind

__all__ = ["Calibration", "calibrate", "fit_temperature", "probabilities"]

_BINS = 15

# Wilson's interval (1927) at 95 %.
_Z = 1.959964

# Temperatures beyond these say that the model ranks nothing, or everything.
_LOG_TEMPERATURES = (np.log(0.05), np.log(20.0))


@dataclass(frozen=True)
class Calibration:
    """A reliability curve over bins of equal width that are not empty, and its summaries.

    Attributes:
        confidence: mean predicted probability of every bin.
        frequency: share of its rows where the prediction came true.
        low: lower end of the 95 % interval of `frequency` (Wilson).
        high: its upper end.
        rows: rows of every bin.
        ece: expected calibration error, the mean distance of confidence and frequency over rows (Guo et al. 2017).
        mce: the largest such distance of a bin.
        brier: mean squared distance of probability and outcome, summed over classes for more than two (Brier 1950).
    """

    confidence: list[float]
    frequency: list[float]
    low: list[float]
    high: list[float]
    rows: list[int]
    ece: float
    mce: float
    brier: float

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def calibrate(kind: TaskKind, targets: Targets, scores: Scores, *, bins: int = _BINS) -> Calibration:
    """Compare probabilities with outcomes.

    Binary: the probability of the positive class. More classes: that of the most probable one, and whether it is
    right. Several labels: those of all labels together.

    Args:
        kind: any but regression.
        targets: see `hyena_dna.evaluation.tasks`.
        scores: probabilities.
        bins: of equal width over 0..1.

    Raises:
        ValueError: the task is a regression.
    """
    if kind == "regression":
        raise ValueError("a regression has no probabilities")
    values, truth = np.asarray(scores, np.float64), np.asarray(targets)
    if kind == "multiclass":
        confidence, outcome = values.max(1), (values.argmax(1) == truth).astype(np.float64)
        brier = float(((values - np.eye(values.shape[1])[truth]) ** 2).sum(1).mean())
    else:
        confidence, outcome = values.ravel(), truth.ravel().astype(np.float64)
        brier = float(((confidence - outcome) ** 2).mean())
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    rows = np.bincount(place, minlength=bins)
    used = np.flatnonzero(rows)
    n = rows[used].astype(np.float64)
    mean = np.bincount(place, confidence, bins)[used] / n
    share = np.bincount(place, outcome, bins)[used] / n
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    gap = abs(mean - share)
    return Calibration(
        confidence=mean.tolist(),
        frequency=share.tolist(),
        low=np.maximum(middle - half, 0.0).tolist(),
        high=np.minimum(middle + half, 1.0).tolist(),
        rows=rows[used].tolist(),
        ece=float((gap * n).sum() / n.sum()),
        mce=float(gap.max()),
        brier=brier,
    )


def probabilities(kind: TaskKind, logits: Scores, temperature: float = 1.0) -> NDArray[np.float64]:
    """Logits as scores: divided by the temperature, then through the sigmoid or softmax; regression as it is.

    Args:
        kind: the kind of task.
        logits: (n, outputs).
        temperature: above zero; 1 changes nothing. It does not change the order of rows or classes.
    """
    from scipy.special import expit, softmax

    values = np.asarray(logits, np.float64)
    if kind == "regression":
        return values
    scaled = values / temperature
    found: NDArray[np.float64] = softmax(scaled, axis=1) if kind == "multiclass" else expit(scaled)
    return found


def fit_temperature(kind: TaskKind, targets: Targets, logits: Scores) -> float:
    """The temperature under which validation outcomes are most probable (Guo et al. 2017); 1 for regression.

    Args:
        kind: the kind of task.
        targets: of validation rows.
        logits: of the same rows, (n, outputs).
    """
    from scipy.optimize import minimize_scalar

    values, truth = np.asarray(logits, np.float64), np.asarray(targets)
    if kind == "regression" or not len(values):
        return 1.0
    found = minimize_scalar(
        lambda log: _loss(kind, truth, values / np.exp(log)), bounds=_LOG_TEMPERATURES, method="bounded"
    )
    return float(np.exp(found.x))


def _loss(kind: TaskKind, truth: NDArray[Any], logits: NDArray[np.float64]) -> float:
    """Mean negative log-likelihood in nats."""
    from scipy.special import log_softmax

    if kind == "multiclass":
        return float(-log_softmax(logits, axis=1)[np.arange(len(truth)), truth].mean())
    signed = np.where(truth.reshape(logits.shape) == 1, -logits, logits)
    return float(np.logaddexp(0.0, signed).mean())
