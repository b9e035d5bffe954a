"""Aligned reads as a corpus: each read as it was sequenced, or the consensus of all reads at each base."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyena_dna.datasets.segments import Segment
from hyena_dna.datasets.splits import Splits
from hyena_dna.datasets.store import TokenStore
from hyena_dna.errors import InputError
from hyena_dna.genome.contigs import ContigSelection, select_contigs
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.reads import AlignedReads
from hyena_dna.genome.reference import Reference
from hyena_dna.paths import cache_root
from hyena_dna.training.config import DataConfig
from hyena_dna.training.corpus import Corpus, SplitStore, input_record, side_inputs, split_store
from hyena_dna.training.genomes import GenomeContigs

__all__ = ["read_corpus"]

_log = logging.getLogger(__name__)

# Consensus is made in pieces of this many bp, so that pileups of a whole chromosome are never in memory at once.
_PIECE = 1_000_000

# What a run calls the one source of its sequence.
_READS = "reads"


def read_corpus(config: DataConfig) -> Corpus:
    """Open the reads of a configuration and split them by where they are aligned.

    Reads and consensus are encoded once into a token store in the cache, named by the file and the settings.

    Raises:
        InputError: the file is not sound or not sorted, or the splits do not fit.
    """
    assert config.bam is not None
    if len(config.genomes) > 1:
        raise InputError("reads are aligned to one genome", remedy="give --genome once with --bam")
    if config.exclude or (config.folds and not config.folds.endswith(".json")):
        raise InputError("reads are split by contig", remedy="use contig globs or JSON folds with --bam")
    inputs = [input_record(path, "genome") for path in config.genomes] + [input_record(config.bam, "reads")]
    reads = AlignedReads(config.bam, reference=config.genomes[0] if config.genomes else None)
    contigs = list(reads.contigs)
    if config.genomes:
        missing = reads.check_contigs(Reference(config.genomes[0]).contigs)
        if missing:
            _log.info("%s: the genome lacks %d of the contigs, such as %s", config.bam, len(missing), missing[0])
        contigs = [name for name in contigs if name not in set(missing)]
    selection = select_contigs(contigs, config.contigs, config.exclude_contigs)
    settings = [config.bam_mode, config.min_depth, config.min_mapping_quality, selection.kept]
    identity = hashlib.sha256(json.dumps([inputs, settings]).encode()).hexdigest()[:32]
    path = cache_root() / "stores" / f"reads-{identity}"
    if path.is_dir():
        store = TokenStore.open(path)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        sequences = _read_sequences if config.bam_mode == "reads" else _consensus_sequences
        source = {"inputs": inputs, "settings": settings}
        store = TokenStore.from_sequences(sequences(reads, selection.kept, config), path, source)
        counts = ", ".join(f"{count:,} {what}" for what, count in reads.counts.items() if count)
        if config.bam_mode == "reads":
            _log.info("%s: %s", config.bam, counts)
    split = _split_reads if config.bam_mode == "reads" else _split_consensus
    splits = split(store, selection, config)
    return Corpus((SplitStore(store, splits, _READS),), config, selection.dropped, inputs + side_inputs(config))


def _read_sequences(reads: AlignedReads, kept: list[str], config: DataConfig) -> Iterator[tuple[str, bytes]]:
    """Names that say where each read is aligned, and bases as sequenced, in the order of the alignment."""
    wanted = {name: rank for rank, name in enumerate(reads.contigs) if name in set(kept)}
    last = (-1, -1)
    for index, read in enumerate(reads.reads(min_mapping_quality=config.min_mapping_quality)):
        if read.chrom is None or read.start is None or read.chrom not in wanted:
            continue
        place = (wanted[read.chrom], read.start)
        if place < last:
            raise InputError("reads are not sorted by position", file=config.bam, remedy="run samtools sort")
        last = place
        yield f"{index}:{read.start}-{read.end}:{read.chrom}", read.sequence


def _consensus_sequences(reads: AlignedReads, kept: list[str], config: DataConfig) -> Iterator[tuple[str, bytes]]:
    for name in kept:
        length = reads.contigs[name]
        # Asked of the index first: a pileup over a contig without reads is slow and gives N.
        if next(iter(reads.reads(Interval(name, 0, length))), None) is None:
            continue
        pieces = [
            reads.consensus(
                Interval(name, start, min(start + _PIECE, length)),
                min_depth=config.min_depth,
                min_mapping_quality=config.min_mapping_quality,
            )
            for start in range(0, length, _PIECE)
        ]
        sequence = b"".join(pieces)
        if sequence.strip(b"N"):
            yield name, sequence


def _split_consensus(store: TokenStore, selection: ContigSelection, config: DataConfig) -> Splits:
    covered = ContigSelection([name for name in selection.kept if name in store.contigs], selection.dropped)
    return split_store(store, covered, config, GenomeContigs({_READS: selection.kept}), _READS)


@dataclass(frozen=True)
class _ReadsByContig:
    """A store of sorted reads, seen as contigs: all reads of one contig stand in one stretch of it."""

    contigs: Mapping[str, int]
    offsets: Mapping[str, int]
    n_runs: NDArray[np.int64]


def _split_reads(store: TokenStore, selection: ContigSelection, config: DataConfig) -> Splits:
    """Split reads so that no base of the genome is under a training read and a held-out one.

    The rules are those of genomes, with the number of read bases in the place of contig lengths. Where a border falls
    inside a contig, reads that cross it and training reads that overlap a held-out one are left out.
    """
    places = [_place(name) for name in store.contigs]
    contigs: dict[str, int] = {}
    offsets: dict[str, int] = {}
    for place, (name, length) in zip(places, store.contigs.items(), strict=True):
        offsets.setdefault(place.chrom, store.offsets[name])
        contigs[place.chrom] = contigs.get(place.chrom, 0) + length
    view = _ReadsByContig(contigs, offsets, store.n_runs)
    covered = ContigSelection([name for name in selection.kept if name in contigs], selection.dropped)
    splits = split_store(view, covered, config, GenomeContigs({_READS: selection.kept}), _READS)
    spans = [
        Segment(store.offsets[name], store.offsets[name] + length, place.chrom)
        for place, (name, length) in zip(places, store.contigs.items(), strict=True)
    ]
    val, test = (_inside(spans, part) for part in (splits.val, splits.test))
    held_out = _merged_places(places[index] for index in (*val, *test))
    train = [index for index in _inside(spans, splits.train) if not _overlaps(places[index], held_out)]
    if not train or not val:
        raise InputError("too few reads to hold some out", file=config.bam, remedy="name --val-contigs")
    return Splits(
        [spans[index] for index in train],
        [spans[index] for index in val],
        [spans[index] for index in test],
        f"{splits.description}; {len(train):,} training and {len(val):,} validation reads",
    )


def _place(name: str) -> Interval:
    _, span, chrom = name.split(":", 2)
    start, end = span.split("-")
    return Interval(chrom, int(start), int(end))


def _inside(spans: list[Segment], segments: list[Segment]) -> list[int]:
    """Indices of the spans that lie inside one segment; both are sorted."""
    found: list[int] = []
    segment = 0
    for index, span in enumerate(spans):
        while segment < len(segments) and segments[segment].end <= span.start:
            segment += 1
        if segment < len(segments) and segments[segment].start <= span.start and span.end <= segments[segment].end:
            found.append(index)
    return found


def _merged_places(places: Iterable[Interval]) -> dict[str, list[tuple[int, int]]]:
    """Stretches of each contig under some reads, sorted and disjoint."""
    merged: dict[str, list[tuple[int, int]]] = {}
    for place in sorted(places):
        spans = merged.setdefault(place.chrom, [])
        if spans and place.start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], place.end))
        else:
            spans.append((place.start, place.end))
    return merged


def _overlaps(place: Interval, spans: Mapping[str, list[tuple[int, int]]]) -> bool:
    here = spans.get(place.chrom, [])
    low, high = 0, len(here)
    while low < high:
        middle = (low + high) // 2
        if here[middle][1] <= place.start:
            low = middle + 1
        else:
            high = middle
    return low < len(here) and here[low][0] < place.end
