"""How well simple classifiers read a label off embeddings: a linear one, nearest neighbours, and always guessing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena_dna.errors import InputError

__all__ = ["Probe", "Score", "probe"]

_FOLDS = 5
_NEIGHBOURS = 15
# Records that the classifiers of a fold learn from: 30,000 of width 2,048 take several minutes.
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
    from sklearn.dummy import DummyClassifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    kept = [row for row, label in enumerate(labels) if label is not None]
    x, y = vectors[kept], np.array([labels[row] for row in kept], dtype=str)
    names, counts = np.unique(y, return_counts=True)
    if len(names) < 2:
        raise InputError(f"--probe {column} needs at least two classes, found {len(names)}")
    chosen = None if groups is None else [groups[row] for row in kept]
    by_chrom = chosen is not None and None not in chosen and len(set(chosen)) > 1
    folds = list(_folds(x, y, chosen if by_chrom else None, int(counts.min()), seed))
    models: dict[str, Callable[[], Any]] = {
        "linear": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=_ITERATIONS)),
        "knn": lambda: make_pipeline(StandardScaler(), Normalizer(), KNeighborsClassifier(_NEIGHBOURS)),
        "majority": lambda: DummyClassifier(strategy="most_frequent"),
    }
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in models}
    rng = np.random.default_rng(seed)
    for whole, test in folds:
        train = np.sort(rng.permutation(whole)[:_MOST_LEARNT])
        for name, make in models.items():
            model = make()
            if name == "knn" and len(train) < _NEIGHBOURS:
                model.set_params(kneighborsclassifier__n_neighbors=len(train))
            with warnings.catch_warnings():
                # A linear separation that is perfect has no finite optimum; its predictions are good all the same.
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(x[train], y[train])
            found[name].append(_score(y[test], model.predict(x[test])))
    scores = {name: _summarise(values) for name, values in found.items()}
    classes = dict(zip(names.tolist(), counts.tolist(), strict=True))
    return Probe(column, len(kept), classes, len(folds), "chrom" if by_chrom else None, **scores)


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
