"""Linear models on the embeddings of a frozen language model, as the head of a classifier."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dna.evaluation.tasks import Targets
from hyena_dna.model.classifier import Pooling, SequenceClassifier, TaskConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.training.finetune_config import ProbeConfig
from hyena_dna.training.finetune_fit import is_better, validation_value

__all__ = [
    "HEAD_POOLINGS",
    "PROBE_POOLINGS",
    "ProbeFit",
    "Strands",
    "Way",
    "all_layers",
    "fit_probe",
    "probe_task",
    "ways_of",
    "widest",
    "widest_pooling",
]

Strands = Literal["mean", "each", "concat", "fwd"]
"""Learn from the mean over strands, from each strand as an example of its own (and predict by the mean of both), from
both side by side, or from the given one."""

PROBE_POOLINGS: tuple[Pooling, ...] = ("mean", "mean+max", "mean+std")
"""What `auto` tries for a probe: maxima help on some tasks, standard deviations on others."""

HEAD_POOLINGS: tuple[Pooling, ...] = ("mean", "mean+max")
"""What `auto` tries for a head that is trained on: with deviations the first steps undo what the probe found."""

_ITERATIONS = 400
# Hyperparameters are settled by this many training rows; the chosen ones are fitted on all.
_TRIAL_ROWS = 20_000
_LEAST_SPREAD = 1e-6


class Way(NamedTuple):
    """One way to make features of what both strands' hidden states are."""

    strands: Strands
    pooling: Pooling


def ways_of(strands: tuple[Strands, ...], poolings: tuple[Pooling, ...]) -> tuple[Way, ...]:
    """All pairs to try."""
    return tuple(Way(one, other) for one in strands for other in poolings)


@dataclass(frozen=True)
class ProbeFit:
    """What validation chose.

    Attributes:
        classifier: model and fitted head.
        way: how strands and positions are used.
        strength: inverse strength of the penalty.
        metric: what chose.
        value: that metric on validation.
        tried: a row for each way and strength.
    """

    classifier: SequenceClassifier
    way: Way
    strength: float
    metric: str
    value: float
    tried: list[dict[str, Any]]


def all_layers(layers: Literal["all"] | tuple[int, ...], n_layer: int) -> tuple[int, ...]:
    """Blocks by number, where they may be all."""
    return tuple(range(1, n_layer + 1)) if layers == "all" else layers


def probe_task(task: TaskConfig, config: ProbeConfig, n_layer: int, way: Way) -> TaskConfig:
    """The task of a probe that uses strands and positions in one way."""
    return task.model_copy(
        update={
            "layers": all_layers(config.layers, n_layer),
            "pooling": way.pooling,
            "both_strands": way.strands == "concat",
            "average_strands": way.strands in ("mean", "each"),
        }
    )


def widest(ways: tuple[Way, ...]) -> Way:
    """The way whose features hold those of all others."""
    poolings = [way.pooling for way in ways]
    strands: Strands = "fwd" if {way.strands for way in ways} == {"fwd"} else "concat"
    return Way(strands, widest_pooling(poolings))


def widest_pooling(poolings: Sequence[Pooling]) -> Pooling:
    """The pooling whose vectors hold those of all others."""
    if len(set(poolings)) == 1:
        return poolings[0]
    used = {name for pooling in poolings for name in pooling.split("+")}
    return "mean+max+std" if "std" in used else "mean+max"


def fit_probe(
    model: HyenaDNA,
    task: TaskConfig,
    config: ProbeConfig,
    train: tuple[NDArray[np.float32], Targets],
    val: tuple[NDArray[np.float32], Targets],
    *,
    ways: tuple[Way, ...],
    metric: str | None = None,
    balanced: bool = False,
    seed: int = 0,
) -> ProbeFit:
    """Fit logistic or ridge regression, its settings chosen on validation.

    Args:
        model: the frozen model.
        task: the task.
        config: layers, pooling, strengths to try.
        train: features (rows, features) of the `widest` of the ways, and targets.
        val: the same of validation.
        ways: to try.
        metric: what chooses; the main metric of the task by default.
        balanced: weigh classes inversely to their frequency.
        seed: of the choice of trial rows.
    """
    rng = np.random.default_rng(seed)
    trial = np.sort(rng.permutation(len(train[0]))[:_TRIAL_ROWS])
    best: tuple[float, Way, float] | None = None
    tried: list[dict[str, Any]] = []
    name = ""
    read = widest(ways)
    for way in ways:
        learnt, targets = _rows(train[0][trial], train[1][trial], way, read)
        scale = _Scale(learnt)
        held = scale(_view(val[0], way, read))
        before = -math.inf
        for strength, weight, bias in _path(task, scale(learnt), targets, config.strengths, balanced=balanced):
            name, value = validation_value(task, val[1], (held @ weight.T + bias).astype(np.float32), metric)
            tried.append({**way._asdict(), "C": strength, f"val_{name}": value})
            if best is None or is_better(name, value, best[0]):
                best = value, way, strength
            elif math.isfinite(before) and not is_better(name, value, before):
                break
            before = value
    assert best is not None
    value, way, strength = best
    learnt, targets = _rows(*train, way, read)
    scale = _Scale(learnt)
    ((_, weight, bias),) = _path(task, scale(learnt), targets, (strength,), balanced=balanced)
    classifier = SequenceClassifier(model, probe_task(task, config, model.config.n_layer, way))
    head, offset = scale.undo(weight, bias)
    if task.kind == "regression":
        # The head speaks in units of the spread of the labels.
        head, offset = head / task.scale, (offset - task.shift) / task.scale
    with torch.no_grad():
        output = classifier.classifier.output
        output.weight.copy_(torch.from_numpy(head))
        output.bias.copy_(torch.from_numpy(offset))
    device = model.lm_head.weight.device
    return ProbeFit(classifier.to(device).eval(), way, strength, name, value, tried)


def _view(features: NDArray[np.float32], way: Way, read: Way) -> NDArray[np.float32]:
    """Features that are predicted from: a linear map of the mean is the mean of the maps of both strands."""
    parts = np.split(features, 2, 1) if read.strands == "concat" else [features]
    if way.pooling != read.pooling:
        names = read.pooling.split("+")
        chosen = [names.index(name) for name in way.pooling.split("+")]
        split = [np.split(part, len(names), 1) for part in parts]
        parts = [np.concatenate([statistics[number] for number in chosen], 1) for statistics in split]
    if way.strands == "concat":
        return np.concatenate(parts, 1)
    if way.strands == "fwd":
        return parts[0]
    mean: NDArray[np.float32] = (parts[0] + parts[1]) * np.float32(0.5)
    return mean


def _rows(features: NDArray[np.float32], targets: Targets, way: Way, read: Way) -> tuple[NDArray[np.float32], Targets]:
    """Features and targets that are learnt from."""
    if way.strands != "each":
        return _view(features, way, read), targets
    both = np.split(_view(features, Way("concat", way.pooling), read), 2, 1)
    return np.concatenate(both), np.concatenate([targets, targets])


class _Scale:
    """Standardises features by their mean and spread in training."""

    def __init__(self, features: NDArray[np.float32]) -> None:
        self.mean = features.mean(0, dtype=np.float64)
        self.spread = np.maximum(features.std(0, dtype=np.float64), _LEAST_SPREAD)

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        scaled: NDArray[np.float32] = features - self.mean.astype(np.float32)
        scaled /= self.spread.astype(np.float32)
        return scaled

    def undo(
        self, weight: NDArray[np.float64], bias: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The same linear map of features as they are."""
        raw = weight / self.spread
        return raw, bias - raw @ self.mean


def _path(
    task: TaskConfig, x: NDArray[np.float32], targets: Targets, strengths: tuple[float, ...], *, balanced: bool
) -> Iterator[tuple[float, NDArray[np.float64], NDArray[np.float64]]]:
    """Strength, weight (outputs, features) and bias (outputs,), each fit going on from the one before."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge

    weights = "balanced" if balanced else None
    count = task.n_outputs if task.kind == "multilabel" else 1
    models = [
        LogisticRegression(warm_start=True, max_iter=_ITERATIONS, class_weight=weights, tol=1e-3) for _ in range(count)
    ]
    for strength in sorted(strengths):
        if task.kind == "regression":
            ridge = Ridge(alpha=1 / strength).fit(x, np.asarray(targets, np.float64))
            yield strength, np.asarray(ridge.coef_, np.float64)[None], np.atleast_1d(ridge.intercept_)
            continue
        columns = targets.T if task.kind == "multilabel" else targets[None]
        with warnings.catch_warnings():
            # A separation that is perfect has no finite optimum; its predictions are good all the same.
            warnings.simplefilter("ignore", ConvergenceWarning)
            for model, column in zip(models, columns, strict=True):
                model.set_params(C=strength).fit(x, column)
        yield (
            strength,
            np.concatenate([model.coef_ for model in models]).astype(np.float64),
            np.concatenate([model.intercept_ for model in models]).astype(np.float64),
        )
