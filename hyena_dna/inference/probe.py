"""How well simple classifiers read a label off embeddings: a linear one, nearest neighbours, and always guessing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena_dna.errors import InputError
from hyena_dna.inference.probe_models import fit_softmax, nearest_classes

__all__ = ["Probe", "Score", "probe"]

_FOLDS = 5
_NEIGHBOURS = 15
# Records that the classifiers of a fold learn from; time is in proportion.
_MOST_LEARNT = 10_000
_ITERATIONS = 200


@dataclass(frozen=True)
class Score:
    """Mean over folds, and standard deviation between them.

    Attributes:
        accuracy: share of records that are right.
        balanced_accuracy: mean over classes of the share that is right; 1 / classes for guessing.
        mcc: Matthews correlation coefficient; 0 for guessing.
    """

    accuracy: float
    accuracy_sd: float
    balanced_accuracy: float
    balanced_accuracy_sd: float
    mcc: float
    mcc_sd: float


@dataclass(frozen=True)
class Probe:
    """What cross-validation found.

    Attributes:
        column: the label.
        records: records with a label.
        classes: number of records of each class.
        folds: number of folds.
        groups: what no two folds share: `chrom`, or None where records were split at random within classes.
        linear: logistic regression on standardised vectors.
        knn: 15 nearest neighbours by cosine.
        majority: always the most frequent class.
    """

    column: str
    records: int
    classes: dict[str, int]
    folds: int
    groups: str | None
    linear: Score
    knn: Score
    majority: Score

    def summary(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        how = f"{self.folds} folds by {self.groups}" if self.groups else f"{self.folds} stratified folds"
        head = f"probe of {self.column}: {self.records:,} records, {len(self.classes)} classes, {how}"
        rows = (("linear", self.linear), (f"kNN {_NEIGHBOURS}", self.knn), ("majority", self.majority))
        return [head, *(
            f"  {name:<9} accuracy {score.accuracy:.3f} +- {score.accuracy_sd:.3f}  "
            f"balanced {score.balanced_accuracy:.3f} +- {score.balanced_accuracy_sd:.3f}  "
            f"MCC {score.mcc:.3f} +- {score.mcc_sd:.3f}" for name, score in rows
        )]  # fmt: skip


def probe(
    vectors: NDArray[np.float32],
    labels: Sequence[str | None],
    *,
    column: str = "label",
    groups: Sequence[str | None] | None = None,
    seed: int = 0,
) -> Probe:
    """Cross-validate classifiers of a label.

    Where there are coordinates, folds share no contig: neighbouring records look alike, and random folds would count
    that as knowledge. Of more than 10,000 records to learn from, that many are taken at random; every held-out record
    is scored.

    Args:
        vectors: (records, width).
        labels: class of each record; those without are left out.
        column: what the label is called.
        groups: contig of each record; used where all have one and there are at least two.
        seed: of the random choices.

    Raises:
        InputError: fewer than two classes, or too few records or contigs to hold some of every class out.
    """
    from sklearn.preprocessing import StandardScaler

    kept = [row for row, label in enumerate(labels) if label is not None]
    x = vectors if len(kept) == len(vectors) else vectors[kept]
    y = np.array([labels[row] for row in kept], dtype=str)
    names, counts = np.unique(y, return_counts=True)
    if len(names) < 2:
        raise InputError(f"--probe {column} needs at least two classes, found {len(names)}")
    chosen = None if groups is None else [groups[row] for row in kept]
    by_chrom = chosen is not None and None not in chosen and len(set(chosen)) > 1
    folds = list(_folds(x, y, chosen if by_chrom else None, int(counts.min()), seed))
    found: dict[str, list[tuple[float, float, float]]] = {"linear": [], "knn": [], "majority": []}
    rng = np.random.default_rng(seed)
    for whole, test in folds:
        train = np.sort(rng.permutation(whole)[:_MOST_LEARNT])
        scaler = StandardScaler().fit(x[train])
        learnt, held = scaler.transform(x[train]), scaler.transform(x[test])
        known, codes = np.unique(y[train], return_inverse=True)
        predicted = {
            "linear": fit_softmax(learnt, codes, len(known), iterations=_ITERATIONS).predict(held),
            "knn": nearest_classes(learnt, codes, held, _NEIGHBOURS),
            "majority": np.full(len(test), np.bincount(codes).argmax()),
        }
        for name, classes in predicted.items():
            found[name].append(_score(y[test], known[classes]))
    scores = {name: _summarise(values) for name, values in found.items()}
    sizes = dict(zip(names.tolist(), counts.tolist(), strict=True))
    return Probe(column, len(kept), sizes, len(folds), "chrom" if by_chrom else None, **scores)


def _folds(
    x: NDArray[np.float32], y: NDArray[np.str_], groups: list[str | None] | None, rarest: int, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if groups is None:
        count = min(_FOLDS, rarest)
        if count < 2:
            raise InputError("a probe needs at least two records of every class")
        return list(StratifiedKFold(count, shuffle=True, random_state=seed).split(x, y))
    splitter = StratifiedGroupKFold(min(_FOLDS, len(set(groups))), shuffle=True, random_state=seed)
    folds = [(train, test) for train, test in splitter.split(x, y, groups) if len(test)]
    if any(len(np.unique(y[train])) < 2 for train, _ in folds):
        raise InputError("a probe by contig needs two classes on the contigs that remain when one is held out")
    return folds


def _score(truth: NDArray[np.str_], predicted: NDArray[np.str_]) -> tuple[float, float, float]:
    from sklearn.metrics import matthews_corrcoef

    recalls = [float((predicted[truth == name] == name).mean()) for name in np.unique(truth)]
    return float((truth == predicted).mean()), float(np.mean(recalls)), float(matthews_corrcoef(truth, predicted))


def _summarise(values: list[tuple[float, float, float]]) -> Score:
    means, deviations = np.mean(values, 0).tolist(), np.std(values, 0).tolist()
    return Score(means[0], deviations[0], means[1], deviations[1], means[2], deviations[2])
