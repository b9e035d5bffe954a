"""`hyena-dna release`: a finished pretraining run becomes a small model directory to pass on."""

from __future__ import annotations

import json
import logging
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from hyena_dna.errors import InputError
from pipelines.options import report_options

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger("hyena_dna")


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(exists=True, file_okay=False))
@click.argument("destination", metavar="DST", type=click.Path())
@click.option("--layer", default="last", show_default=True, help="Default layers of embed.")
@click.option("--pool", default="mean", show_default=True, help="Default pooling of embed.")
@click.option("--strands", type=click.Choice(["mean", "concat", "fwd"]), default="mean", show_default=True,
              help="Default strands of embed.")  # fmt: skip
@click.option("--licence", default=None, help="Licence of the weights, as an SPDX identifier.")
@click.option("--results", multiple=True, type=click.Path(exists=True, dir_okay=False),
              help="JSON of metric names to numbers for the card, as reproduce --json prints them.")  # fmt: skip
@click.option("--note", "notes", multiple=True, help="A line for the notes of the card.")
@click.option("--force", is_flag=True, help="Replace an existing model directory.")
@report_options
def command(
    run: str,
    destination: str,
    layer: str,
    pool: str,
    strands: str,
    licence: str | None,
    results: tuple[str, ...],
    notes: tuple[str, ...],
    force: bool,
    as_json: bool,
    quiet: bool,  # handled by the option itself: no notes on stderr
) -> None:
    """Make a model directory DST, to pass on, of a finished run RUN.

    Weights are stored at half precision, after a check that predictions stay the same. A card says what the model was
    trained on and how, what was held out, and how good it is; expected.json keeps the scores of fixed sequences, which
    whoever gets the model can repeat. There are no coordinates to convert.

    \b
    Examples:
      hyena-dna release runs/mine models/mine --licence CC-BY-4.0 --note "Trained on the maize genome."
      hyena-dna release runs/tiny data/models/tiny --licence Apache-2.0 --layer 1,2 --pool mean --strands mean
    """
    import dataclasses

    from hyena_dna.files import atomic_directory, check_output
    from hyena_dna.inference.expected_scores import EXPECTED, check_expected, expected_scores
    from hyena_dna.inference.layers import parse_layers
    from hyena_dna.inference.pooling import parse_pool
    from hyena_dna.model.checkpoint import check_replaceable, read_model
    from hyena_dna.model.convert import convert
    from hyena_dna.model.embedding_defaults import EmbeddingDefaults
    from hyena_dna.training.run_folder import RunFolder
    from hyena_dna.training.run_record import read_record

    check_output(destination, force=force, folder=True)
    check_replaceable(destination)
    record = read_record(RunFolder(Path(run)).record)
    if record.get("status") != "finished":
        raise InputError("the run has not finished", file=run, remedy="go on with hyena-dna pretrain --resume")
    loaded = read_model(run)
    parse_layers(layer, loaded.model.config.n_layer)
    if parse_pool(pool).kind == "none":
        raise InputError("--pool none makes no vector of a record", remedy="choose another default")
    facts = {
        "licence": licence or loaded.card.licence,
        "metrics": loaded.card.metrics | _results(results),
        "notes": [*loaded.card.notes, *_provenance(record), *notes],
    }
    embedding = EmbeddingDefaults.model_validate({"layer": layer, "pool": pool, "strands": strands})
    ready = dataclasses.replace(loaded, card=loaded.card.model_copy(update=facts), embedding=embedding)
    # Nothing stands in the destination before its scores are known and repeated.
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "model"
        result = convert(ready, run, made, half=True)
        (made / EXPECTED).write_text(json.dumps(expected_scores(made), indent=1) + "\n", encoding="utf-8")
        check_expected(made)
        with atomic_directory(destination, force=force) as folder:
            for file in sorted(made.iterdir()):
                shutil.copyfile(file, folder / file.name)
    size = sum(path.stat().st_size for path in Path(destination).iterdir())
    assert result.half is not None
    _log.info(
        "%s: %s parameters, %s bytes; half precision changes log-likelihoods by up to %.2g nats at a base",
        destination, f"{result.parameters:,}", f"{size:,}", result.half.base,
    )  # fmt: skip
    if as_json:
        summary = {"model": destination, "parameters": result.parameters, "bytes": size}
        click.echo(json.dumps(summary | {"half_precision": dataclasses.asdict(result.half)}))


def _results(paths: tuple[str, ...]) -> dict[str, Any]:
    """Metrics of result files, one flat mapping each."""
    found: dict[str, Any] = {}
    for path in paths:
        try:
            content = json.loads(Path(path).read_text("utf-8"))
        except ValueError as error:
            raise InputError(f"not JSON: {error}", file=path) from None
        if not isinstance(content, dict) or not all(isinstance(value, int | float) for value in content.values()):
            raise InputError("not a mapping of names to numbers", file=path)
        found |= {name: round(value, 4) for name, value in content.items()}
    return found


def _provenance(record: Mapping[str, Any]) -> list[str]:
    """How to train the model again, and what that took; without the folders of whoever did it."""
    words = [Path(word).name if "/" in word else word for word in record["command"]]
    took = record["seconds"]["training"]
    contigs = record["data"]["test"]["contigs"] + record["data"]["validation"]["contigs"]
    return [
        f"Trained by: {shlex.join(words)}",
        f"Training took {took:,.0f} s on {record['device']}.",
        f"Never trained on, wholly or in part: {', '.join(contigs)}.",
    ]
