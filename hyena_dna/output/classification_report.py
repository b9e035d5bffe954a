"""The report of a fine-tuning run: how good the network is beside simple models, as one self-contained HTML page."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from hyena_dna.files import atomic_open
from hyena_dna.output.charts import Series, line_chart
from hyena_dna.output.page import render_page
from hyena_dna.output.ranking import rank_classes
from hyena_dna.output.report import flatten, read_columns, short_number, short_seconds

__all__ = ["NETWORK", "Predictions", "write_classification_report"]

NETWORK = "this model"

_STYLES = "abcdef"
_MOST_STEPS = 500
_MOST_DOTS = 800
_NAMES = {
    "auroc": "AUROC", "auprc": "AUPRC", "mcc": "MCC", "f1": "F1", "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy", "exact_match": "all labels right", "precision": "precision",
    "recall": "recall", "r2": "R2", "pearson": "Pearson", "spearman": "Spearman", "mse": "MSE", "mae": "MAE",
}  # fmt: skip
_LOWER_IS_BETTER = ("mse", "mae")


class Predictions(NamedTuple):
    """What curves are drawn of.

    Attributes:
        targets: (rows,) or, for several labels, (rows, labels).
        scores: (rows, outputs) probabilities or predicted values.
    """

    targets: NDArray[Any]
    scores: NDArray[np.float64]


class _Verdict(NamedTuple):
    text: str
    good: bool


def write_classification_report(
    path: Path,
    content: Mapping[str, Any],
    record: Mapping[str, Any],
    predictions: Mapping[str, Predictions],
    *,
    main_metric: str,
    history: Path | None = None,
) -> None:
    """Write the report.

    Args:
        path: the file to be made.
        content: what `metrics.json` holds.
        record: what `run.json` holds.
        predictions: of the network under `NETWORK`, and of every baseline under its name, on the held-out rows.
        main_metric: the metric by which models are compared.
        history: the run's `metrics.csv`.
    """
    with atomic_open(path, "w") as handle:
        handle.write(
            render_page(
                "classification_report.html.j2",
                title=f"Fine-tuning {content['name']}",
                subtitle=f"{content['kind']} of {', '.join(content['labels'])}, mode {content['mode']}, "
                f"evaluated on {content['evaluation']['rows']:,} {content['evaluated_on']} examples",
                kind=content["kind"],
                figures=list(_figures(content, main_metric)),
                verdict=_verdict(content, main_metric),
                metrics=_metrics_table(content),
                n_bootstrap=f"{content['evaluation']['n_bootstrap']:,}",
                differences=list(_differences(content, main_metric)),
                main_metric=_NAMES[main_metric],
                curves=[(name, Markup(chart)) for name, chart in _curves(content, predictions)],
                calibration=_calibration(content),
                confusion=list(_confusion(content)),
                thresholds=_thresholds(content),
                per_class=_breakdown(content["evaluation"]["per_class"], "class"),
                per_group=_breakdown(content["evaluation"]["per_group"], "contig"),
                groups_left_out=content["evaluation"]["groups_left_out"],
                splits=list(_splits(content["splits"])),
                summary=list(_summary(content["summary"])),
                training=[(name, Markup(chart)) for name, chart in _training(history)],
                baselines=[(facts["name"], ", ".join(f"{key} {_plain(value)}" for key, value in
                            facts["settings"].items())) for facts in content["baselines"].values()],
                run=list(_run_rows(record)),
                settings=list(flatten(record["config"])),
            )
        )  # fmt: skip


def _estimate(found: Mapping[str, float | None]) -> tuple[str, str]:
    """A value, and its interval."""
    value, low, high = (found.get(key) for key in ("value", "low", "high"))
    if value is None:
        return "-", ""
    return f"{value:.3f}", "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _figures(content: Mapping[str, Any], main_metric: str) -> Iterator[tuple[str, str]]:
    metrics = content["evaluation"]["metrics"]
    wanted = ("spearman", "pearson", "r2", "mse") if content["kind"] == "regression" else (
        main_metric, "auprc", "mcc", "balanced_accuracy", "f1")  # fmt: skip
    for name in wanted:
        value = metrics[name]["value"]
        yield _NAMES[name], "-" if value is None else f"{value:.3f}"
    if content["calibration"]:
        yield "expected calibration error", f"{content['calibration']['ece']:.3f}"


def _verdict(content: Mapping[str, Any], main_metric: str) -> _Verdict:
    """Whether the network is better than every simple model, beyond the interval of the difference."""
    gaps = {
        facts["name"]: facts[f"{main_metric}_difference"]
        for facts in content["baselines"].values()
        if facts[f"{main_metric}_difference"] and facts[f"{main_metric}_difference"]["value"] is not None
    }
    if not gaps:
        return _Verdict("", False)
    name, gap = min(gaps.items(), key=lambda item: item[1]["value"])
    size = f"{abs(gap['value']):.3f} {_NAMES[main_metric]} (95 % interval {gap['low']:+.3f} to {gap['high']:+.3f})"
    if gap["low"] is not None and gap["low"] > 0:
        return _Verdict(f"Yes: better than every baseline; the closest is {name}, behind by {size}.", True)
    if gap["high"] is not None and gap["high"] < 0:
        return _Verdict(f"No: {name} is better, by {size}.", False)
    side = "ahead of" if gap["value"] > 0 else "behind"
    return _Verdict(f"Not shown: the model is {side} {name} by {size}, and the interval holds zero.", False)


def _rows(content: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield NETWORK, content["evaluation"]
    for facts in content["baselines"].values():
        yield facts["name"], facts["evaluation"]


def _metrics_table(content: Mapping[str, Any]) -> dict[str, Any]:
    names = list(content["evaluation"]["metrics"])
    found = dict(_rows(content))
    best = {}
    for name in names:
        values = [row["metrics"][name]["value"] for row in found.values()]
        known = [value for value in values if value is not None]
        best[name] = (min if name in _LOWER_IS_BETTER else max)(known, default=None)
    rows = [
        (model, [(_estimate(row["metrics"][name]), row["metrics"][name]["value"] == best[name]) for name in names])
        for model, row in found.items()
    ]
    return {"head": [_NAMES[name] for name in names], "rows": rows}


def _differences(content: Mapping[str, Any], main_metric: str) -> Iterator[tuple[str, tuple[str, str]]]:
    for facts in content["baselines"].values():
        gap = facts[f"{main_metric}_difference"]
        if gap:
            yield facts["name"], _estimate(gap)


def _breakdown(parts: Mapping[str, Mapping[str, Any]], what: str) -> dict[str, Any] | None:
    if not parts:
        return None
    names = [name for name in next(iter(parts.values())) if name != "rows"]
    rows = [(part, f"{found['rows']:,}", [_estimate(found[name]) for name in names]) for part, found in parts.items()]
    return {"head": [what, "examples", *(_NAMES[name] for name in names)], "rows": rows}


def _thresholds(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    labels = content["labels"][1:] if content["kind"] == "binary" else content["labels"]
    return [(label, f"{cut:.4f}") for label, cut in zip(labels, content["evaluation"]["thresholds"], strict=False)]


def _curves(content: Mapping[str, Any], predictions: Mapping[str, Predictions]) -> Iterator[tuple[str, str]]:
    if content["kind"] == "regression":
        yield "Predicted against true", _scatter(content, predictions[NETWORK])
        return
    chance = Series("chance", [0.0, 1.0], [0.0, 1.0], "f", faint=True)
    roc, recall = [chance], []
    for (name, positive, scores), style in zip(_ranked(content, predictions), itertools.cycle(_STYLES), strict=False):
        if positive.any() and not positive.all():
            rank = rank_classes(scores, positive)
            roc.append(Series(name, *_thinned(rank.false_positive_rate, rank.true_positive_rate), style))
            recall.append(Series(name, *_thinned(rank.true_positive_rate[1:], rank.precision[1:]), style))
    yield "ROC", line_chart(roc, x_label="false positive rate", y_label="true positive rate")
    yield "Precision and recall", line_chart(recall, x_label="recall", y_label="precision", from_zero=True)


def _ranked(
    content: Mapping[str, Any], predictions: Mapping[str, Predictions]
) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[np.float64]]]:
    """Two classes: every model. More: the largest classes of the network, each against the rest."""
    if content["kind"] == "binary":
        for name, found in predictions.items():
            yield name, found.targets == 1, found.scores[:, 0]
        return
    targets, scores = predictions[NETWORK]
    sizes = [content["evaluation"]["per_class"][label]["rows"] for label in content["labels"]]
    for index in sorted(np.argsort(sizes, kind="stable")[::-1][: len(_STYLES)].tolist()):
        positive = targets[:, index] == 1 if content["kind"] == "multilabel" else targets == index
        yield content["labels"][index], positive, scores[:, index]


def _thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """Some of the points of a curve, its ends among them."""
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MOST_STEPS)).astype(int))
    return x[kept].tolist(), y[kept].tolist()


def _scatter(content: Mapping[str, Any], found: Predictions) -> str:
    rows = np.random.default_rng(0).permutation(len(found.targets))[:_MOST_DOTS]
    truth, predicted = found.targets[rows], found.scores[rows, 0]
    order = np.argsort(truth, kind="stable")
    low, high = float(truth.min()), float(truth.max())
    name = content["labels"][0]
    return line_chart(
        [
            Series("equal", [low, high], [low, high], "f", faint=True),
            Series("examples", truth[order].tolist(), predicted[order].tolist(), "a", points=True, joined=False),
        ],
        x_label=f"true {name}", y_label=f"predicted {name}",
    )  # fmt: skip


def _calibration(content: Mapping[str, Any]) -> dict[str, Any] | None:
    found = content["calibration"]
    if not found:
        return None
    confidence = found["confidence"]
    chart = line_chart(
        [
            Series("calibrated", [0.0, 1.0], [0.0, 1.0], "f", faint=True),
            Series("95 % interval", confidence, found["low"], "a", faint=True),
            Series("", confidence, found["high"], "a", faint=True),
            Series(NETWORK, confidence, found["frequency"], "a", points=True),
        ],
        x_label="predicted probability", y_label="share that is true",
    )  # fmt: skip
    rows = zip(confidence, found["frequency"], found["low"], found["high"], found["rows"], strict=True)
    return {
        "chart": Markup(chart),
        "ece": f"{found['ece']:.4f}",
        "mce": f"{found['mce']:.4f}",
        "brier": f"{found['brier']:.4f}",
        "temperatures": ", ".join(f"{run['temperature']:.3f}" for run in content["runs"] if "temperature" in run),
        "bins": [(f"{p:.3f}", f"{s:.3f} ({low:.3f} to {high:.3f})", f"{n:,}") for p, s, low, high, n in rows],
    }


def _confusion(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One matrix, or one for each of several labels; cells shaded by their share of the true class."""
    matrix = content["evaluation"]["confusion"]
    if matrix is None:
        return
    several = content["kind"] == "multilabel"
    parts = zip(content["labels"], matrix, strict=True) if several else [("", matrix)]
    for title, counts in parts:
        names = ["no", "yes"] if several else content["labels"]
        rows = [
            (name, [(f"{n:,}", f"{n / max(1, sum(row)):.1%}", round(0.6 * n / max(1, sum(row)), 3)) for n in row])
            for name, row in zip(names, counts, strict=True)
        ]
        yield {"title": title, "names": names, "rows": rows}


def _splits(splits: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for number, split in enumerate(splits):
        classes = list(dict.fromkeys(name for part in split["counts"].values() for name in part))
        yield {
            "title": f"fold {number}" if len(splits) > 1 else "",
            "description": split["description"],
            "classes": classes,
            "rows": [
                (name, f"{sum(part.values()):,}", [f"{part.get(label, 0):,}" for label in classes])
                for name, part in split["counts"].items()
            ],
        }


def _summary(summary: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, str, str]]:
    """Over several seeds or folds."""
    for name, found in summary.items():
        if found["runs"] > 1 and found["mean"] is not None:
            deviation = "-" if found["sd"] is None else f"{found['sd']:.4f}"
            interval = "-" if found["low"] is None else f"{found['low']:.4f} to {found['high']:.4f}"
            yield _NAMES[name], f"{found['mean']:.4f}", deviation, interval


def _training(history: Path | None) -> Iterator[tuple[str, str]]:
    if history is None or not history.exists():
        return
    columns = read_columns(history)
    fits = [
        (f"seed {seed:.0f}, fold {fold:.0f}", [
            row for row in range(len(columns["seed"])) if (columns["seed"][row], columns["fold"][row]) == (seed, fold)
        ])
        for seed, fold in dict.fromkeys(zip(columns["seed"], columns["fold"], strict=True))
        if seed is not None and fold is not None
    ]  # fmt: skip

    def series(name: str, label: str, rows: Sequence[int], style: str, *, faint: bool = False) -> Iterator[Series]:
        found = [(columns["epoch"][row], columns[name][row]) for row in rows]
        known = [(x, y) for x, y in found if x is not None and y is not None and math.isfinite(y)]
        if known:
            yield Series(label, [x for x, _ in known], [y for _, y in known], style, points=not faint, faint=faint)

    loss: list[Series] = []
    metric: list[Series] = []
    for (name, rows), style in zip(fits, _STYLES, strict=False):
        alone = len(fits) == 1
        loss += series("loss", "training" if alone else "", rows, "b" if alone else style, faint=True)
        loss += series("val_loss", "validation" if alone else name, rows, style)
        metric += series("val_metric", "validation" if alone else name, rows, style)
    if loss:
        yield "Loss by epoch", line_chart(loss, x_label="epoch", y_label="loss")
    if metric:
        yield "Validation metric by epoch", line_chart(metric, x_label="epoch", y_label="validation metric")


def _run_rows(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "command", " ".join(record["command"])
    yield "device", f"{record['device']}, {record['precision']}, {record['threads']} CPU threads"
    yield "parameters", short_number(record["parameters"])
    for source in record["inputs"]:
        yield "input", f"{source['path']} ({source['size'] / 1e6:,.1f} MB)"
    for name, seconds in record["seconds"].items():
        yield f"time, {name}", short_seconds(seconds)
    yield "versions", ", ".join(f"{name} {number}" for name, number in record["versions"].items())
