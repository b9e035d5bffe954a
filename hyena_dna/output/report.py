"""The report of a pretraining run: one self-contained HTML page made from the files of its folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from hyena_dna.files import atomic_open
from hyena_dna.output.charts import Rule, Series, line_chart
from hyena_dna.output.page import render_page

__all__ = ["build_report", "flatten", "read_columns", "short_number", "short_seconds", "write_report"]

_SMOOTH_SHARE = 50


class _Verdict(NamedTuple):
    text: str
    good: bool


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run's folder.

    Args:
        folder: holds `run.json`, `metrics.csv` and, where they were made, `speed.csv` and `markov.json`.

    Returns:
        The path of the report.
    """
    path = folder / "report.html"
    with atomic_open(path, "w") as handle:
        handle.write(build_report(folder))
    return path


def build_report(folder: Path) -> str:
    """The report of a run's folder as HTML; everything that it shows is in the files of the folder."""
    record = json.loads((folder / "run.json").read_text("utf-8"))
    metrics = read_columns(folder / "metrics.csv")
    speed = read_columns(folder / "speed.csv") if (folder / "speed.csv").exists() else {}
    markov = json.loads((folder / "markov.json").read_text("utf-8")) if (folder / "markov.json").exists() else None
    orders = list(markov["bits_per_base"]) if markov else []
    bits = _last(metrics["val_bits_per_base"])
    return render_page(
        "report.html.j2",
        title=f"Pretraining {record['name']}",
        subtitle=_subtitle(record),
        figures=_figures(record, metrics, bits),
        verdict=_verdict(bits, orders),
        orders=_order_rows(bits, orders),
        genomes=_genome_rows((record.get("result") or {}).get("genomes", {})),
        no_markov="No Markov models yet: they are fitted when the run ends, unless trainer.markov is false.",
        val_windows=f"{record['data']['validation_windows']:,}",
        **{name: Markup(svg) for name, svg in _charts(metrics, speed, bits, orders)},
        data=list(_data_rows(record["data"], record["inputs"])),
        run=list(_run_rows(record)),
        settings=list(flatten(record["config"])),
    )


def read_columns(path: Path) -> dict[str, list[float | None]]:
    """The columns of a CSV of numbers; None where a field is empty."""
    with open(path, encoding="ascii", newline="") as handle:
        rows = csv.DictReader(handle)
        columns: dict[str, list[float | None]] = {name: [] for name in rows.fieldnames or ()}
        for row in rows:
            for name, value in row.items():
                columns[name].append(float(value) if value else None)
    return columns


def _pairs(columns: Mapping[str, Sequence[float | None]], x: str, y: str) -> tuple[list[float], list[float]]:
    known = [
        (a, b) for a, b in zip(columns.get(x, ()), columns.get(y, ()), strict=True) if a is not None and b is not None
    ]
    return [a for a, _ in known], [b for _, b in known]


def _last(values: Sequence[float | None]) -> float | None:
    return next((value for value in reversed(values) if value is not None), None)


def _charts(
    metrics: Mapping[str, Sequence[float | None]],
    speed: Mapping[str, Sequence[float | None]],
    bits: float | None,
    orders: Sequence[float],
) -> Iterator[tuple[str, str]]:
    network = [] if bits is None else [Rule(f"network {bits:.4f}", bits)]
    order_series = Series("Markov model", list(range(len(orders))), orders, "a", points=True)
    yield "markov_chart", line_chart(
        [order_series], x_label="order of the Markov model (bases before the one predicted)",
        y_label="bits per base", rules=network,
    )  # fmt: skip
    tokens, loss = _pairs(metrics, "tokens", "loss")
    smooth = _smooth(loss)
    val_tokens, val_loss = _pairs(metrics, "tokens", "val_loss")
    yield "loss_chart", line_chart(
        [
            Series("training", tokens, loss, "a", faint=True),
            Series("training, smoothed", tokens, smooth, "a"),
            Series("validation", val_tokens, val_loss, "b", points=True),
        ],
        x_label="tokens", y_label="nats per token", y_limit=_ceiling(smooth),
    )  # fmt: skip
    val_tokens, val_bits = _pairs(metrics, "tokens", "val_bits_per_base")
    rules = [Rule(f"Markov order {order} {orders[order]:.4f}", orders[order], "a") for order in _marked(orders)]
    yield "bits_chart", line_chart(
        [Series("network", val_tokens, val_bits, "b", points=True)],
        x_label="tokens", y_label="bits per base", rules=rules,
    )  # fmt: skip
    for name, column, label in (("lr_chart", "lr", "learning rate"), ("norm_chart", "grad_norm", "gradient norm")):
        x, y = _pairs(metrics, "tokens", column)
        yield name, line_chart([Series("", x, y)], x_label="tokens", y_label=label, y_limit=_ceiling(y), from_zero=True)
    speed_series = Series("", *_pairs(speed, "tokens", "tokens_per_s"), "c")
    yield (
        "speed_chart",
        line_chart([speed_series], x_label="tokens", y_label="tokens per second", from_zero=True),
    )


def _marked(orders: Sequence[float]) -> list[int]:
    if not orders:
        return []
    best = min(range(len(orders)), key=lambda order: orders[order])
    return sorted({min(3, len(orders) - 1), best})


def _smooth(values: Sequence[float]) -> list[float]:
    """Exponential mean over about a fiftieth of the run, without the pull of its first value."""
    span = max(1.0, len(values) / _SMOOTH_SHARE)
    keep, total, weight, smooth = 1 - 1 / span, 0.0, 0.0, []
    for value in values:
        total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        smooth.append(total / weight)
    return smooth


def _ceiling(values: Sequence[float]) -> float | None:
    """A height that shows all but the first few large values."""
    if len(values) < 20:
        return None
    ordered = sorted(values)
    low, high = ordered[0], ordered[int(0.98 * (len(ordered) - 1))]
    return high + 0.15 * (high - low)


def _verdict(bits: float | None, orders: Sequence[float]) -> _Verdict:
    if bits is None or not orders:
        return _Verdict("", False)
    best = min(range(len(orders)), key=lambda order: orders[order])
    beaten = [order for order, value in enumerate(orders) if bits < value]
    gap = f"{abs(bits - orders[best]):.4f} bits per base"
    if bits < orders[best]:
        text = f"Yes: the network is {gap} better than the best Markov model (order {best})."
    elif beaten:
        worst = next(order for order, value in enumerate(orders) if bits >= value)
        text = (
            f"Partly: the network beats the Markov models below order {worst}"
            if beaten == list(range(worst))
            else f"Partly: the network beats the Markov models of order {', '.join(map(str, beaten))}"
        ) + f" and is {gap} behind the best one (order {best})."
    else:
        text = (
            f"No: base composition alone predicts better; the network is {gap} behind the Markov model of order {best}."
        )
    return _Verdict(text, bits < orders[best])


def _order_rows(bits: float | None, orders: Sequence[float]) -> list[dict[str, Any]]:
    rows = [
        {
            "name": f"Markov, order {order}",
            "bits": f"{value:.4f}",
            "gap": "" if bits is None else f"{bits - value:+.4f}",
            "network": False,
        }
        for order, value in enumerate(orders)
    ]
    if rows and bits is not None:
        rows.append({"name": "network", "bits": f"{bits:.4f}", "gap": "", "network": True})
    return rows


def _genome_rows(genomes: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    rows = []
    for name, found in genomes.items():
        orders = found.get("markov_bits_per_base", [])
        best = min(range(len(orders)), key=lambda order: orders[order], default=0)
        rows.append(
            {
                "name": name,
                "bits": f"{found['val_bits_per_base']:.4f}",
                "markov": f"{orders[best]:.4f} (order {best})" if orders else "",
                "bases": f"{found['val_bases']:,}",
            }
        )
    return rows


def _figures(
    record: Mapping[str, Any], metrics: Mapping[str, Sequence[float | None]], bits: float | None
) -> list[tuple[str, str]]:
    perplexity = _last(metrics["val_perplexity"])
    rate = record["tokens"] / record["seconds"]["training"] if record["seconds"]["training"] else 0.0
    return [
        ("validation, bits per base", "-" if bits is None else f"{bits:.4f}"),
        ("validation perplexity", "-" if perplexity is None else f"{perplexity:.4f}"),
        ("parameters", f"{record['parameters']:,}"),
        ("tokens trained on", short_number(record["tokens"])),
        ("tokens per second", short_number(rate)),
        ("training time", short_seconds(record["seconds"]["training"])),
    ]


def _subtitle(record: Mapping[str, Any]) -> str:
    status = {"finished": "finished", "stopped": "stopped, can be resumed"}.get(record["status"], record["status"])
    return f"{record['step']:,} of {record['total_steps']:,} steps, {status}, {record['ended'] or record['started']}"


def _data_rows(data: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for source in inputs:
        yield "input", f"{source['path']} ({source['size'] / 1e6:,.1f} MB)"
    for split in ("train", "validation", "test"):
        part = data[split]
        names = ", ".join(part["contigs"][:24]) + (" ..." if len(part["contigs"]) > 24 else "")
        yield split, f"{part['bases']:,} bp on {len(part['contigs']):,} contigs: {names}" if part["bases"] else "none"
    yield "how validation was chosen", data["rule"]
    yield "contigs left out", ", ".join(data["dropped"]) or "none"
    yield "window", f"{data['window']:,} bp"
    yield "windows cut on", data["token_store"]


def _run_rows(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "command", " ".join(record["command"])
    yield "device", f"{record['device']} x {record['devices']}, {record['precision']}, {record['threads']} CPU threads"
    yield "seed", str(record["seed"])
    yield "pieces", "; ".join(f"steps {p['from_step']:,} to {p['to_step']:,}" for p in record["pieces"])
    for name, seconds in record["seconds"].items():
        yield f"time, {name}", short_seconds(seconds)
    yield "versions", ", ".join(f"{name} {number}" for name, number in record["versions"].items())


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings of a tree as dotted names with values in JSON."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value)


def short_number(number: float) -> str:
    """A number in three digits, with k, M or G."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.3g}"


def short_seconds(seconds: float) -> str:
    """A time in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.2f} h"
