"""Putting a run together: the input's header, contig names, the genome's windows, the output's heading."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hyena_dna.datasets.alleles import WindowSpec
from hyena_dna.datasets.haplotypes import SampleHaplotypes, read_haplotypes
from hyena_dna.datasets.token_tiles import TokenTiles
from hyena_dna.errors import InputError, escape
from hyena_dna.files import fingerprint
from hyena_dna.genome.contig_map import ContigMap
from hyena_dna.genome.reference import Reference
from hyena_dna.genome.vcf import VariantSource, open_variants
from hyena_dna.genome.vcf_header import VcfHeader
from hyena_dna.inference.extra_scores import ExtraScores, WindowBuilder
from hyena_dna.inference.record_scores import RecordScorer, Rules, WindowScorer
from hyena_dna.inference.run_counts import RunCounts
from hyena_dna.inference.score_run import RunOptions, check_input, score_file, score_stream
from hyena_dna.output.score_fields import FIELD_PREFIX
from hyena_dna.output.score_formats import Heading, score_format

__all__ = ["WindowBuilders", "count_records", "provenance_line", "run_file"]

logger = logging.getLogger("hyena_dna")


def count_records(path: str | os.PathLike[str]) -> int:
    """Number of records of a file of variants; reads it once, without looking into the records."""
    return sum(1 for _ in open_variants(path).lines)


def provenance_line(provenance: Mapping[str, Any]) -> str:
    """The value of the `##hyena-dna` header line: version, model, settings, and the command that repeats it.

    `provenance` holds the program's version, the model and its sha256, and every option that decides the scores; its
    `variants` are the name of a file, or a tuple of single variants.
    Shards and their merged whole have the same line, because nothing in it depends on the output.
    """
    given = {key: value for key, value in provenance.items() if value not in (None, False)}
    names = {"version", "on_ref_mismatch", "contig_map", "sample", "model", "genome", "variants"}
    variants = given.get("variants", ())
    source = [f"--vcf {variants}"]
    if isinstance(variants, tuple):
        source = [f"--variant {one}" for one in variants]
        given["variants"] = " ".join(variants)
    fields = [f"{key}={_quoted(value) if key in names else value}" for key, value in given.items()]
    options = [
        f"--{key.replace('_', '-')}{'' if value is True else f' {value}'}"
        for key, value in given.items()
        if key not in ("version", "sha256", "variants")
    ]
    command = _quoted(" ".join(["hyena-dna", "score-variants", *options, *source]))
    return f"<{','.join(fields)},command={command}>"


def _quoted(value: object) -> str:
    return '"' + escape(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


class WindowBuilders:
    """Makes what builds windows, in the genome or in a sample's own haplotypes, which are read once.

    Args:
        reference: the genome.
        variants: the file with the sample's genotypes.
        sample: its name; None builds windows of the genome.
        contig: translates contig names.
    """

    def __init__(self, reference: Reference, variants: str, sample: str | None, contig: ContigMap) -> None:
        self._reference = reference
        self._sample = sample
        self._carried = read_haplotypes(open_variants(variants), sample, contig) if sample else {}

    def tiles(self, spec: WindowSpec) -> TokenTiles:
        """The genome, cut into tiles that suit windows."""
        return TokenTiles(self._reference.fetch, self._reference.contigs, spec)

    def windows(self, tiles: TokenTiles) -> WindowBuilder:
        """What builds windows of the tiles' specification."""
        if self._sample is None:
            return tiles.windows_of
        return SampleHaplotypes(self._sample, self._carried, tiles.bases, tiles.contigs, tiles.spec).windows_of


def run_file(
    source: VariantSource,
    reference: Reference,
    scorer: WindowScorer,
    builders: WindowBuilders,
    spec: WindowSpec,
    output: str,
    contig: ContigMap,
    provenance: Mapping[str, Any],
    settings: Mapping[str, Any],
    options: RunOptions,
    extras: Sequence[ExtraScores] = (),
) -> RunCounts:
    """Score a source of variants into an output.

    Args:
        source: the variants.
        reference: the genome.
        scorer: scores windows.
        builders: makes what builds windows.
        spec: where windows lie.
        output: the file to be made, or `-` for VCF on standard output.
        contig: translates contig names.
        provenance: everything that decides the scores, for the header and to recognise an interrupted run.
        settings: `on_ref_mismatch`, `max_n_fraction`, `normalise`, `overwrite_field`.
        options: what the run does besides scoring.
        extras: computes scores beyond those that every run has.

    Returns:
        What was seen.

    Raises:
        InputError: see `check_input` and `score_file`; the input has fields of this program already.
    """
    lengths = reference.contigs
    replace = settings["overwrite_field"]
    header = _check_fields(source, overwrite=replace)
    fields = [field for extra in extras for field in extra.fields]
    tiles = builders.tiles(spec)
    rules = Rules(settings["on_ref_mismatch"], settings["max_n_fraction"], settings["normalise"])
    records = RecordScorer(
        tiles, scorer, contig, rules, name=source.name, width=source.header.width,
        windows=builders.windows(tiles), extras=extras, refuse_scored=not replace,
    )  # fmt: skip
    kind = score_format(output, fields, replace=replace)
    heading = Heading(header, [], provenance_line(provenance), _shard_text(options.shard), fields)
    lines = check_input(source, records, contig, lengths)
    _say_translations(contig)
    declared = _declared_contigs(header.contigs, contig, lengths)
    if output == "-":
        return score_stream(source, lines, records, kind, heading, declared, options)
    run = {
        **provenance, "output": os.path.basename(output), "shard": _shard_text(options.shard), "top": options.top,
        "chunk_records": options.chunk_records, "columns": options.columns and vars(options.columns),
        "genome_files": reference.fingerprint, "input": _input_fingerprint(source.name),
    }  # fmt: skip
    counts = score_file(source, lines, records, Path(output), kind, heading, declared, run, options)
    reference.check_unchanged()
    return counts


def _check_fields(source: VariantSource, *, overwrite: bool) -> VcfHeader:
    present = sorted(name.decode() for name in source.header.info if name.startswith(FIELD_PREFIX.encode()))
    if present and not overwrite:
        raise InputError(
            f"the input has the field {present[0]} already", file=source.name, remedy="--overwrite-field replaces it"
        )
    return source.header.without_info(present)


def _declared_contigs(
    declared: Mapping[str, int | None], contig: Callable[[str], str | None], lengths: Mapping[str, int]
) -> dict[str, int | None]:
    """Contigs that the output declares beyond the input's: the genome's, unless the input names them differently."""
    translated = {contig(name) for name in declared}
    return {name: length for name, length in lengths.items() if name not in translated}


def _say_translations(contig: ContigMap) -> None:
    if contig.changed:
        pairs = ", ".join(f"{name} is {found}" for name, found in list(contig.changed.items())[:30])
        logger.info("contig names: %s%s", escape(pairs), ", ..." if len(contig.changed) > 30 else "")


def _shard_text(shard: tuple[int, int] | None) -> str | None:
    return None if shard is None else f"{shard[0]}/{shard[1]}"


def _input_fingerprint(name: str) -> dict[str, int | str] | None:
    return fingerprint(name) if os.path.isfile(name) else None
