"""From the files that a user names to chunks of records."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hyena_dna.datasets.store import TokenStore
from hyena_dna.errors import InputError
from hyena_dna.files import fingerprint
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.reads import AlignedReads
from hyena_dna.genome.records import read_records
from hyena_dna.genome.reference import Reference
from hyena_dna.genome.regions import Region, read_regions
from hyena_dna.genome.tables import SequenceRow, read_table
from hyena_dna.inference.embed_regions import PackedRegions
from hyena_dna.inference.inputs import (
    Chunk,
    ChunkLimits,
    Row,
    consensus_chunks,
    region_chunks,
    sequence_chunks,
)

__all__ = ["InputOptions", "Source", "named_regions", "open_source"]


@dataclass(frozen=True)
class InputOptions:
    """The inputs of a run, as a user gives them.

    Attributes:
        genome: FASTA of regions, or that a CRAM was made with.
        regions: BED or narrowPeak.
        places: `CONTIG` or `CONTIG:START-END`, 1-based with both ends, of `genome`.
        whole_genome: `genome` alone means all of its contigs.
        tile: bp of neighbouring stretches that `places`, or all of `genome`, are cut into; None for no such thing.
        fasta: FASTA, FASTQ or GenBank, `-` for standard input.
        table: CSV, TSV or Parquet of sequences or of regions.
        bam: aligned reads.
        bam_mode: embed each read, or the consensus of regions.
        window: bp around the centre of each region or sequence; None for the whole of it.
        stranded: read regions on "-" from the opposite strand.
        label_column: number or name of the label column.
        split_column: number or name of the split column.
        require_labels: every record needs a label.
        clip: cut regions at the end of their contig.
        rna: read U as T.
        min_depth: least reads under a base of the consensus.
        min_mapping_quality: of reads that count; None for 1 in a consensus and 0 for reads.
    """

    genome: str | None = None
    regions: str | None = None
    places: tuple[str, ...] = ()
    whole_genome: bool = False
    tile: int | None = None
    fasta: str | None = None
    table: str | None = None
    bam: str | None = None
    bam_mode: Literal["reads", "consensus"] = "reads"
    window: int | None = None
    stranded: bool = False
    label_column: str | None = None
    split_column: str | None = None
    require_labels: bool = False
    clip: bool = False
    rna: bool = False
    min_depth: int = 3
    min_mapping_quality: int | None = None


@dataclass(frozen=True)
class Source:
    """Records to embed.

    Attributes:
        chunks: makes them, from the first, in chunks of the given size.
        total: number of records, None where only reading all of them would tell.
        inputs: fingerprint of every file by its path.
        contigs: length in bp of the contigs that records lie on; None where records are sequences of their own.
        bases: bp of all records, None where only reading all of them would tell.
    """

    chunks: Callable[[ChunkLimits], Iterator[Chunk]]
    total: int | None
    inputs: dict[str, Any]
    contigs: dict[str, int] | None = None
    bases: int | None = None


def open_source(options: InputOptions) -> Source:
    """Open the inputs of a run and check what can be checked at once.

    Raises:
        InputError: not exactly one kind of input, an input that something is missing for, or a file that is not sound.
    """
    consensus = options.bam is not None and options.bam_mode == "consensus"
    kinds = {"--regions": None if consensus else options.regions, "--region": options.places or None,
             "--fasta": options.fasta, "--csv": options.table, "--bam": options.bam}  # fmt: skip
    given = [name for name, path in kinds.items() if path is not None]
    if not given and (options.whole_genome or options.tile is not None) and options.genome is not None:
        given = ["--genome"]
    if len(given) != 1:
        what = f"{' and '.join(given)} cannot go together" if given else "there are no records to read"
        raise InputError(what, remedy="give one of --regions with --genome, --fasta, --csv, --bam")
    if options.tile is not None and given[0] not in ("--genome", "--region"):
        raise InputError(f"--tile cuts a genome into stretches, not {given[0]}", remedy="give --genome alone")
    labelled = given[0] in ("--regions", "--csv") or consensus
    if not labelled and (options.label_column or options.split_column or options.require_labels):
        raise InputError(f"{given[0]} has no labels or splits", remedy="give a table with --csv, or regions")
    if options.fasta is not None:
        return _records(options, options.fasta)
    if options.table is not None:
        return _table(options, options.table)
    if options.bam is not None:
        return _consensus(options, options.bam) if consensus else _reads(options, options.bam)
    with _reference(options) as reference:
        if options.tile is not None:
            return _tiled(options, reference, options.tile)
        if options.regions is not None:
            return _regions(options, reference, _read_regions(options, options.regions, reference), options.regions)
        return _regions(options, reference, PackedRegions(named_regions(options.places, reference)), None)


def named_regions(places: Sequence[str], reference: Reference) -> list[Region]:
    """Regions that a user named, `CONTIG[:START-END]` (1-based, both ends); all contigs that have bases where none is.

    Raises:
        InputError: a region is not one, or lies beyond its contig; the genome has no bases.
    """
    if not places:
        found = [Region(Interval(name, 0, size, "."), name) for name, size in reference.contigs.items() if size]
        if not found:
            raise InputError("the genome has no bases", file=reference.paths[0])
        return found
    regions = []
    for text in places:
        place = Interval.parse(text, reference.contigs)
        size = reference.contigs[place.chrom]
        if place.end > size:
            raise InputError(f"{text!r} ends beyond {place.chrom}, which has {size:,} bp")
        regions.append(Region(place, text))
    return regions


def _files(*paths: str | None) -> dict[str, Any]:
    found = {}
    for path in paths:
        if path is not None and path != "-":
            try:
                found[path] = fingerprint(path)
            except OSError as error:
                raise InputError(f"cannot be read: {os.strerror(error.errno or 0)}", file=path) from None
    return found


def _reference(options: InputOptions) -> Reference:
    if options.genome is None:
        raise InputError("regions need a genome", remedy="give it with --genome")
    return Reference(options.genome, rna=options.rna)


def _read_regions(options: InputOptions, path: str, contigs: Reference | AlignedReads) -> PackedRegions:
    return PackedRegions(
        read_regions(
            path,
            contigs=contigs.contigs,
            label_column=options.label_column,
            split_column=options.split_column,
            require_labels=options.require_labels,
            clip=options.clip,
        )
    )


def _regions(options: InputOptions, reference: Reference, regions: PackedRegions, path: str | None) -> Source:
    store = TokenStore.for_reference(reference)

    def chunks(limits: ChunkLimits) -> Iterator[Chunk]:
        return region_chunks(store, regions, window=options.window, stranded=options.stranded, limits=limits)

    bases = regions.bases if options.window is None else None
    return Source(chunks, len(regions), _files(options.genome, path), dict(reference.contigs), bases)


def _tiled(options: InputOptions, reference: Reference, step: int) -> Source:
    """Neighbouring stretches of `step` bp, the last of a contig or place the rest of it, along the genome."""
    store = TokenStore.for_reference(reference)
    order = {name: number for number, name in enumerate(reference.contigs)}
    places = [region.interval for region in named_regions(options.places, reference)]
    places.sort(key=lambda place: (order[place.chrom], place.start))
    for before, place in itertools.pairwise(places):
        if before.chrom == place.chrom and place.start < before.end:
            raise InputError(f"places to tile overlap on {place.chrom}", remedy="give each --region once")

    def stretches() -> Iterator[Region]:
        for place in places:
            for start in range(place.start, place.end, step):
                yield Region(Interval(place.chrom, start, min(start + step, place.end), "."), "")

    def chunks(limits: ChunkLimits) -> Iterator[Chunk]:
        return region_chunks(store, stretches(), window=options.window, limits=limits)

    total = sum(-(-place.length // step) for place in places)
    return Source(chunks, total, _files(options.genome), dict(reference.contigs), total * (options.window or step))


def _records(options: InputOptions, path: str) -> Source:
    def sequences() -> Iterator[tuple[Row, bytes]]:
        for record in read_records(path, rna=options.rna):
            yield Row(None, 0, len(record.sequence), record.name, "."), record.sequence

    return _sequences(options, sequences, None, _files(path))


def _sequences(
    options: InputOptions,
    sequences: Callable[[], Iterator[tuple[Row, bytes]]],
    total: int | None,
    inputs: dict[str, Any],
) -> Source:
    def chunks(limits: ChunkLimits) -> Iterator[Chunk]:
        return sequence_chunks(sequences(), window=options.window, limits=limits)

    return Source(chunks, total, inputs)


def _table(options: InputOptions, path: str) -> Source:
    reference = Reference(options.genome, rna=options.rna) if options.genome is not None else None
    table = read_table(
        path,
        contigs=None if reference is None else reference.contigs,
        label_column=options.label_column,
        split_column=options.split_column,
        require_labels=options.require_labels,
        clip=options.clip,
        rna=options.rna,
    )
    if table.regions:
        if reference is None:
            raise InputError("the table holds regions, which need a genome", file=path, remedy="give it with --genome")
        return _regions(options, reference, PackedRegions(table.regions), path)

    def sequences() -> Iterator[tuple[Row, bytes]]:
        for row in table.sequences:
            yield _sequence_row(row), row.sequence

    return _sequences(options, sequences, len(table.sequences), _files(path))


def _sequence_row(row: SequenceRow) -> Row:
    return Row(None, 0, len(row.sequence), row.name, ".", row.label, row.split)


def _reads(options: InputOptions, path: str) -> Source:
    reads = AlignedReads(path, reference=options.genome)

    def sequences() -> Iterator[tuple[Row, bytes]]:
        for read in reads.reads(min_mapping_quality=options.min_mapping_quality or 0):
            place = (read.chrom, read.start or 0, read.end or len(read.sequence))
            yield Row(*place, read.name, "-" if read.reverse else "+"), read.sequence

    return _sequences(options, sequences, None, _files(path, options.genome))


def _consensus(options: InputOptions, path: str) -> Source:
    if options.regions is None:
        raise InputError("a consensus is made of regions", remedy="give them with --regions")
    reads = AlignedReads(path, reference=options.genome)
    regions = _read_regions(options, options.regions, reads)
    quality = 1 if options.min_mapping_quality is None else options.min_mapping_quality

    def chunks(limits: ChunkLimits) -> Iterator[Chunk]:
        return consensus_chunks(
            lambda interval: reads.consensus(interval, min_depth=options.min_depth, min_mapping_quality=quality),
            reads.contigs,
            regions,
            window=options.window,
            stranded=options.stranded,
            limits=limits,
        )

    return Source(chunks, len(regions), _files(path, options.regions, options.genome), dict(reads.contigs))
