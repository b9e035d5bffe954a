"""`hyena-dna info`: what a model or a run is, and how two models differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from pipelines.options import report_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UNITS = {"bytes": "bytes", "context": "tokens (bp)", "tokens": "tokens (bp)"}
_RUN_FIELDS = ("name", "status", "started", "ended", "host", "device", "step", "tokens", "seconds", "command")


@click.command()
@click.argument("path", metavar="[PATH]", required=False)
@click.option("--diff", "other", metavar="OTHER", default=None, help="Show how OTHER differs from PATH.")
@report_options
def command(path: str | None, other: str | None, as_json: bool, quiet: bool) -> None:
    """Say what a model or run directory, or a file of published weights, is; without PATH, list the bundled models.

    Shows the architecture, size, context, training data and steps, metrics, licence and integrity; weights are read
    and checked in full, and nothing in them is run. Lengths are in tokens, one per base; there are no coordinates.

    \b
    Examples:
      hyena-dna info
      hyena-dna info models/tiny-1k
      hyena-dna info runs/my-run --json
      hyena-dna info models/tiny-1k --diff runs/my-run
    """
    if path is None:
        if other is not None:
            raise click.UsageError("--diff compares two models: name the first one too")
        bundled = _bundled()
        click.echo(json.dumps(bundled) if as_json else _bundled_table(bundled))
        return
    facts = _describe(path)
    if other is None:
        click.echo(json.dumps(facts) if as_json else _table(facts))
        return
    difference = _compare(path, facts, other)
    click.echo(json.dumps(difference) if as_json else _difference_table(difference))


def _bundled() -> list[dict[str, Any]]:
    """Facts of the pretrained models that come with this package."""
    from hyena_dna.model.checkpoint import bundled_models, read_model
    from hyena_dna.model.describe import describe_model

    return [{"name": name} | describe_model(read_model(name)) for name in bundled_models()]


def _bundled_table(models: Sequence[Mapping[str, Any]]) -> str:
    from pipelines.options import DEFAULT_MODEL

    if not models:
        return "no pretrained models come with this installation"
    lines = []
    for facts in models:
        default = "  (the default of --model)" if facts["name"] == DEFAULT_MODEL else ""
        lines.append(
            f"{facts['name']}: {facts['parameters']:,} parameters, context {facts['context']:,} tokens, "
            f"{facts['layers']} layers of width {facts['width']}, {facts['licence'] or 'licence unknown'}{default}"
        )
        lines += [f"  {name}: {_short('', value)}" for name, value in (facts["metrics"] or {}).items()]
    return "\n".join(lines)


def _describe(path: str) -> dict[str, Any]:
    """Facts of a run, where `path` is one, and of its model, where there is one."""
    from hyena_dna.model.checkpoint import find_model, read_model
    from hyena_dna.model.describe import describe_model
    from hyena_dna.training.run_folder import RunFolder
    from hyena_dna.training.run_record import read_record

    folder = RunFolder(Path(path))
    if not folder.record.is_file():
        return describe_model(read_model(path))
    record = read_record(folder.record)
    run = {f"run_{name}": record.get(name) for name in _RUN_FIELDS}
    if not folder.model.is_dir():
        return run | {"model": "none yet"}
    return run | describe_model(read_model(find_model(path)))


def _compare(path: str, facts: dict[str, Any], other: str) -> dict[str, Any]:
    from hyena_dna.model.checkpoint import read_model
    from hyena_dna.model.describe import compare_weights

    theirs = _describe(other)
    fields = [name for name in {**facts, **theirs} if facts.get(name) != theirs.get(name)]
    return {
        "facts": {name: [facts.get(name), theirs.get(name)] for name in fields},
        "weights": compare_weights(read_model(path), read_model(other)),
    }


def _table(facts: Mapping[str, Any]) -> str:
    width = max(len(_label(name)) for name in facts)
    lines = []
    for name, value in facts.items():
        first, *rest = _lines(name, value)
        lines.append(f"{_label(name):<{width}}  {first}")
        lines += [f"{'':<{width}}  {line}" for line in rest]
    return "\n".join(lines)


def _difference_table(difference: Mapping[str, Any]) -> str:
    rows = [(_label(name), *(_short(name, value) for value in pair)) for name, pair in difference["facts"].items()]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(2)]
    lines = [f"{label:<{widths[0]}}  {mine:<{widths[1]}}  {theirs}" for label, mine, theirs in rows]
    weights = difference["weights"]
    counts = {name: len(found) for name, found in weights.items() if isinstance(found, list)}
    lines.append(
        f"tensors: {weights['equal']} equal, {counts['different']} different (by up to "
        f"{weights['largest_difference']:.3g}), {counts['other_shape']} of another shape, "
        f"{counts['only_in_one']} only in the first, {counts['only_in_other']} only in the second"
    )
    return "\n".join(lines)


def _short(name: str, value: Any) -> str:
    return "; ".join(_lines(name, value))


def _label(name: str) -> str:
    from hyena_dna.errors import escape

    return escape(name.replace("_", " "))


def _lines(name: str, value: Any) -> list[str]:
    """A value as text, one line or several."""
    from hyena_dna.errors import escape

    match value:
        case None:
            return ["unknown"] if name != "ignored" else ["nothing"]
        case bool():
            return ["yes" if value else "no"]
        case int():
            return [" ".join([f"{value:,}", _UNITS.get(name.removeprefix("run_"), "")]).rstrip()]
        case dict():
            width = max((len(str(key)) for key in value), default=0)
            return [f"{escape(key):<{width}}  {_short('', item)}" for key, item in value.items()] or ["nothing"]
        case list() if name == "run_command":
            return [escape(" ".join(value))]
        case list():
            return [_short("", item) for item in value] or ["nothing"]
    return [escape(value)]
