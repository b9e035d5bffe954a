"""From the text of labels to what a model learns: which kind of task, which classes, one target per example."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hyena_dna.datasets.labelled import Place
from hyena_dna.errors import InputError

__all__ = ["ClassRule", "Labelling", "TaskChoice", "check_classes", "label_examples", "parse_class"]

TaskChoice = Literal["auto", "binary", "multiclass", "multilabel", "regression"]

_log = logging.getLogger("hyena_dna")

# More classes than this are names of regions rather than labels.
_MOST_CLASSES = 200
_SEPARATOR = ";"


@dataclass(frozen=True, slots=True)
class ClassRule:
    """A class made of several labels.

    Attributes:
        name: of the class.
        patterns: labels, or globs of labels, that belong to it.
    """

    name: str
    patterns: tuple[str, ...]

    def takes(self, label: str) -> bool:
        """Whether a label belongs to the class; a name comes before a glob."""
        return label in self.patterns or any(fnmatchcase(label, pattern) for pattern in self.patterns)


def parse_class(text: str) -> ClassRule:
    """Read `NAME=LABEL,LABEL,...`, where labels may be globs; `NAME` alone is the class of that label.

    Raises:
        InputError: a part is empty.
    """
    name, equals, rest = text.partition("=")
    patterns = tuple(part.strip() for part in rest.split(",")) if equals else (name.strip(),)
    if not name.strip() or not all(patterns):
        raise InputError(f"--class {text!r} is not of the form NAME=LABEL,LABEL,...")
    return ClassRule(name.strip(), patterns)


@dataclass(frozen=True, eq=False)
class Labelling:
    """What is to be learnt.

    Attributes:
        kind: of the task.
        labels: names of the classes; binary: the negative one first; regression: what the number is called.
        rows: (n,) the examples that have a target, rising.
        targets: of these; see `hyena_dna.evaluation.tasks`.
        left_out: number of examples by label that no class takes.
    """

    kind: Literal["binary", "multiclass", "multilabel", "regression"]
    labels: tuple[str, ...]
    rows: NDArray[np.int64]
    targets: NDArray[Any]
    left_out: dict[str, int]

    def counts(self, rows: NDArray[np.int64]) -> dict[str, int]:
        """Examples of each class among some of the targets; empty for regression."""
        if self.kind == "regression":
            return {}
        if self.kind == "multilabel":
            found = self.targets[rows].sum(0)
        else:
            found = np.bincount(self.targets[rows], minlength=len(self.labels))
        return dict(zip(self.labels, (int(count) for count in found), strict=True))


def label_examples(
    labels: Sequence[str | None],
    places: Sequence[Place],
    kind: TaskChoice = "auto",
    *,
    classes: Sequence[ClassRule] = (),
    positive: str | None = None,
    name: str = "value",
) -> Labelling:
    """Decide what is learnt from labels.

    `auto` takes labels that hold `;` for several labels each, numbers with decimal places for a regression, two
    classes for binary and more for multiclass. Classes stand in the order of `classes`, or sorted (numbers by value).

    Args:
        labels: text of each label; None, for multilabel, is none of the labels.
        places: where each was read.
        kind: of the task.
        classes: classes made of labels; examples with other labels are left out.
        positive: binary: the class that the probability is of; by default the last one.
        name: what a predicted number is called.

    Raises:
        InputError: a label is missing or no number, there is one class only, or so many that they must be names; or
            the classes do not fit the kind.
    """
    _check_missing(labels, places, kind)
    several = kind == "multilabel" or (kind == "auto" and any(_SEPARATOR in (label or "") for label in labels))
    if several:
        return _multilabel(labels, places, classes)
    texts = [label or "" for label in labels]
    if kind == "regression" or (kind == "auto" and not classes and _is_measured(texts)):
        if classes or positive:
            raise InputError("a regression has no classes", remedy="leave out --class and --positive")
        values = np.array([_number(text, place) for text, place in zip(texts, places, strict=True)])
        return Labelling("regression", (name,), np.arange(len(values)), values, {})
    return _exclusive(texts, places, kind, classes, positive)


def _check_missing(labels: Sequence[str | None], places: Sequence[Place], kind: TaskChoice) -> None:
    # Where examples may have several labels, they may also have none.
    if kind == "multilabel" or any(_SEPARATOR in (label or "") for label in labels):
        return
    for label, place in zip(labels, places, strict=True):
        if label is None:
            raise InputError("the label is missing", file=place.file, line=place.line)


def _is_measured(texts: Sequence[str]) -> bool:
    """Whether labels are numbers of which some are no integers."""
    try:
        return any(not float(text).is_integer() for text in texts)
    except ValueError:
        return False


def _number(text: str, place: Place) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"the label {text!r} is not a number", file=place.file, line=place.line) from None
    if not math.isfinite(value):
        raise InputError(f"the label {text!r} is not a finite number", file=place.file, line=place.line)
    return value


def _sorted(names: Sequence[str]) -> list[str]:
    try:
        return sorted(names, key=lambda text: (int(text), text))
    except ValueError:
        return sorted(names)


def _exclusive(
    texts: Sequence[str],
    places: Sequence[Place],
    kind: TaskChoice,
    classes: Sequence[ClassRule],
    positive: str | None,
) -> Labelling:
    taken, names, left_out = _classify(texts, places, classes)
    if positive is not None:
        if len(names) != 2 or positive not in names:
            raise InputError(
                f"--positive {positive!r} is not one of two classes", remedy=f"the classes are {_shown(names)}"
            )
        names = [name for name in names if name != positive] + [positive]
    if len(names) < 2:
        raise InputError(
            f"there is one class only: {_shown(names) or 'none'}",
            file=places[0].file if places else None,
            remedy="give examples of another class, or --negatives gc (regions) or dinucleotide (sequences)",
        )
    if kind == "binary" and len(names) > 2:
        raise InputError(f"a binary task has two classes, not {len(names)}: {_shown(names)}", remedy="give --class")
    if kind == "multiclass" and len(names) < 3:
        raise InputError(f"a multiclass task has at least three classes, not {_shown(names)}")
    index = {name: position for position, name in enumerate(names)}
    rows = np.array([row for row, name in enumerate(taken) if name is not None], np.int64)
    targets = np.array([index[name] for name in taken if name is not None], np.int64)
    return Labelling("binary" if len(names) == 2 else "multiclass", tuple(names), rows, targets, left_out)


def _classify(
    texts: Sequence[str], places: Sequence[Place], classes: Sequence[ClassRule]
) -> tuple[list[str | None], list[str], dict[str, int]]:
    """Class of each text (None where it has none), the classes in order, and what was left out."""
    found = set(texts)
    if not classes:
        if len(found) > _MOST_CLASSES:
            raise InputError(
                f"the labels have {len(found):,} different values, which are too many for classes",
                file=places[0].file,
                remedy="name the column of the label with --label-column, or give --task regression",
            )
        return list(texts), _sorted(list(found)), {}
    owner: dict[str, str | None] = {}
    for text in found:
        owners = [rule.name for rule in classes if text in rule.patterns] or [
            rule.name for rule in classes if rule.takes(text)
        ]
        if len(owners) > 1:
            raise InputError(f"the label {text!r} is in two classes: {owners[0]} and {owners[1]}")
        owner[text] = owners[0] if owners else None
    names = list(dict.fromkeys(rule.name for rule in classes))
    for name in names:
        if name not in owner.values():
            raise InputError(
                f"no example has a label of class {name!r}",
                file=places[0].file if places else None,
                remedy=f"the labels are {_shown(_sorted(list(found)))}",
            )
    left_out = Counter(text for text in texts if owner[text] is None)
    return [owner[text] for text in texts], names, dict(left_out)


def _multilabel(labels: Sequence[str | None], places: Sequence[Place], classes: Sequence[ClassRule]) -> Labelling:
    sets = [{part.strip() for part in (label or "").split(_SEPARATOR)} - {"", "."} for label in labels]
    found = set().union(*sets)
    names = [rule.name for rule in classes] or _sorted(list(found))
    if not names:
        raise InputError("no example has a label", file=places[0].file if places else None)
    if len(names) > _MOST_CLASSES:
        raise InputError(
            f"there are {len(names):,} labels, which are too many", file=places[0].file, remedy="give --label-column"
        )
    rules = classes or [ClassRule(name, (name,)) for name in names]
    targets = np.array([[any(rule.takes(part) for part in parts) for rule in rules] for parts in sets], np.int64)
    return Labelling("multilabel", tuple(names), np.arange(len(sets)), targets, {})


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)})" if len(names) > 5 else "")


def check_classes(labelling: Labelling, splits: dict[str, NDArray[np.int64]], places: Sequence[Place]) -> None:
    """Check that every split can be learnt from or judged by.

    Args:
        labelling: the targets.
        splits: rows of the targets in `train`, `val` and `test`.
        places: where the example of each target was read.

    Raises:
        InputError: a split is empty, training or validation has one class only, or a class is met in validation or
            test that training does not have.
    """
    for name, rows in splits.items():
        if not len(rows) and name != "test":
            raise InputError(f"there are no examples for {_PURPOSE[name]}", remedy="choose other splits")
    if labelling.kind == "regression":
        for name in ("train", "val"):
            if np.ptp(labelling.targets[splits[name]]) == 0:
                raise InputError(f"every example for {_PURPOSE[name]} has the same value")
        return
    counts = {name: labelling.counts(rows) for name, rows in splits.items()}
    for name in ("train", "val"):
        if labelling.kind == "multilabel":
            useless = [label for label, count in counts[name].items() if count in (0, len(splits[name]))]
        else:
            useless = list(labelling.labels) if sum(count > 0 for count in counts[name].values()) < 2 else []
        if useless:
            table = "; ".join(f"{split}: {_counted(found)}" for split, found in counts.items())
            one = "has one class only" if labelling.kind != "multilabel" else f"has one value only of {useless[0]!r}"
            raise InputError(f"{_PURPOSE[name]} {one} ({table})", remedy="choose other splits")
    for position, label in enumerate(labelling.labels):
        if counts["train"][label] or labelling.kind == "multilabel":
            continue
        for name in ("val", "test"):
            rows = splits[name][labelling.targets[splits[name]] == position]
            if len(rows):
                place = places[int(rows[0])]
                raise InputError(
                    f"the label {label!r} is met in {_PURPOSE[name]} only: training does not have it",
                    file=place.file,
                    line=place.line,
                )
    if len(splits["test"]) and labelling.kind != "multilabel" and sum(map(bool, counts["test"].values())) < 2:
        _log.warning("the test split has one class only: areas under curves have no value")


_PURPOSE = {"train": "training", "val": "validation", "test": "testing"}


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{label} {count:,}" for label, count in counts.items())
