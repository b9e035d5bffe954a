"""A benchmark as JSON and as Markdown tables."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hyena_dna.benchmark.run import Cell
from hyena_dna.benchmark.scaling import Exponent, crossover, fit_exponent
from hyena_dna.files import atomic_open

__all__ = ["FORMAT", "Scaling", "markdown", "scalings", "write_json"]

FORMAT = "hyena-dna bench 1"
"""Value of `format` in the JSON."""

_FIT_FROM = 32_000
_SWEEPS = {"tokens": "constant tokens", "batch-1": "batch 1"}


class Scaling(NamedTuple):
    """How one contender's time grows with length at one kind of work."""

    title: str
    sweep: str
    contender: str
    exponent: Exponent | None
    """Of measured times at batch 1, from 32,000 positions on if three lengths are that long; None for fewer than 3."""
    faster_from: float | None
    """Length from which on it is faster than the Transformer: infinity for no length, None without a Transformer."""


def scalings(cells: Iterable[Cell]) -> list[Scaling]:
    """Exponents of every contender, and crossovers of every one but the Transformer."""
    groups: dict[tuple[str, str], dict[str, list[Cell]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        if cell.median is not None:
            groups[cell.workload.title, cell.workload.sweep][cell.contender.name].append(cell)
    found = []
    for (title, sweep), contenders in groups.items():
        rivals = {cell.workload.length: cell.median or 0.0 for cell in contenders.get("transformer", [])}
        for name, timed in contenders.items():
            exponent = _exponent(timed) if sweep == "batch-1" else None
            shared = [(c.workload.length, c.median or 0.0) for c in timed if c.workload.length in rivals]
            faster = None
            if name != "transformer" and shared:
                lengths, times = zip(*shared, strict=True)
                faster = crossover(lengths, times, [rivals[length] for length in lengths])
            if exponent is not None or faster is not None:
                found.append(Scaling(title, sweep, name, exponent, faster))
    return found


def _exponent(cells: Sequence[Cell]) -> Exponent | None:
    measured = [(cell.workload.length, cell.median or 0.0) for cell in cells if cell.status == "ok"]
    long = [pair for pair in measured if pair[0] >= _FIT_FROM]
    used = long if len(long) >= 3 else measured
    return fit_exponent([length for length, _ in used], [ms for _, ms in used])


def write_json(path: Path, facts: dict[str, Any], cells: Sequence[Cell]) -> None:
    """Write everything that was measured, with the given facts about the run."""
    found = [
        {
            "work": one.title,
            "sweep": one.sweep,
            "contender": one.contender,
            "exponent": None if one.exponent is None else one.exponent._asdict(),
            "faster_than_transformer_from": one.faster_from if one.faster_from != math.inf else "never",
        }
        for one in scalings(cells)
    ]
    document = {"format": FORMAT, **facts, "cells": [cell.to_dict() for cell in cells], "scaling": found}
    with atomic_open(path, "w") as handle:
        json.dump(document, handle, indent=1, allow_nan=False)
        handle.write("\n")


def markdown(facts: dict[str, Any], cells: Sequence[Cell]) -> str:
    """Tables: median times of all contenders side by side, how times grow, then every figure of every cell."""
    machine, model, assumed = facts["machine"], facts["model"], facts["floor"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    lines = [
        f"# hyena-dna bench: {machine.get('gpu', machine['cpu'])}",
        "",
        f"`{' '.join(facts['command'])}`",
        "",
        f"{model['n_layer']} layers x {model['d_model']}, {facts['precision']}, {machine['threads']} CPU threads; "
        f"{versions}; commit {facts['commit'] or 'unknown'}; {facts['started']}.",
        "",
        f"Floor: {assumed['bandwidth'] / 1e9:,.0f} GB/s and {assumed['flops'] / 1e12:,.3g} TFLOP/s "
        f"({assumed['source']}). `~`: extrapolated, not measured. Errors are relative L2: of the long convolution "
        "against float64, of parts of a model against the same part in float32.",
        "",
    ]
    tables: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        tables[cell.workload.title, cell.workload.sweep].append(cell)
    lines += ["## Median milliseconds", ""]
    for (title, sweep), group in tables.items():
        lines += [f"### {title}, {_SWEEPS[sweep]}", "", *_side_by_side(group), ""]
    growth = scalings(cells)
    if growth:
        lines += ["## Growth with length", "", *_growth(growth), ""]
    lines += ["## Every cell", ""]
    for (title, sweep), group in tables.items():
        lines += [f"### {title}, {_SWEEPS[sweep]}", "", *_details(group), ""]
    return "\n".join(lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def _side_by_side(cells: Sequence[Cell]) -> list[str]:
    names = list(dict.fromkeys(cell.contender.name for cell in cells if cell.status != "unsupported"))
    rows: dict[tuple[int, int], dict[str, str]] = defaultdict(dict)
    for cell in cells:
        rows[cell.workload.length, cell.workload.batch][cell.contender.name] = _short(cell)
    return _table(
        ["length x batch", *names],
        ([f"{length:,} x {batch:,}", *(row.get(name, "") for name in names)] for (length, batch), row in rows.items()),
    )


def _short(cell: Cell) -> str:
    """The time; in its place the error where the speed is refused, or why there is none."""
    if cell.status == "wrong":
        errors = [e for e in (cell.error, cell.gradient_error, cell.convolution_error) if e is not None]
        worst = math.nan if any(math.isnan(error) for error in errors) else max(errors, default=math.nan)
        return f"refused: error {worst:.1e}"
    if cell.median is None:
        return cell.status
    return f"{'~' if cell.status == 'extrapolated' else ''}{_number(cell.median)}"


def _details(cells: Sequence[Cell]) -> list[str]:
    header = ["length x batch", "contender", "ran", "ms (p10-p90)", "tokens/s", "peak GiB", "of floor", "error",
              "of gradients", "note"]  # fmt: skip
    return _table(header, (_detail(cell) for cell in cells))


def _detail(cell: Cell) -> list[str]:
    timing = _short(cell)
    if cell.status == "ok" and cell.timing is not None:
        timing += f" ({_number(cell.timing.p10)}-{_number(cell.timing.p90)})"
    share, rate = cell.floor_share, cell.tokens_per_second
    return [
        f"{cell.workload.length:,} x {cell.workload.batch:,}",
        cell.contender.name,
        cell.used,
        timing,
        "" if rate is None else f"{rate:,.0f}",
        "" if cell.peak_bytes is None else f"{cell.peak_bytes / 2**30:.2f}",
        "" if share is None else f"{share:.1%}",
        "" if cell.error is None else f"{cell.error:.1e}",
        "" if cell.gradient_error is None else f"{cell.gradient_error:.1e}",
        cell.note,
    ]


def _growth(growth: Sequence[Scaling]) -> list[str]:
    rows = []
    for one in growth:
        exponent = ""
        if one.exponent is not None:
            fit = one.exponent
            exponent = f"{fit.value:.2f} ({fit.low:.2f} to {fit.high:.2f}, {fit.points} lengths)"
        faster = ""
        if one.faster_from is not None:
            faster = "none of the lengths" if one.faster_from == math.inf else f"{one.faster_from:,.0f}"
        rows.append([one.title, _SWEEPS[one.sweep], one.contender, exponent, faster])
    return _table(["work", "sweep", "contender", "exponent (95 % interval)", "faster than the Transformer from"], rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
