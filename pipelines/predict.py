"""`hyena-dna predict`: regions, sequences or a genome go in, the probabilities of a fine-tuned model come out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from hyena_dna.errors import InputError
from pipelines.options import LENGTH, genome_option, model_option, output_option, run_options

if TYPE_CHECKING:
    from hyena_dna.inference.embed_sources import Source
    from hyena_dna.inference.predict import Predictor


@click.command()
@model_option(required=True)
@genome_option(required=False)
@click.option("--regions", type=click.Path(), help="Regions of --genome: BED or narrowPeak.")
@click.option("--fasta", type=click.Path(), help="Sequences: FASTA, FASTQ or GenBank; `-` for standard input.")
@click.option(
    "--csv",
    "table",
    type=click.Path(),
    help="Table (CSV, TSV, Parquet) with a column sequence, or chrom, start, end of --genome.",
)
@click.option("--tile", type=LENGTH, default=None, help="Predict every stretch of so many bp along --genome.")
@click.option(
    "--region",
    "places",
    multiple=True,
    metavar="CONTIG[:START-END]",
    help="With --tile: a contig or a part of it, 1-based, both ends included. Repeat for several.  "
    "[default: all contigs]",
)
@output_option(text="Output: .tsv, .tsv.gz, .parquet, .bed, .bed.gz, .bw or .bedgraph.")
@click.option(
    "--window",
    type=LENGTH,
    default=None,
    help="bp around the centre of each record.  [default: as in fine-tuning]",
)
@click.option(
    "--max-n",
    type=click.FloatRange(0, 1),
    default=0.1,
    help="Largest share of N; of records with more nothing is predicted.",
)
@click.option("--clip", is_flag=True, help="Cut regions at the end of their contig instead of refusing them.")
@click.option("--rna", is_flag=True, help="Read U as T.")
@run_options
def command(
    model: str,
    output: str,
    window: int | None,
    max_n: float,
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
    """Predict labels, or a number, with a fine-tuned model.

    A table has one row per record: chrom, start, end (0-based half-open), name, strand, label (as the input has it), a
    column of calibrated probabilities for each label, the predicted label, and status: ok, or n_fraction where N made
    a prediction a guess. A BED file's score is 1000 times the probability of the positive or most probable label. A
    track has the probability over each region, or over each stretch of --tile, whose window is centred on it; with
    several labels there is one track for each, x.LABEL.bw.

    \b
    Examples:
      hyena-dna predict --model runs/promoters --genome ce10.fa.gz --regions peaks.bed -o peaks.tsv
      hyena-dna predict --model runs/promoters --genome ce10.fa.gz --tile 64 --region chrII -o chrII.bw
      hyena-dna predict --model runs/promoters --csv sequences.csv -o predictions.parquet
    """
    import json
    import time

    import torch

    from hyena_dna.files import check_output
    from hyena_dna.inference.embed_sources import InputOptions, open_source
    from hyena_dna.inference.inputs import ChunkLimits
    from hyena_dna.inference.predict import predict_chunks
    from hyena_dna.output.embedding_parts import EmbeddingTable
    from hyena_dna.output.parts import open_parts
    from hyena_dna.output.prediction_files import PredictionTask, prediction_paths, write_predictions

    began = time.monotonic()
    if resume and inputs["fasta"] == "-":
        raise InputError("standard input can be read only once", remedy="name a file with --fasta")
    tile = inputs["tile"]
    if inputs["places"] and tile is None:
        raise InputError("--region names what --tile cuts into stretches", remedy="add --tile, or give --regions")
    check_output(output, force=force)
    predictor, facts = _prepare(model, window, max_n, device, threads, precision, batch_size)
    if tile is not None and predictor.window is None:
        raise InputError("--tile needs a window: the model was fine-tuned on records as long as they are",
                         remedy="give --window")  # fmt: skip
    task = predictor.task
    meaning = PredictionTask(task.kind, task.labels, task.output_labels, task.thresholds)
    source = open_source(InputOptions(**inputs, window=predictor.window, stranded=task.stranded))
    paths = prediction_paths(Path(output), meaning, placed=source.contigs is not None)
    for path in paths.values():
        check_output(path, force=force)
    limits = ChunkLimits()
    if dry_run:
        plan = {
            **_estimate(source, predictor, limits, tiled=tile is not None),
            "output": [str(path) for path in paths.values()],
            **facts,
        }
        click.echo(json.dumps(plan) if as_json else "\n".join(f"{name}: {value}" for name, value in plan.items()))
        return
    run = {**facts, "settings": inputs, "inputs": source.inputs, "batch_size": batch_size,
           "device": predictor.device.type, "threads": torch.get_num_threads()}  # fmt: skip
    with open_parts(Path(output), run, resume=resume, force=force) as parts:
        totals = predict_chunks(predictor, source.chunks(limits), parts, total_records=source.total)
        table = EmbeddingTable(parts, totals.chunks, task.n_outputs, pooled=True, facts=facts)
        write_predictions(table, paths, meaning, source.contigs, tiled=tile is not None)
        summary = _summary(table, meaning)
    _report(
        {
            "output": [str(path) for path in paths.values()],
            "records": totals.records,
            "bases": totals.bases,
            "computed_bases": totals.computed,
            **summary,
            "seconds": round(time.monotonic() - began, 3),
            **facts,
        },
        as_json=as_json,
    )


def _prepare(
    model: str,
    window: int | None,
    max_n: float,
    device: str,
    threads: int | None,
    precision: str,
    batch_size: int | None,
) -> tuple[Predictor, dict[str, Any]]:
    """What computes, and what decides the predictions."""
    from hyena_dna.inference.predict import Predictor
    from hyena_dna.inference.runtime import select_precision, set_threads
    from hyena_dna.model.classifier import load_classifier
    from hyena_dna.model.device import select_device
    from hyena_dna.model.weights import model_digest
    from pipelines.cli import versions

    set_threads(threads)
    place = select_device(device)
    dtype = select_precision(precision, place)
    classifier = load_classifier(model, device=place)
    chosen = classifier.task.window if window is None else window
    predictor = Predictor(classifier, window=chosen, precision=dtype, batch_size=batch_size, most_n=max_n)
    facts = {
        "version": dict(versions())["hyena-dna"],
        "model": model,
        "sha256": model_digest(dict(classifier.named_parameters())),
        "task": classifier.task.model_dump(mode="json"),
        "window": chosen,
        "max_n": max_n,
        "precision": str(dtype).removeprefix("torch."),
    }
    return predictor, facts


def _estimate(source: Source, predictor: Predictor, limits: Any, *, tiled: bool) -> dict[str, Any]:
    """What a run would read, need and take; a short trial on random bases gives the speed."""
    import numpy as np

    from hyena_dna.inference.selfcheck import forward_bytes

    records = bases = tokens = 0
    if tiled:
        # A genome has more tiles than one wants to count one by one.
        records, bases = source.total or 0, source.bases or 0
        tokens = predictor.passes * bases
    else:
        for chunk in source.chunks(limits):
            records, bases = records + len(chunk.rows), bases + int(chunk.lengths.sum())
            tokens += predictor.tokens(chunk)
    if not records:
        raise InputError("there are no records")
    length = predictor.window or max(1, min(bases // records, predictor.longest))
    config = predictor.classifier.model.config
    return {
        "records": records,
        "bases": bases,
        "tokens": tokens,
        "memory_bytes": forward_bytes(config, max(predictor.batch_tokens, length)),
        "seconds": float(f"{tokens / predictor.trial(np.random.default_rng(0), length):.3g}"),
    }


def _summary(table: Any, task: Any) -> dict[str, Any]:
    """How many records of each predicted label, and how many without a prediction."""
    from collections import Counter

    import numpy as np

    counts: Counter[str] = Counter()
    flagged = 0
    for part in table:
        scores = np.asarray(part.vectors)
        known = np.isfinite(scores).all(1)
        flagged += int((~known).sum())
        if task.kind != "regression":
            counts.update(task.decide(scores[known]))
    return {"predicted": dict(counts), "n_fraction": flagged}


def _report(facts: dict[str, Any], *, as_json: bool) -> None:
    import json
    import logging

    log = logging.getLogger("hyena_dna")
    found = ", ".join(f"{name or 'no label'} {count:,}" for name, count in sorted(facts["predicted"].items()))
    log.info("%s: %s records%s, %.1f s", ", ".join(facts["output"]), f"{facts['records']:,}",
             f" ({found})" if found else "", facts["seconds"])  # fmt: skip
    if facts["n_fraction"]:
        log.warning("%s records have too many N: nothing is predicted of them", f"{facts['n_fraction']:,}")
    if as_json:
        click.echo(json.dumps(facts))
