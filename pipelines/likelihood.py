"""`hyena-dna likelihood`: how probable a model finds sequences, as a whole and base by base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import rich_click as click

from hyena_dna.errors import InputError
from pipelines.options import LENGTH_OR_MAX, genome_option, model_option, output_option, run_options

if TYPE_CHECKING:
    from hyena_dna.inference.base_likelihood import BaseScorer, BaseStrands
    from hyena_dna.inference.embed_sources import Source


@click.command()
@model_option(required=True)
@genome_option(required=False)
@click.option("--regions", type=click.Path(), help="Regions of --genome: BED or narrowPeak.")
@click.option(
    "--region",
    "places",
    multiple=True,
    metavar="CONTIG[:START-END]",
    help="A contig of --genome or a part of it, 1-based, both ends included. Repeat for several.  "
    "[default: all contigs]",
)
@click.option("--fasta", type=click.Path(), help="Sequences: FASTA, FASTQ or GenBank; `-` for standard input.")
@click.option(
    "--csv",
    "table",
    type=click.Path(),
    help="Table (CSV, TSV, Parquet) with a column sequence, or chrom, start, end of --genome.",
)
@click.option("--bam", type=click.Path(), help="Aligned reads (BAM, CRAM).")
@output_option(required=False, text="Table with a row per record: .tsv, .tsv.gz or .parquet.")
@click.option(
    "--tracks",
    type=click.Path(),
    default=None,
    help="Tracks for a genome browser: x.bw (or .bedgraph, .bedgraph.gz) writes x.log_prob_mean.bw and "
    "x.entropy_mean.bw.",
)
@click.option(
    "--bases",
    type=click.Path(),
    default=None,
    help="Values of every base: .npz, .zarr, or .parquet with a row per base.",
)
@click.option(
    "--strands",
    type=click.Choice(["mean", "fwd", "rev", "all"]),
    default="mean",
    help="What tracks and --bases hold: the mean of both strands, one of them (half the work), or all three.",
)
@click.option(
    "--values",
    type=click.Choice(["both", "log_prob", "entropy"]),
    default="both",
    help="Tracks to write.",
)
@click.option("--window", type=LENGTH_OR_MAX, default="max", help="Tiles in bp; max: the model's longest context.")
@click.option(
    "--context",
    type=LENGTH_OR_MAX,
    default=None,
    help="bp that are read before every scored base at least, where its contig or sequence has them; max: half a "
    "window.  [default: 256, or half a window]",
)
@click.option("--clip", is_flag=True, help="Cut regions at the end of their contig instead of refusing them.")
@click.option("--rna", is_flag=True, help="Read U as T.")
@run_options
def command(
    model: str,
    output: str | None,
    tracks: str | None,
    bases: str | None,
    strands: str,
    values: str,
    window: int | Literal["max"],
    context: int | Literal["max"] | None,
    device: str,
    threads: int | None,
    precision: str,
    batch_size: int | None,
    seed: int | None,  # nothing here is random
    force: bool,
    resume: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,  # handled by the option itself: no notes on stderr
    **inputs: Any,
) -> None:
    """Score sequences: log-likelihood, perplexity, bits per base, and tracks of every base.

    A base's log-probability (nats) is that of the base given those before it on the strand; its entropy (nats) is that
    of the model's prediction among A, C, G, T. Long records are read in tiles that overlap by --context. The first base
    of a contig or sequence, which nothing stands before, and N have no score. Regions take their context from the
    genome around them. Tables are 0-based half-open. Computed in float32, never coarser.

    \b
    Examples:
      hyena-dna likelihood --model M --genome ce10.fa.gz --region chrIII --tracks chrIII.bw
      hyena-dna likelihood --model M --genome hg38.fa --regions exons.bed -o exons.tsv
      hyena-dna likelihood --model M --fasta genes.fa -o genes.parquet --bases genes.npz
    """
    import json
    import time

    import torch

    from hyena_dna.files import check_output
    from hyena_dna.inference.embed_sources import InputOptions, open_source
    from hyena_dna.inference.likelihood_run import score_likelihoods
    from hyena_dna.output.likelihood_files import (
        check_bases_file,
        check_table,
        track_paths,
        write_bases,
        write_table,
        write_tracks,
    )
    from hyena_dna.output.likelihood_parts import QUANTITIES, LikelihoodTable
    from hyena_dna.output.parts import open_parts

    began = time.monotonic()
    if precision not in ("auto", "fp32"):
        raise InputError(f"--precision {precision} is too coarse for likelihoods", remedy="use fp32")
    if not (output or tracks or bases):
        raise InputError("there is nothing to write", remedy="name a table with --output, or --tracks, or --bases")
    chosen = QUANTITIES if values == "both" else (values,)
    track_files = track_paths(Path(tracks), chosen, strands) if tracks else {}
    for path in [*(Path(name) for name in (output, bases) if name), *track_files.values()]:
        check_output(path, force=force)
    if output:
        check_table(Path(output))
    if bases:
        check_bases_file(Path(bases))
    if resume and inputs["fasta"] == "-":
        raise InputError("standard input can be read only once", remedy="name a file with --fasta")
    source = open_source(InputOptions(**inputs, whole_genome=True))
    scorer, facts = _prepare(model, strands, window, context, device, threads, batch_size)
    if dry_run:
        plan = _estimate(source, scorer) | {"output": output, "tracks": [str(p) for p in track_files.values()]} | facts
        click.echo(json.dumps(plan) if as_json else "\n".join(f"{name}: {value}" for name, value in plan.items()))
        return
    keep_bases = bool(track_files or bases)
    run = {**facts, "settings": inputs, "inputs": source.inputs, "keep_bases": keep_bases, "batch_size": batch_size,
           "device": scorer.device.type, "threads": torch.get_num_threads()}  # fmt: skip
    main = Path(output or bases or next(iter(track_files.values())))
    with open_parts(main, run, resume=resume, force=force) as parts:
        totals = score_likelihoods(
            scorer, source.chunks(scorer.limits()), parts, keep_bases=keep_bases, total_bases=source.bases
        )
        table = LikelihoodTable(parts, totals.chunks, scorer.signs, source.contigs, facts)
        write_tracks(table, track_files)
        if bases:
            write_bases(table, Path(bases), strands, force=force)
        if output:
            write_table(table, Path(output))
        summary = _summary(table)
    _report(
        {
            "output": output,
            "tracks": [str(path) for path in track_files.values()],
            "values_of_bases": bases,
            **summary,
            "seconds": round(time.monotonic() - began, 3),
            **facts,
        },
        as_json=as_json,
    )


def _prepare(
    model: str,
    strands: str,
    window: int | Literal["max"],
    context: int | Literal["max"] | None,
    device: str,
    threads: int | None,
    batch_size: int | None,
) -> tuple[BaseScorer, dict[str, Any]]:
    """What computes, and what decides the scores."""
    import logging

    from hyena_dna.inference.base_likelihood import BaseScorer
    from hyena_dna.inference.runtime import set_threads
    from hyena_dna.model.checkpoint import load_model, parameters_digest
    from hyena_dna.model.device import select_device
    from pipelines.cli import versions

    set_threads(threads)
    network = load_model(model, device=select_device(device))
    read: BaseStrands = "fwd" if strands == "fwd" else "rev" if strands == "rev" else "both"
    scorer = BaseScorer(network, read, window=window, context=context, batch_size=batch_size)
    if context is None and scorer.context < scorer.window // 2:
        logging.getLogger("hyena_dna").info(
            "at least %s bp before every scored base; --context max reads %s",
            f"{scorer.context:,}",
            f"{scorer.window // 2:,}",
        )
    facts = {
        "version": dict(versions())["hyena-dna"],
        "model": model,
        "sha256": parameters_digest(network),
        "strands": strands,
        "window": scorer.window,
        "context": scorer.context,
    }
    return scorer, facts


def _estimate(source: Source, scorer: BaseScorer) -> dict[str, Any]:
    """What a run would read, need and take; a short trial on random bases gives the speed."""
    from hyena_dna.inference.selfcheck import forward_bytes

    records = set[int]()
    bases = tokens = 0
    for chunk in source.chunks(scorer.limits()):
        records.update(piece.record for piece in chunk.pieces)
        bases += sum(piece.length for piece in chunk.pieces)
        tokens += scorer.tokens(chunk)
    if not records:
        raise InputError("there are no records")
    return {
        "records": len(records),
        "bases": bases,
        "tokens": tokens,
        "memory_bytes": forward_bytes(scorer.model.config, max(scorer.batch_tokens, scorer.window)),
        "seconds": float(f"{tokens / scorer.trial():.3g}"),
    }


def _summary(table: Any) -> dict[str, Any]:
    """All records together."""
    import math

    records = bases = scored = 0
    total: list[float] = []
    for record in table.records():
        records, bases = records + 1, bases + record.bases
        scored += sum(record.scored)
        total += record.log_likelihood
    nats = -math.fsum(total) / scored if scored else None
    return {
        "records": records,
        "bases": bases,
        "scored": scored,
        "perplexity": None if nats is None else math.exp(nats),
        "bits_per_base": None if nats is None else nats / math.log(2),
    }


def _report(facts: dict[str, Any], *, as_json: bool) -> None:
    import json
    import logging

    quality = f"{facts['bits_per_base']:.4f} bits per base" if facts["scored"] else "no base was scored"
    logging.getLogger("hyena_dna").info(
        "%s records, %s bp: %s, %.1f s", f"{facts['records']:,}", f"{facts['bases']:,}", quality, facts["seconds"]
    )
    if as_json:
        click.echo(json.dumps(facts))
