"""`hyena-dna mutagenesis`: every single substitution of a region, scored, drawn and written as a track."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from hyena_dna.errors import InputError
from pipelines.options import LENGTH, LENGTH_OR_MAX, genome_option, model_option, output_option, run_options, say_window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyena_dna.genome.reference import Reference
    from hyena_dna.genome.regions import Region
    from hyena_dna.inference.mutagenesis import ClassEffects, LikelihoodEffects
    from hyena_dna.output.mutagenesis_files import MutagenesisTable


@click.command()
@model_option(required=True)
@genome_option()
@click.option(
    "--region",
    "places",
    multiple=True,
    metavar="CONTIG:START-END",
    help="Region, 1-based, both ends included. Repeat for several.",
)
@click.option("--regions", type=click.Path(), help="Regions: BED or narrowPeak.")
@output_option(text="Effects: .tsv, .tsv.gz or .parquet with a row per substitution, or .npz with matrices.")
@click.option(
    "--flank",
    type=LENGTH,
    default="0",
    help="Also mutate this many bp on both sides of every region, as far as the contig goes.",
)
@click.option(
    "--plot",
    type=click.Path(),
    default=None,
    help="Picture: heat map and sequence logo; .png, .svg or .pdf. Several regions: x.1.png, x.2.png, ...",
)
@click.option("--tracks", type=click.Path(), default=None, help="Track of the mean effect: .bw, .bedgraph[.gz].")
@click.option(
    "--effect",
    type=click.Choice(["auto", "lm", "class"]),
    default="auto",
    help="Log-likelihood ratios, or the change of a fine-tuned model's logits; auto: class where the model has any.",
)
@click.option(
    "--score",
    default=None,
    help="What picture and track show: llr, llr_fwd, llr_rev, dist or delta_LABEL.  [default: llr, or the first label]",
)
@click.option(
    "--window",
    type=LENGTH_OR_MAX,
    default=None,
    help="Window in bp; max: the model's longest context.  [default: max; on a CPU at most 1024]",
)
@click.option(
    "--position",
    type=click.Choice(["center", "left", "right"]),
    default="center",
    help="Where a substitution lies in its window, in the direction of each strand.",
)
@click.option(
    "--grid",
    type=LENGTH,
    default=None,
    help="Windows start at multiples of this many bp.  [default: 1 up to 8,192 bp, then window / 8]",
)
@click.option("--scored-span", type=LENGTH, default="4096", help="Positions summed, from the substitution on.")
@click.option("--clip", is_flag=True, help="Cut regions at the end of their contig instead of refusing them.")
@run_options
def command(
    model: str,
    genome: str,
    places: tuple[str, ...],
    regions: str | None,
    output: str,
    flank: int,
    plot: str | None,
    tracks: str | None,
    clip: bool,
    score: str | None,
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
    **settings: Any,
) -> None:
    """Mutate every base of a region to every other one, and score what that does.

    A language model gives log-likelihood ratios, log P(mutated) - log P(reference) in nats on both strands, those of
    `score-variants`; negative: the model finds the mutation unlikely. A fine-tuned model gives the change of its
    logits, with the region centred in its window. The logo shows minus the mean effect of each base. Outputs are
    0-based, pictures 1-based, all on the + strand. Computed in float32, never coarser.

    \b
    Examples:
      hyena-dna mutagenesis --model M --genome sacCer3.fa.gz --region chrI:94500-94580 -o tata.tsv --plot tata.png
      hyena-dna mutagenesis --model M --genome hg38.fa --regions peaks.bed -o peaks.parquet --tracks peaks.bw
      hyena-dna mutagenesis --model finetuned --genome ce10.fa.gz --region chrI:11246-11465 -o promoter.npz
    """
    import json
    import time

    import torch

    from hyena_dna.files import check_output, fingerprint
    from hyena_dna.genome.reference import Reference
    from hyena_dna.inference.mutagenesis import mutate
    from hyena_dna.output.mutagenesis_files import MutagenesisTable, check_matrix, write_effect_track, write_matrix
    from hyena_dna.output.mutagenesis_picture import check_picture
    from hyena_dna.output.parts import open_parts
    from hyena_dna.output.tracks import check_track

    began = time.monotonic()
    if precision not in ("auto", "fp32"):
        raise InputError(f"--precision {precision} is too coarse for differences of likelihoods", remedy="use fp32")
    path = check_output(output, force=force)
    check_matrix(path)
    if tracks:
        check_track(check_output(tracks, force=force))
    with Reference(genome) as reference:
        inner = _regions(reference, places, regions, clip=clip)
        chosen = _widened(reference, inner, flank)
        pictures = _pictures(plot, chosen)
        for picture in pictures:
            check_output(picture, force=force)
            check_picture(picture, max(region.interval.length for region in chosen))
        scorer, facts = _prepare(model, reference, chosen, device, threads, batch_size, settings)
        shown = score or scorer.fields[0]
        if shown not in scorer.fields:
            raise InputError(f"there is no score {shown!r}", remedy=f"the scores are {', '.join(scorer.fields)}")
        positions = sum(region.interval.length for region in chosen)
        counts = {"regions": len(chosen), "positions": positions, "substitutions": 3 * positions}
        if dry_run:
            plan = counts | {"output": output, "seconds": _seconds(scorer, chosen, positions)} | facts
            click.echo(json.dumps(plan) if as_json else "\n".join(f"{name}: {value}" for name, value in plan.items()))
            return
        run = {**facts, "inputs": {name: fingerprint(name) for name in (genome, regions) if name},
               "regions": [str(region.interval) for region in chosen], "device": device,
               "threads": torch.get_num_threads(), "batch_size": batch_size}  # fmt: skip
        with open_parts(path, run, resume=resume, force=force) as parts:
            table = MutagenesisTable(parts, mutate(scorer, chosen, parts), chosen, scorer.fields, facts)
            if tracks:
                write_effect_track(table, shown, Path(tracks), reference.contigs)
            _draw(table, shown, pictures, inner if flank else [])
            write_matrix(table, path)
    summary = {
        "output": output,
        "plots": [str(picture) for picture in pictures],
        "tracks": tracks,
        **counts,
        "seconds": round(time.monotonic() - began, 3),
        **facts,
    }
    _report(summary, as_json=as_json)


def _regions(reference: Reference, places: Sequence[str], path: str | None, *, clip: bool) -> list[Region]:
    """The regions that a user gave."""
    from hyena_dna.genome.regions import read_regions
    from hyena_dna.inference.embed_sources import named_regions

    if bool(places) == (path is not None):
        raise InputError("give either --region or --regions")
    if path is None:
        return named_regions(places, reference)
    return read_regions(path, contigs=reference.contigs, clip=clip)


def _widened(reference: Reference, regions: Sequence[Region], flank: int) -> list[Region]:
    """Regions with their flanks, as far as their contigs go."""
    from dataclasses import replace

    wide = []
    for region in regions:
        place = region.interval
        start, end = max(0, place.start - flank), min(reference.contigs[place.chrom], place.end + flank)
        wide.append(replace(region, interval=replace(place, start=start, end=end)))
    return wide


def _pictures(plot: str | None, regions: Sequence[Region]) -> list[Path]:
    if plot is None:
        return []
    path = Path(plot)
    if len(regions) == 1:
        return [path]
    return [path.with_name(f"{path.stem}.{number}{path.suffix}") for number in range(1, len(regions) + 1)]


def _prepare(
    model: str,
    reference: Reference,
    regions: Sequence[Region],
    device: str,
    threads: int | None,
    batch_size: int | None,
    settings: dict[str, Any],
) -> tuple[LikelihoodEffects | ClassEffects, dict[str, Any]]:
    """What scores substitutions, and what decides the scores."""
    from hyena_dna.datasets.alleles import WindowSpec
    from hyena_dna.inference.mutagenesis import ClassEffects, LikelihoodEffects
    from hyena_dna.inference.runtime import set_threads
    from hyena_dna.inference.variant_scorer import VariantScorer
    from hyena_dna.inference.windows import longest_window, variant_window
    from hyena_dna.model.checkpoint import parameters_digest, read_model
    from hyena_dna.model.classifier import classifier_from
    from hyena_dna.model.device import select_device
    from hyena_dna.model.weights import model_digest
    from pipelines.cli import versions

    set_threads(threads)
    place = select_device(device)
    loaded = read_model(model)
    classes = settings["effect"] == "class" or (settings["effect"] == "auto" and loaded.task is not None)
    facts: dict[str, Any] = {"version": dict(versions())["hyena-dna"], "model": model}
    if classes:
        if settings["window"] is not None:
            raise InputError("a fine-tuned model reads the window it was trained with", remedy="leave --window out")
        classifier = classifier_from(loaded).to(place).eval()
        effects = ClassEffects(classifier, reference, batch_size=batch_size)
        for region in regions:
            effects.check(region)
        digest = model_digest(dict(classifier.named_parameters()))
        facts |= {"sha256": digest, "effect": "class", "window": classifier.task.window}
        return effects, facts
    network = loaded.model.to(place).eval()
    window = variant_window(network.config, settings["window"], place)
    if settings["window"] is None:
        say_window(window, longest_window(network.config))
    spec = WindowSpec.make(window, settings["position"], settings["grid"])
    scorer = VariantScorer(network, span=settings["scored_span"], batch_size=batch_size)
    facts |= {"sha256": parameters_digest(network), "effect": "lm", **spec._asdict(), "span": settings["scored_span"]}
    return LikelihoodEffects(scorer, reference, spec), facts


def _seconds(scorer: LikelihoodEffects | ClassEffects, regions: Sequence[Region], positions: int) -> float:
    """Time that a run will take, from a trial on a few positions."""
    import time
    from dataclasses import replace

    place = regions[0].interval
    trial = replace(place, end=min(place.end, place.start + 16))
    began = time.perf_counter()
    scorer.effects(place, trial)
    return float(f"{(time.perf_counter() - began) * positions / trial.length:.3g}")


def _draw(table: MutagenesisTable, field: str, pictures: Sequence[Path], inner: Sequence[Region]) -> None:
    """Draw every region; bars mark the `inner` ones, where regions have flanks."""
    from hyena_dna.output.mutagenesis_picture import write_mutagenesis_picture

    if not pictures:
        return
    number = table.fields.index(field)
    name = Path(str(table.facts["model"])).name
    marks: list[tuple[int, int] | None] = [(region.interval.start, region.interval.end) for region in inner]
    marks = marks or [None] * len(pictures)
    for region, picture, marked in zip(table, pictures, marks, strict=True):
        place = region.region.interval
        where = f"{place.chrom}:{place.start + 1:,}-{place.end:,}"
        write_mutagenesis_picture(
            picture,
            chrom=place.chrom,
            start=region.start,
            bases=region.bases,
            effects=region.values[..., number],
            unit=f"{field} (nats)" if field.startswith("llr") else field,
            title=where if region.region.name == where.replace(",", "") else f"{region.region.name}, {where}",
            subtitle=f"{field} of every substitution, model {name}, window {table.facts['window'] or 'region'}",
            marked=marked,
        )


def _report(facts: dict[str, Any], *, as_json: bool) -> None:
    import json
    import logging

    logging.getLogger("hyena_dna").info(
        "%s: %s substitutions of %s regions, %.1f s",
        facts["output"],
        f"{facts['substitutions']:,}",
        f"{facts['regions']:,}",
        facts["seconds"],
    )
    if as_json:
        click.echo(json.dumps(facts))
