"""`hyena-dna score-variants`: variants go in, the same variants with scores come out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

import rich_click as click

from hyena_dna.errors import InputError
from pipelines.options import LENGTH, LENGTH_OR_MAX, genome_option, model_option, output_option, run_options, say_window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hyena_dna.datasets.alleles import WindowSpec
    from hyena_dna.genome.reference import Reference
    from hyena_dna.genome.vcf import VariantSource
    from hyena_dna.inference.extra_scores import ExtraScores
    from hyena_dna.inference.record_scores import WindowScorer
    from hyena_dna.inference.run_counts import RunCounts
    from hyena_dna.inference.score_inputs import WindowBuilders
    from hyena_dna.model.classifier import SequenceClassifier


class _Shard(click.ParamType[tuple[int, int]]):
    """`i/n`: shard i of n, from 1."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        match = re.fullmatch(r"([0-9]+)/([0-9]+)", str(value))
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            self.fail(f"{value!r} is not i/n with i from 1 to n", param, ctx)
        return int(match[1]), int(match[2])


@click.command()
@model_option(required=True)
@genome_option()
@click.option(
    "--vcf",
    "-I",
    "vcf",
    type=click.Path(),
    default=None,
    help="VCF, .vcf.gz, BCF, `-` for standard input, or a .tsv of chrom, pos, ref, alt.",
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="CHROM:POS:REF:ALT",
    help="A single variant, 1-based. Repeat for several.",
)
@output_option(text="Output: .vcf, .vcf.gz, .bcf, .tsv, .tsv.gz or .parquet; `-` writes VCF to standard output.")
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
    help="Where the variant lies in the window, in the direction of each strand.",
)
@click.option(
    "--grid",
    type=LENGTH,
    default=None,
    help="Windows start at multiples of this many bp.  [default: 1 up to 8,192 bp, then window / 8]",
)
@click.option("--scored-span", type=LENGTH, default="4096", help="Positions summed, from the first changed base on.")
@click.option(
    "--on-ref-mismatch",
    type=click.Choice(["flag", "skip", "error", "flip"]),
    default="flag",
    help="Where REF is not what the genome has: give a status and no score; leave the record out; stop; or "
    "score with the sign turned where ALT is what the genome has.",
)
@click.option(
    "--contig-map",
    default=None,
    metavar="ucsc|ensembl|FILE",
    help="Translate contig names to UCSC's or Ensembl's, or by a file: name in the VCF, tab, in the genome.",
)
@click.option("--sample", default=None, help="Apply this sample's other phased variants to the window.")
@click.option(
    "--background",
    is_flag=True,
    help="Also write HYENA_LLR_CORRECTED: less the mean of the same trinucleotide change elsewhere in the genome.",
)
@click.option(
    "--background-sites",
    type=click.IntRange(min=10),
    default=100,
    help="Random sites of each of the 32 trinucleotides, chosen by --seed. Their means are kept for later runs.",
)
@click.option("--normalise", is_flag=True, help="Build windows about the leftmost place of insertions and deletions.")
@click.option(
    "--max-n-fraction",
    type=click.FloatRange(0, 1),
    default=0.1,
    help="Largest share of N in a window; N beyond a contig's end does not count.",
)
@click.option("--overwrite-field", is_flag=True, help="Replace HYENA_ fields that the input has already.")
@click.option(
    "--max-skipped",
    type=click.FloatRange(0, 1),
    default=1.0,
    help="Share of alleles that may stay without a score; above it the exit code is 3.",
)
@click.option(
    "--expect-records",
    type=click.IntRange(min=0),
    default=None,
    help="Number of records that the input must have: text cut at a line end cannot be told otherwise.",
)
@click.option("--summary", type=click.Path(), default=None, help="Write counts and settings as JSON.")
@click.option("--top", type=click.IntRange(min=0), default=0, help="Print the N lowest scores as a table.")
@click.option("--shard", type=_Shard(), default=None, help="Score part i of n; `hyena-dna merge` joins them.")
@click.option("--report", type=click.Path(), default=None, help="Write an HTML report.")
@click.option("--group-field", default=None, help="INFO field by which the report groups scores, such as CONSEQUENCE.")
@click.option("--label-field", default=None, help="INFO field that says what a variant is known to do, for the report.")
@click.option("--label-positive", default=None, help="Its value for variants with an effect.")
@click.option("--label-negative", default=None, help="Its value for variants without.  [default: all other values]")
@run_options
def command(model: str, genome: str, vcf: str | None, variants: tuple[str, ...], output: str,
            window: int | Literal["max"] | None, top: int, shard: tuple[int, int] | None, max_skipped: float,
            report: str | None, summary: str | None, expect_records: int | None, device: str, threads: int | None,
            batch_size: int | None, precision: str, seed: int | None, force: bool, resume: bool, dry_run: bool,
            as_json: bool, quiet: bool, **settings: Any) -> int:  # fmt: skip
    """Score the effect of variants: log P(alternative) - log P(reference), in nats, on both strands.

    Every record, its order, samples and INFO stay; each alternative allele gets HYENA_ fields and a status. Negative
    scores: the model finds the alternative less likely. A fine-tuned model also writes HYENA_DELTA_LABEL, the change
    of its logits. POS is 1-based as in VCF. Scores are always computed in float32 or better. Exit code 3: more alleles
    than --max-skipped have no score.

    \b
    Examples:
      hyena-dna score-variants --model M --genome hg38.fa --vcf in.vcf.gz -o out.vcf.gz
      hyena-dna score-variants --model M --genome hg38.fa --variant chr17:43044295:T:C --window max -o -
      hyena-dna score-variants --model M --genome brca1.fa --vcf sge.vcf.gz -o out.vcf.gz --report report.html
        --label-field SGE_CLASS --label-positive LOF --label-negative FUNC --group-field CONSEQUENCE
    """
    import json
    import sys
    import time
    from pathlib import Path

    from hyena_dna.files import atomic_open, check_output
    from hyena_dna.genome.contig_map import ContigMap, load_contig_map
    from hyena_dna.genome.reference import Reference
    from hyena_dna.inference.run_counts import InfoColumns
    from hyena_dna.inference.score_inputs import WindowBuilders, count_records, run_file
    from hyena_dna.inference.score_run import RunOptions, records_of_chunk

    began = time.monotonic()
    if precision not in ("auto", "fp32"):
        raise InputError(f"--precision {precision} is too coarse for differences of likelihoods", remedy="use fp32")
    if (vcf is None) == (not variants):
        raise InputError("give either --vcf or --variant")
    if output == "-" and (shard or resume or report or as_json or top):
        raise InputError("standard output takes the VCF alone", remedy="name a file with --output")
    if vcf == "-" and (shard or settings["sample"]):
        raise InputError("standard input can be read only once", remedy="name a file with --vcf")
    if settings["label_field"] and settings["label_positive"] is None:
        raise InputError("--label-field needs --label-positive, the value of variants with an effect")
    for path in (summary, report):
        if path is not None:
            check_output(path, force=force)
    with Reference(genome) as reference:
        contig_map, contigs = settings["contig_map"], reference.contigs
        contig = load_contig_map(contig_map, contigs) if contig_map else ContigMap({}, contigs)
        total = count_records(vcf) if vcf and vcf != "-" and (shard or dry_run) else None
        scorer, spec, provenance, classifier = _prepare(model, window, device, threads, batch_size, settings)
        provenance |= {"genome": genome, "variants": vcf or variants}
        if settings["background"]:
            provenance |= {"background": True, "background_sites": settings["background_sites"], "seed": seed or 0}
        source = _source(vcf, variants, reference)
        if dry_run:
            click.echo(json.dumps({"records": total, **provenance, "output": output}, indent=None if as_json else 2))
            return 0
        builders = WindowBuilders(reference, source.name, settings["sample"], contig)
        extras = _extras(classifier, scorer, builders, spec, reference, provenance, batch_size)
        names = tuple(field.column for extra in extras for field in extra.fields)
        columns = InfoColumns(settings["label_field"], settings["group_field"], names) if report else None
        chunk = records_of_chunk(spec.window)
        options = RunOptions(shard, total, expect_records, resume, force, top, columns, chunk)
        counts = run_file(
            source, reference, scorer, builders, spec, output, contig, provenance, settings, options, extras
        )  # fmt: skip
    facts = _facts(counts, provenance, output, time.monotonic() - began)
    if summary:
        with atomic_open(summary, "w") as handle:
            handle.write(json.dumps(facts, indent=2) + "\n")
    if report:
        from hyena_dna.output.score_report import Labels, write_score_report

        wanted = (settings["label_field"], settings["label_positive"], settings["label_negative"])
        labels = Labels(*wanted) if settings["label_field"] else None
        write_score_report(Path(report), counts.columns, facts, labels, settings["group_field"])
    if as_json:
        click.echo(json.dumps(facts))
    elif top:
        click.echo("chrom\tpos\tref\talt\tllr")
        for score, chrom, pos, ref, alt in counts.top:
            click.echo(f"{chrom}\t{pos}\t{ref}\t{alt}\t{score:.6g}")
    if not quiet:
        statuses = ", ".join(f"{name} {number:,}" for name, number in counts.statuses.most_common())
        sys.stdout.flush()
        numbers = f"{counts.records:,} records, {counts.alleles:,} alleles"
        click.echo(f"{numbers}: {statuses or 'nothing to score'}", err=True)
    skipped = counts.alleles - counts.statuses["ok"]
    return 3 if skipped > max_skipped * counts.alleles else 0


def _prepare(
    model: str, window: int | Literal["max"] | None, device: str, threads: int | None, batch_size: int | None,
    settings: Mapping[str, Any],
) -> tuple[WindowScorer, WindowSpec, dict[str, Any], SequenceClassifier | None]:  # fmt: skip
    """The scorer, where windows lie, what decides the scores, and the classifier that a fine-tuned model is."""
    from hyena_dna.datasets.alleles import WindowSpec
    from hyena_dna.inference.runtime import set_threads
    from hyena_dna.inference.variant_effects import VariantScorer
    from hyena_dna.inference.windows import longest_window, variant_window
    from hyena_dna.model.checkpoint import parameters_digest, read_model
    from hyena_dna.model.classifier import classifier_from
    from hyena_dna.model.device import select_device
    from pipelines.cli import versions

    set_threads(threads)
    loaded = read_model(model)
    place = select_device(device)
    classifier = None if loaded.task is None else classifier_from(loaded).to(place)
    network = loaded.model.to(place).eval()
    chosen = variant_window(network.config, window, place)
    if window is None:
        say_window(chosen, longest_window(network.config))
    spec = WindowSpec.make(chosen, settings["position"], settings["grid"])
    provenance = {
        "version": dict(versions())["hyena-dna"],
        "model": model,
        "sha256": parameters_digest(network),
        "window": spec.window,
        "position": spec.position,
        "grid": spec.grid,
        "scored_span": settings["scored_span"],
        "max_n_fraction": settings["max_n_fraction"],
        "on_ref_mismatch": settings["on_ref_mismatch"],
        "normalise": settings["normalise"],
        "sample": settings["sample"],
        "contig_map": settings["contig_map"],
        "overwrite_field": settings["overwrite_field"],
    }
    scorer = VariantScorer(network, span=settings["scored_span"], batch_size=batch_size)
    return scorer, spec, provenance, classifier


def _extras(
    classifier: SequenceClassifier | None, scorer: WindowScorer, builders: WindowBuilders, spec: WindowSpec,
    reference: Reference, provenance: Mapping[str, Any], batch_size: int | None,
) -> list[ExtraScores]:  # fmt: skip
    """What is computed beyond the scores that every run has."""
    from hyena_dna.datasets.alleles import WindowSpec
    from hyena_dna.inference.background import known_background
    from hyena_dna.inference.extra_scores import ClassDeltas, ContextCorrection

    extras: list[ExtraScores] = []
    if provenance.get("background"):
        names = ("sha256", "window", "position", "grid", "scored_span", "background_sites", "seed", "max_n_fraction")
        identity = {name: str(provenance.get(name)) for name in names}
        for number, found in enumerate(reference.fingerprint.values()):
            identity[f"genome_{number}"] = str(found)
        tiles = builders.tiles(spec)
        background = known_background(
            tiles, scorer, identity, sites=provenance["background_sites"], seed=provenance["seed"],
            max_n_fraction=provenance["max_n_fraction"],
        )  # fmt: skip
        extras.append(ContextCorrection(background, tiles))
    if classifier is not None:
        own = classifier.task.window
        where = spec if own is None else WindowSpec.make(own, grid=1)
        extras.append(ClassDeltas(classifier, where, builders.windows(builders.tiles(where)), batch_size))
    return extras


def _source(vcf: str | None, variants: Sequence[str], reference: Reference) -> VariantSource:
    from hyena_dna.genome.variants import Variant
    from hyena_dna.genome.vcf import open_variants, variants_from_rows

    if vcf is not None:
        return open_variants(vcf)
    parsed = [Variant.parse(text, reference.contigs) for text in variants]
    return variants_from_rows(((i, v.chrom, v.pos, v.ref, v.alt) for i, v in enumerate(parsed, 1)), "--variant")


def _facts(counts: RunCounts, provenance: Mapping[str, Any], output: str, seconds: float) -> dict[str, Any]:
    """The summary of a run."""
    return {
        "output": output,
        "n_records": counts.records,
        "n_alleles": counts.alleles,
        "statuses": dict(counts.statuses),
        "flags": dict(counts.flags),
        "duplicates": counts.duplicates,
        "sorted": counts.in_order,
        "ref_compared": counts.compared,
        "ref_mismatched": counts.mismatched,
        "records_left_out": counts.skipped_records,
        "mismatch_examples": [
            dict(zip(("line", "chrom", "pos", "ref", "genome"), example, strict=True)) for example in counts.mismatches
        ],
        "top": [dict(zip(("llr", "chrom", "pos", "ref", "alt"), entry, strict=True)) for entry in counts.top],
        "settings": dict(provenance),
        "seconds": round(seconds, 3),
    }
