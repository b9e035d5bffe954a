"""`hyena-dna simulate`: an example set with known truth."""

from __future__ import annotations

import rich_click as click

from pipelines.options import LENGTH, output_option, report_options


@click.command()
@output_option(text="Folder to make.")
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Seed of every random choice.")
@click.option("--length", type=LENGTH, default="2M", help="Length of the genome in bp; 32k and 2M are understood.")
@click.option("--contigs", type=click.IntRange(3, 24), default=6, help="Number of contigs.")
@click.option("--force", is_flag=True, help="Replace an existing folder.")
@report_options
def command(output: str, seed: int, length: int, contigs: int, force: bool, as_json: bool, quiet: bool) -> None:
    """Write a simulated genome with elements, genes, variants and reads whose truth is known.

    The same seed gives the same bytes. README.md in the folder describes every file; truth.json has the parameters.
    Promoters and enhancers follow a motif grammar; decoys carry the same motifs without it, so that composition does
    not tell them apart. BED and tables are 0-based half-open, VCF is 1-based.

    \b
    Examples:
      hyena-dna simulate -o example
      hyena-dna simulate -o small --length 300k --contigs 3 --seed 7
      hyena-dna simulate -o large --length 20M --contigs 10 --json
    """
    import json
    import logging

    from hyena_dna.simulation.simulate import simulate

    made = simulate(output, seed=seed, length=length, contigs=contigs, force=force)
    logging.getLogger("hyena_dna").info(
        "%s: %d bp on %d contigs, %s, %d genes, %d variants, %d reads",
        made.output,
        made.length,
        len(made.contigs),
        ", ".join(f"{count} {label}" for label, count in made.elements.items()),
        made.genes,
        made.records,
        made.reads,
    )
    if as_json:
        summary = {
            "output": str(made.output),
            "seed": made.seed,
            "length": made.length,
            "contigs": made.contigs,
            "elements": made.elements,
            "genes": made.genes,
            "variants": made.variants,
            "records": made.records,
            "reads": made.reads,
        }
        click.echo(json.dumps(summary))
