"""The report of a run of variant scores: distributions, groups, and how well known effects are ranked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from hyena_dna.files import atomic_open
from hyena_dna.output.box_chart import box_chart
from hyena_dna.output.charts import Series, line_chart
from hyena_dna.output.page import render_page
from hyena_dna.output.ranking import Ranking, rank_classes

__all__ = ["Labels", "rank_scores", "write_score_report"]

_BINS = 60
_MOST_GROUPS = 20
_STYLES = ("a", "b", "c")
_COLUMNS = ("llr", "llr_norm", "dist", "label", "group")


class Labels(NamedTuple):
    """What is known of variants.

    Attributes:
        field: INFO field that says it.
        positive: its value for variants with an effect.
        negative: its value for variants without; None takes every other value.
    """

    field: str
    positive: str
    negative: str | None = None


def rank_scores(columns: Mapping[str, Sequence[Any]], labels: Labels) -> dict[str, Ranking]:
    """Rank labelled alleles by each score, the expected sign first: effects have low likelihood and large distance.

    Args:
        columns: `llr`, `llr_norm`, `dist` and `label` of every scored allele, and whatever else was computed.
        labels: which labels count.

    Returns:
        A ranking for each score, over the alleles that have it; empty where one class is missing.
    """
    label = np.array([value if value is not None else "" for value in columns["label"]])
    positive = label == labels.positive
    chosen = positive | ((label == labels.negative) if labels.negative else (label != "") & ~positive)
    llr, norm, dist = (np.array(columns[name], np.float64) for name in ("llr", "llr_norm", "dist"))
    shown = {"-LLR": -llr, "-LLR per base": -norm, "|LLR|": np.abs(llr), "distance": dist}
    for name in [name for name in columns if name not in _COLUMNS]:
        values = np.array(columns[name], np.float64)
        if name == "llr_corrected":
            shown["-LLR corrected"] = -values
        else:
            shown[f"|{name}|"] = np.abs(values)
    ranks = {}
    for name, scores in shown.items():
        used = chosen & np.isfinite(scores)
        if positive[used].any() and not positive[used].all():
            ranks[name] = rank_classes(scores[used], positive[used])
    return ranks


def write_score_report(
    path: Path,
    columns: Mapping[str, Sequence[Any]],
    facts: Mapping[str, Any],
    labels: Labels | None,
    group_field: str | None,
) -> None:
    """Write the report as one self-contained HTML page.

    Args:
        path: the file to be made.
        columns: `llr`, `llr_norm`, `dist`, `label` and `group` of every scored allele.
        facts: the summary of the run.
        labels: known effects to compare with.
        group_field: the INFO field that `group` holds.
    """
    llr = np.array(columns["llr"], np.float64)
    with atomic_open(path, "w") as handle:
        handle.write(
            render_page(
                "score_report.html.j2",
                title=f"Variant scores: {Path(facts['output']).name}",
                subtitle=f"{facts['n_records']:,} records, {facts['n_alleles']:,} alleles",
                figures=list(_figures(llr, facts)),
                distribution=Markup(_distribution(llr, columns, labels)),
                label_field=labels.field if labels else None,
                **_label_values(columns, labels),
                group_field=group_field,
                boxes=Markup(_boxes(llr, columns["group"])) if group_field else None,
                statuses=[(name, f"{number:,}") for name, number in {**facts["statuses"], **facts["flags"]}.items()],
                settings=[(name, str(value)) for name, value in facts["settings"].items() if value is not None],
            )
        )


def _figures(llr: NDArray[np.float64], facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "alleles with a score", f"{len(llr):,}"
    yield "alleles without", f"{facts['n_alleles'] - len(llr):,}"
    if len(llr):
        yield "median score, nats", f"{np.median(llr):.4f}"
        yield "share below zero", f"{np.mean(llr < 0):.1%}"
    yield "seconds", f"{facts['seconds']:,.1f}"


def _distribution(llr: NDArray[np.float64], columns: Mapping[str, Sequence[Any]], labels: Labels | None) -> str:
    """Shares of alleles over the score, one line for all or one for each class."""
    if not len(llr):
        return line_chart([], x_label="LLR, nats", y_label="share of alleles")
    low, high = np.percentile(llr, [0.5, 99.5])
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    middles = ((edges[1:] + edges[:-1]) / 2).tolist()
    names = [None]
    if labels:
        names = [value for value in (labels.positive, labels.negative) if value]  # type: ignore[misc]
    series = []
    for name, style in zip(names, _STYLES, strict=False):
        values = llr if name is None else llr[np.array([value == name for value in columns["label"]], np.bool_)]
        if len(values):
            shares = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / len(values)
            series.append(Series(name or "all", middles, shares.tolist(), style))
    return line_chart(series, x_label="LLR, nats", y_label="share of alleles")


def _label_values(columns: Mapping[str, Sequence[Any]], labels: Labels | None) -> dict[str, Any]:
    if labels is None:
        return {}
    ranks = rank_scores(columns, labels)
    n_positive = sum(value == labels.positive for value in columns["label"])
    others = [value for value in columns["label"] if value not in (None, labels.positive)]
    n_negative = sum(value == labels.negative for value in others) if labels.negative else len(others)
    values: dict[str, Any] = {
        "positive": labels.positive,
        "negative": labels.negative or "any other value",
        "n_positive": f"{n_positive:,}",
        "n_negative": f"{n_negative:,}",
        "base_rate": f"{n_positive / max(1, n_positive + n_negative):.3f}",
        "ranks": [
            {
                "name": name,
                "count": f"{rank.ranked:,}",
                "auroc": f"{rank.auroc:.4f}",
                "average_precision": f"{rank.average_precision:.4f}",
            }
            for name, rank in ranks.items()
        ],
    }
    shown = [(name, style) for name, style in zip(("-LLR", "|LLR|", "distance"), _STYLES, strict=True) if name in ranks]
    chance = Series("chance", [0.0, 1.0], [0.0, 1.0], "a", faint=True)
    roc = [Series(n, ranks[n].false_positive_rate.tolist(), ranks[n].true_positive_rate.tolist(), s) for n, s in shown]
    curve = [Series(n, ranks[n].true_positive_rate.tolist(), ranks[n].precision.tolist(), s) for n, s in shown]
    values["roc"] = Markup(line_chart([chance, *roc], x_label="false positive rate", y_label="true positive rate"))
    values["precision_recall"] = Markup(line_chart(curve, x_label="recall", y_label="precision"))
    return values


def _boxes(llr: NDArray[np.float64], groups: Sequence[str | None]) -> str:
    """The largest groups, in order of their medians."""
    found: dict[str, list[float]] = {}
    for value, group in zip(llr.tolist(), groups, strict=True):
        if group is not None:
            found.setdefault(group, []).append(value)
    largest = sorted(found, key=lambda name: -len(found[name]))[:_MOST_GROUPS]
    ordered = sorted(largest, key=lambda name: float(np.median(found[name])))
    return box_chart({name: found[name] for name in ordered}, label="LLR, nats") if ordered else ""
