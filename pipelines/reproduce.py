"""`hyena-dna reproduce`: the tables of the results page, from public data and a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rich_click as click

from pipelines.options import LENGTH, device_options, model_option, output_option, report_options

if TYPE_CHECKING:
    from hyena_dna.model.embedding_defaults import EmbeddingDefaults
    from hyena_dna.model.model import HyenaDNA
    from hyena_dna.reproduction.table import Table

_TABLES = ("bits", "context", "gue", "worm", "finetuned", "brca1")


@click.command()
@click.argument("name", metavar="TABLE", type=click.Choice(_TABLES))
@click.option("--data", "folder", type=click.Path(exists=True, file_okay=False), required=True,
              help="Folder with the data: ce10/, sacCer3/, human/, gue/, brca1/, or their files.")  # fmt: skip
@model_option(required=True)
@click.option("--window", type=LENGTH, default=None,
              help="Window of bits and brca1.  [default: the model's context, at most 8192 for brca1]")  # fmt: skip
@click.option("--most-bases", type=LENGTH, default="2M", show_default=True, help="Bases to score of each genome.")
@click.option(
    "--only", "--sets", "sets", multiple=True, help="Sets of gue and finetuned; repeat for several.  [default: all]"
)
@output_option(
    required=False,
    text="Folder of the runs of finetuned; what is finished there is not repeated.  [default: runs/finetuned-MODEL]",
)
@click.option("--layer", default=None, help="As in embed, for gue and worm.  [default: as the model says]")
@click.option("--pool", default=None, help="As in embed.")
@click.option("--strands", type=click.Choice(["mean", "concat", "fwd"]), default=None, help="As in embed.")
@click.option("--no-baselines", is_flag=True, help="Leave k-mer regression and GC content out of gue and worm.")
@device_options
@report_options
def command(
    name: str,
    folder: str,
    model: str,
    device: str,
    threads: int | None,
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> int:
    """Rebuild a table of the results page and print it as Markdown, or its numbers with --json.

    \b
    bits       bits per base on the test pieces, beside Markov models of order 0 to 12
    context    the same by length of the window
    gue        frozen embeddings under a linear probe on five GUE sets, beside k-mer regression and GC content
    worm       the same on regulatory elements of the worm, chrII held out
    finetuned  five GUE sets and four of the worm by finetune, beside GC content, k-mer regression and a CNN
    brca1      zero-shot scores of measured variants, loss of function against function

    Whatever is chosen is chosen on development sets. data/README.md says where to get the files; their BED is 0-based
    half-open, their VCF 1-based.

    \b
    Examples:
      hyena-dna reproduce bits --data genomes/
      hyena-dna reproduce gue --data benchmarks/ --model tiny --only tf_0
      hyena-dna reproduce finetuned --data benchmarks/ --only tf_0 --only ce10-element-512 -o runs/finetuned
      hyena-dna reproduce brca1 --data brca1/ --window 8k --json
    """
    import json

    from hyena_dna.inference.runtime import set_threads
    from hyena_dna.model.checkpoint import read_model
    from hyena_dna.model.device import select_device
    from hyena_dna.model.embedding_defaults import EmbeddingDefaults

    set_threads(threads)
    if name == "finetuned":
        return _finetuned(folder, model, device, settings, as_json=as_json, quiet=quiet)
    loaded = read_model(model)
    network = loaded.model.to(select_device(device))
    defaults = (loaded.embedding or EmbeddingDefaults()).model_dump()
    given = {key: settings[key] for key in defaults if settings[key]}
    table = _build(name, network, folder, settings, EmbeddingDefaults.model_validate(defaults | given))
    click.echo(json.dumps(table.numbers) if as_json else table.markdown())
    return 0


def _finetuned(folder: str, model: str, device: str, settings: dict[str, Any], *, as_json: bool, quiet: bool) -> int:
    """Run what is not finished, and print the table of all; or the exit code of a run that a signal stopped."""
    import json
    from pathlib import Path

    from hyena_dna.reproduction.finetuned import finetuned_sets, finetuned_table, run_set

    output = Path(settings["output"] or Path("runs") / f"finetuned-{Path(model).name}")
    records = {}
    for chosen in finetuned_sets(folder, settings["sets"]):
        outcome = run_set(chosen, output, model=model, device=device, quiet=quiet)
        if outcome.exit_code:
            return outcome.exit_code
        records[chosen.name] = outcome.record
    table = finetuned_table(records)
    click.echo(json.dumps(table.numbers) if as_json else table.markdown())
    return 0


def _build(name: str, model: HyenaDNA, folder: str, settings: dict[str, Any], embedding: EmbeddingDefaults) -> Table:
    from hyena_dna.reproduction.bits import context_table, markov_table
    from hyena_dna.reproduction.brca1 import brca1_table
    from hyena_dna.reproduction.probes import gue_tasks, probe_table, worm_tasks

    # Published context lengths have room for two special tokens, which windows of DNA do not use.
    longest = model.config.max_length - 2
    baselines = not settings["no_baselines"]
    match name:
        case "bits":
            return markov_table(model, folder, most_bases=settings["most_bases"], window=settings["window"] or longest)
        case "context":
            return context_table(model, folder, most_bases=settings["most_bases"])
        case "gue":
            tasks = gue_tasks(folder, settings["sets"])
            return probe_table(model, tasks, embedding, title="GUE, frozen", baselines=baselines)
        case "worm":
            return probe_table(model, worm_tasks(folder), embedding, title="Worm, frozen", baselines=baselines)
    return brca1_table(model, folder, window=settings["window"] or min(longest, 8192))
