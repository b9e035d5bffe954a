"""`hyena-dna embed`: regions, sequences or reads go in, a table of vectors comes out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from hyena_dna.errors import InputError
from pipelines.options import LENGTH, genome_option, model_option, output_option, run_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hyena_dna.inference.embed_sources import Source
    from hyena_dna.inference.embedding import Embedder, Strands
    from hyena_dna.inference.inputs import ChunkLimits
    from hyena_dna.inference.probe import Probe
    from hyena_dna.inference.projection import Method
    from hyena_dna.output.embedding_parts import EmbeddingTable

# Colours and classes come from these columns of the output.
_LABELS = ("label", "split", "chrom", "strand", "name")

# More points than these are drawn, or learnt from, by an even random choice.
_MOST_POINTS = 50_000

# Without pooling every base is a vector, so that chunks hold fewer bases.
_CHUNK_VECTOR_BYTES = 1 << 26


@click.command()
@model_option(required=True)
@genome_option(required=False)
@click.option("--regions", type=click.Path(), help="Regions of --genome: BED or narrowPeak.")
@click.option(
    "--region",
    "places",
    multiple=True,
    metavar="CONTIG[:START-END]",
    help="A contig of --genome or a part of it, 1-based, both ends included. Repeat for several.",
)
@click.option("--fasta", type=click.Path(), help="Sequences: FASTA, FASTQ or GenBank; `-` for standard input.")
@click.option(
    "--csv",
    "table",
    type=click.Path(),
    help="Table (CSV, TSV, Parquet) with a column sequence, or "
    "chrom, start, end of --genome; name, strand, label, split are used where they are.",
)
@click.option("--bam", type=click.Path(), help="Aligned reads (BAM, CRAM).")
@click.option(
    "--bam-mode",
    type=click.Choice(["reads", "consensus"]),
    default="reads",
    help="Embed each read as sequenced, or the reads' consensus in --regions.",
)
@output_option(text="Output: .h5ad, .parquet, .npz or .zarr.")
@click.option(
    "--window",
    type=LENGTH,
    default=None,
    help="bp around the centre of each region or sequence, cut at the end of its contig.  [default: the region itself]",
)
@click.option("--overlap", type=LENGTH, default="0", help="bp shared by tiles of a record longer than the model.")
@click.option("--stranded", is_flag=True, help="Read regions on - from that strand.  [default: all on +]")
@click.option(
    "--layer",
    default=None,
    help="last (after the final norm), block K or blocks K,L side by side, counted "
    "from 1, or mean:K, the mean of the last K blocks.  [default: as the model says, or last]",
)
@click.option(
    "--pool",
    default=None,
    help="mean, max, mean+max, mean+std, moments:N (also covariances of N directions), last, center:N (mean of the N "
    "central bp), bins:N (means of N stretches), none (every base; .zarr).  [default: as the model says, or mean]",
)
@click.option(
    "--strands",
    type=click.Choice(["mean", "concat", "fwd"]),
    default=None,
    help="Mean of a record and its reverse complement, both side by side, or the record.  [default: as the model "
    "says, or mean]",
)
@click.option(
    "--label-column",
    default=None,
    help="Column of the label, by number or name.  [default: BED column 4, or the table's label]",
)
@click.option("--split-column", default=None, help="Column of the split, by number or name.")
@click.option("--clip", is_flag=True, help="Cut regions at the end of their contig instead of refusing them.")
@click.option("--rna", is_flag=True, help="Read U as T.")
@click.option("--min-depth", type=click.IntRange(min=1), default=3, help="Least reads under a base of a consensus.")
@click.option(
    "--min-mapping-quality",
    type=click.IntRange(min=0),
    default=None,
    help="Reads below do not count.  [default: 0 for reads, 1 for a consensus]",
)
@click.option(
    "--plot",
    type=click.Choice(["umap", "pca"]),
    default=None,
    help="Also write OUTPUT.METHOD.png and an interactive OUTPUT.METHOD.html.",
)
@click.option("--color", type=click.Choice(_LABELS), default=None, help="Column that colours the plot.")
@click.option(
    "--probe",
    type=click.Choice(_LABELS),
    default=None,
    help="Cross-validate a linear probe and nearest neighbours of this column, by contig.",
)
@run_options
def command(
    model: str,
    output: str,
    layer: str | None,
    pool: str | None,
    strands: Strands | None,
    overlap: int,
    plot: Method | None,
    color: str | None,
    probe: str | None,
    device: str,
    threads: int | None,
    precision: str,
    batch_size: int | None,
    seed: int | None,
    force: bool,
    resume: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,  # handled by the option itself: no notes on stderr
    **inputs: Any,
) -> None:
    """Embed regions, sequences or reads: one vector each, or one per bin or base.

    Records longer than the model are tiled; each position counts once, as the first tile that has it sees it. Vectors
    stand in the order of the input beside chrom, start, end (0-based half-open), name, strand, label, split.

    \b
    Examples:
      hyena-dna embed --genome ce10.fa.gz --regions elements.bed -o elements.h5ad
      hyena-dna embed --model M --genome hg38.fa --regions peaks.narrowPeak --window 1k --plot umap --color label
        --probe label -o peaks.h5ad
      hyena-dna embed --model M --fasta genes.fa --layer 2 --pool bins:32 --strands concat -o genes.parquet
    """
    import json
    import time

    import torch

    from hyena_dna.files import check_output
    from hyena_dna.inference.embed_run import embed_chunks
    from hyena_dna.inference.embed_sources import InputOptions, open_source
    from hyena_dna.inference.pooling import parse_pool
    from hyena_dna.inference.projection import check_method
    from hyena_dna.output.embedding_files import check_suffix, write_embeddings
    from hyena_dna.output.embedding_parts import EmbeddingTable
    from hyena_dna.output.parts import open_parts

    began = time.monotonic()
    # A Zarr array is a folder.
    path = check_output(output, force=force, folder=Path(output).suffix == ".zarr")
    # What a model says by itself is always one vector per record.
    pooled = pool is None or parse_pool(pool).kind != "none"
    check_suffix(path, pooled=pooled)
    pictures = {suffix: path.with_name(f"{path.stem}.{plot}.{suffix}") for suffix in ("png", "html")} if plot else {}
    for picture in pictures.values():
        check_output(picture, force=force)
    if (plot or probe) and not pooled:
        raise InputError("--plot and --probe need one vector per record", remedy="choose another --pool")
    if color and not plot:
        raise InputError("--color colours a plot", remedy="add --plot umap or --plot pca")
    if plot:
        check_method(plot)
    if resume and inputs["fasta"] == "-":
        raise InputError("standard input can be read only once", remedy="name a file with --fasta")
    source = open_source(InputOptions(**inputs, require_labels="label" in (color, probe)))
    embedder, facts = _prepare(model, layer, pool, strands, overlap, device, threads, precision, batch_size)
    facts["window"] = str(inputs["window"] or "record")
    limits = _limits(embedder, pooled)
    if dry_run:
        plan = _estimate(source, embedder, limits) | {"output": output} | facts
        click.echo(json.dumps(plan) if as_json else "\n".join(f"{name}: {value}" for name, value in plan.items()))
        return
    settings = {name: value for name, value in inputs.items() if name != "min_depth" or inputs["bam"]}
    run = {
        **facts,
        "settings": settings,
        "inputs": source.inputs,
        "device": embedder.device.type,
        "threads": torch.get_num_threads(),
        "batch_size": batch_size,
        "suffix": path.suffix,
    }
    with open_parts(path, run, resume=resume, force=force) as parts:
        totals = embed_chunks(embedder, source.chunks(limits), parts, total_records=source.total)
        table = EmbeddingTable(parts, totals.chunks, embedder.width, pooled=pooled, facts=facts)
        found = _probe(table, probe, seed or 0) if probe else None
        if plot:
            _plot(table, plot, color, seed or 0, pictures)
        write_embeddings(table, path, force=force)
    seconds = time.monotonic() - began
    _report(
        {
            "output": output,
            "records": totals.records,
            "bases": totals.bases,
            "width": embedder.width,
            "computed_bases": totals.computed,
            "seconds": round(seconds, 3),
            "plots": [str(picture) for picture in pictures.values()],
            **facts,
        },
        found,
        as_json=as_json,
    )


def _prepare(
    model: str,
    layer: str | None,
    pool: str | None,
    strands: Strands | None,
    overlap: int,
    device: str,
    threads: int | None,
    precision: str,
    batch_size: int | None,
) -> tuple[Embedder, dict[str, Any]]:
    """What computes, and what decides the vectors."""
    from hyena_dna.inference.embedding import Embedder, EmbeddingSpec
    from hyena_dna.inference.layers import parse_layers
    from hyena_dna.inference.pooling import parse_pool
    from hyena_dna.inference.runtime import select_precision, set_threads
    from hyena_dna.model.checkpoint import parameters_digest, read_model
    from hyena_dna.model.device import select_device
    from hyena_dna.model.embedding_defaults import EmbeddingDefaults
    from pipelines.cli import versions

    set_threads(threads)
    place = select_device(device)
    dtype = select_precision(precision, place)
    loaded = read_model(model)
    network = loaded.model.to(place)
    defaults = loaded.embedding or EmbeddingDefaults()
    layer, pool, strands = layer or defaults.layer, pool or defaults.pool, strands or defaults.strands
    layers = parse_layers(layer, network.config.n_layer)
    spec = EmbeddingSpec(layers, parse_pool(pool), strands, overlap)
    embedder = Embedder(network, spec, precision=dtype, batch_size=batch_size)
    facts = {
        "version": dict(versions())["hyena-dna"],
        "model": model,
        "sha256": parameters_digest(network),
        "layer": layer,
        "pool": pool,
        "strands": strands,
        "overlap": overlap,
        "precision": str(dtype).removeprefix("torch."),
    }
    return embedder, facts


def _limits(embedder: Embedder, pooled: bool) -> ChunkLimits:
    from hyena_dna.inference.inputs import ChunkLimits

    limits = ChunkLimits()
    if pooled:
        return limits
    return limits._replace(bases=max(1, _CHUNK_VECTOR_BYTES // (4 * embedder.width)))


def _estimate(source: Source, embedder: Embedder, limits: ChunkLimits) -> dict[str, Any]:
    """What a run would read, need and take; a short trial on random bases gives the speed."""
    import numpy as np

    from hyena_dna.inference.selfcheck import forward_bytes

    records = bases = tokens = 0
    for chunk in source.chunks(limits):
        records, bases = records + len(chunk.rows), bases + int(chunk.lengths.sum())
        tokens += embedder.tokens(chunk)
    if not records:
        raise InputError("there are no records to embed")
    vectors = bases if embedder.spec.pool.kind == "none" else records
    rate = embedder.trial(np.random.default_rng(0), max(1, min(bases // records, embedder.window)))
    memory = forward_bytes(embedder.model.config, max(embedder.batch_tokens, min(bases // records, embedder.window)))
    return {
        "records": records,
        "bases": bases,
        "tokens": tokens,
        "width": embedder.width,
        "output_bytes": 4 * vectors * embedder.width,
        "memory_bytes": memory,
        "seconds": float(f"{tokens / rate:.3g}"),
    }


def _probe(table: EmbeddingTable, column: str, seed: int) -> Probe:
    from hyena_dna.inference.probe import probe

    vectors, columns = table.load(_MOST_POINTS, seed)
    return probe(
        vectors, columns[column], column=column, groups=columns["chrom"] if column != "chrom" else None, seed=seed
    )


def _plot(table: EmbeddingTable, method: Method, color: str | None, seed: int, pictures: Mapping[str, Path]) -> None:
    from hyena_dna.inference.projection import project
    from hyena_dna.output.scatter import Scatter, write_scatter_page, write_scatter_picture

    vectors, columns = table.load(_MOST_POINTS, seed)
    projection = project(vectors, method, seed=seed)
    chosen = f"{len(vectors):,} of {table.records:,}" if len(vectors) < table.records else f"{len(vectors):,}"
    how = ", ".join(f"{name} {table.facts[name]}" for name in ("layer", "pool", "strands"))
    places = zip(*(columns[name] for name in ("chrom", "start", "end", "strand")), strict=True)
    scatter = Scatter(
        points=projection.points,
        axes=projection.axes,
        names=columns["name"],
        places=[
            f"{chrom}:{start + 1:,}-{end:,} ({strand})" if chrom else f"{end - start:,} bp"
            for chrom, start, end, strand in places
        ],
        values=columns[color] if color else None,
        column=color or "",
        title=f"{method.upper()} of {chosen} embeddings",
        subtitle=f"model {Path(str(table.facts['model'])).name}, {how}",
    )
    write_scatter_picture(scatter, pictures["png"])
    write_scatter_page(scatter, pictures["html"])


def _report(facts: dict[str, Any], found: Probe | None, *, as_json: bool) -> None:
    import json
    import logging

    logging.getLogger("hyena_dna").info(
        "%s: %s records, %s bp, %s numbers each, %.1f s",
        facts["output"],
        f"{facts['records']:,}",
        f"{facts['bases']:,}",
        f"{facts['width']:,}",
        facts["seconds"],
    )
    if as_json:
        click.echo(json.dumps(facts | ({"probe": found.summary()} if found else {})))
    elif found:
        click.echo("\n".join(found.lines()))
