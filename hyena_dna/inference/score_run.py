"""A whole run over a file of variants: checks first, then chunks that can be resumed and sharded, then one output.

Chunks are cut by record index alone, batches never cross them, and shards begin and end at their borders. So an
interrupted run that is resumed, and shards that are merged, give the bytes of one uninterrupted run.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyena_dna.datasets.alleles import EXACT_LIMIT
from hyena_dna.errors import InputError
from hyena_dna.files import atomic_path, check_output
from hyena_dna.genome.contigs import contig_hint
from hyena_dna.genome.vcf import Line, VariantSource
from hyena_dna.inference.record_scores import RecordScorer
from hyena_dna.inference.run_counts import InfoColumns, RunCounts
from hyena_dna.output.parts import open_parts
from hyena_dna.output.score_fields import FIELD_PREFIX
from hyena_dna.output.score_formats import Heading, ScoreFormat, index_file

__all__ = [
    "CHUNK_RECORDS",
    "RunOptions",
    "check_input",
    "records_of_chunk",
    "score_file",
    "score_stream",
    "shard_range",
]

logger = logging.getLogger("hyena_dna")

CHUNK_RECORDS = 4096
"""Records of one chunk: what an interruption can cost at most."""

_LONG_CHUNK_RECORDS = 256

_CHECKED_RECORDS = 1000
_CHECKED_BYTES = 64 << 20
_FEWEST_MISMATCHES = 10
_MISMATCH_SHARE = 0.1
_PROGRESS_SECONDS = 10.0


@dataclass(frozen=True)
class RunOptions:
    """What a run does besides scoring.

    Attributes:
        shard: number of this shard, from 1, and number of shards.
        total: number of records of the whole input, where it was counted.
        expected: number of records that the input must have.
        resume: go on with the chunks of an interrupted run.
        force: replace an existing output.
        top: how many of the lowest scores to keep.
        columns: INFO fields to keep for the report.
        chunk_records: records of one chunk, as `records_of_chunk` says except in tests.
    """

    shard: tuple[int, int] | None = None
    total: int | None = None
    expected: int | None = None
    resume: bool = False
    force: bool = False
    top: int = 0
    columns: InfoColumns | None = None
    chunk_records: int = CHUNK_RECORDS


def records_of_chunk(window: int) -> int:
    """Records of one chunk by window in bp: few where records are slow, so that an interruption costs minutes."""
    return CHUNK_RECORDS if window <= EXACT_LIMIT else _LONG_CHUNK_RECORDS


def shard_range(total: int, shard: tuple[int, int], chunk_records: int = CHUNK_RECORDS) -> range:
    """The chunks of one shard of `total` records; shards are contiguous and differ by one chunk at most."""
    number, count = shard
    chunks = -(-total // chunk_records)
    return range(chunks * (number - 1) // count, chunks * number // count)


def check_input(
    source: VariantSource,
    scorer: RecordScorer,
    contig: Callable[[str], str | None],
    lengths: Mapping[str, int],
) -> Iterator[Line]:
    """Check, before anything is scored, that the variants belong to the genome.

    Args:
        source: the variants; its first records are read.
        scorer: compares reference alleles.
        contig: translates a contig name to the genome's; None where it has none.
        lengths: length in bp of the genome's contigs.

    Returns:
        All records, the first ones again.

    Raises:
        InputError: no contig name is the genome's; the header declares another length for a contig; more than a tenth
            of the first 1,000 reference alleles, and at least ten, are not what the genome has, or as many records
            reach beyond the end of their contig.
    """
    for name, declared in source.header.contigs.items():
        known = contig(name)
        if known is not None and declared is not None and declared != lengths[known]:
            reason = f"contig {name!r} has {declared:,} bp in the header and {lengths[known]:,} bp in the genome"
            raise InputError(reason, file=source.name, remedy="is it the right assembly?")
    first: list[Line] = []
    size = 0
    for line in source.lines:
        first.append(line)
        size += len(line[1])
        if len(first) >= _CHECKED_RECORDS or size >= _CHECKED_BYTES:
            break
    tally = scorer.compare(first)
    names = {line.split(b"\t", 1)[0].decode("utf-8", "replace") for _, line in first}
    if names and not any(contig(name) is not None for name in {*names, *source.header.contigs}):
        name = min(names)
        remedy = f"{contig_hint(name, lengths)}; --contig-map ucsc or ensembl translates"
        raise InputError(f"no contig is one of the genome's, such as {name!r}", file=source.name, remedy=remedy)
    remedy = "give the genome that the variants were called on"
    if tally.beyond >= _FEWEST_MISMATCHES and tally.beyond > _MISMATCH_SHARE * len(first):
        reason = (
            f"wrong assembly? {tally.beyond} of the first {len(first)} records reach beyond the end of their contig"
        )
        raise InputError(reason, file=source.name, remedy=remedy)
    if tally.mismatched >= _FEWEST_MISMATCHES and tally.mismatched > _MISMATCH_SHARE * tally.compared:
        line_number, chrom, pos, ref, genome = tally.examples[0]
        raise InputError(
            f"wrong assembly? {tally.mismatched} of the first {tally.compared} reference alleles are not what the "
            f"genome has, such as {chrom}:{pos}: REF {ref}, genome {genome}",
            file=source.name, line=line_number, remedy=remedy,
        )  # fmt: skip
    return itertools.chain(first, source.lines)


def score_file(
    source: VariantSource,
    lines: Iterator[Line],
    scorer: RecordScorer,
    output: Path,
    kind: ScoreFormat,
    heading: Heading,
    contigs: Mapping[str, int | None],
    settings: Mapping[str, Any],
    options: RunOptions,
) -> RunCounts:
    """Score every record and write the output, its index, and nothing half.

    Args:
        source: the variants.
        lines: their records, as `check_input` gives them.
        scorer: scores them.
        output: the file to be made; chunks are kept in `OUTPUT.parts` until it is whole.
        kind: its format.
        heading: its header; declarations of undeclared names are added.
        contigs: contigs to declare in the output, with their lengths in bp.
        settings: everything that decides the result, to recognise an interrupted run of the same kind.
        options: shard, resume and so on.

    Returns:
        What was seen.

    Raises:
        InputError: the output exists, the input is malformed, or the interrupted run had other settings.
    """
    folder = output.with_name(f"{output.name}.parts")
    check_output(output, force=options.force or (options.resume and folder.exists()))
    chunks: range | None = None
    if options.shard:
        assert options.total is not None, "shards need the number of records"
        chunks = shard_range(options.total, options.shard, options.chunk_records)
        if not chunks:
            size = f"{options.chunk_records:,}"
            logger.warning("shard %d of %d is empty: shards begin at every %sth record", *options.shard, size)
    total = RunCounts()
    progress = _Progress(options.total)
    with open_parts(output, settings, resume=options.resume, force=options.force) as parts:
        done: list[int] = []
        for index, chunk in _cut(lines, options.chunk_records):
            if chunks is not None and index not in chunks:
                if index >= chunks.stop:
                    break
                _skip(chunk)
                continue
            if parts.done(index):
                progress.add(_skip(chunk))
            else:
                counts = RunCounts()
                with parts.write(index) as (handle, record):
                    for batch in scorer.score(_counted(chunk, counts)):
                        counts.add(batch, source.header, options.top, options.columns)
                        handle.write(kind.encode(batch))
                        progress.show(counts.records)
                    _take_tally(scorer, counts)
                    record["counts"] = counts.to_json()
                progress.add(counts.records)
            done.append(index)
        for index in done:
            total.extend(RunCounts.from_json(parts.record(index)["counts"]), options.top)
        _check_total(source, total, options)
        for name in [name for name in total.undeclared.info if name.startswith(FIELD_PREFIX)]:
            del total.undeclared.info[name]
        declared = total.undeclared.header_lines(source.header, contigs)
        joined = parts.folder / f"joined{''.join(output.suffixes[-2:])}"
        kind.join(joined, heading._replace(declared=declared), (parts.checked(index) for index in done))
        with atomic_path(output) as temporary:
            os.replace(joined, temporary)
        if total.in_order:
            index_file(output, _longest(contigs, source))
        elif output.suffix in (".gz", ".bcf"):
            logger.warning("%s: the input is not sorted, so the output has no index", output)
    return total


def score_stream(
    source: VariantSource,
    lines: Iterator[Line],
    scorer: RecordScorer,
    kind: ScoreFormat,
    heading: Heading,
    contigs: Mapping[str, int | None],
    options: RunOptions,
) -> RunCounts:
    """Score every record and write VCF to standard output as it comes.

    A stream can be neither resumed nor taken back: after an error what was written stays. Names that the header does
    not declare are known only at its end, so that only contigs are declared.
    """
    total = RunCounts()
    declared = total.undeclared.header_lines(source.header, contigs)
    sys.stdout.buffer.write(heading._replace(declared=declared).vcf())
    for _, chunk in _cut(lines, options.chunk_records):
        counts = RunCounts()
        for batch in scorer.score(_counted(chunk, counts)):
            counts.add(batch, source.header, options.top, options.columns)
            sys.stdout.buffer.write(kind.encode(batch))
        _take_tally(scorer, counts)
        total.extend(counts, options.top)
    sys.stdout.buffer.flush()
    _check_total(source, total, options)
    return total


def _longest(contigs: Mapping[str, int | None], source: VariantSource) -> int:
    return max((length or 0 for length in (*contigs.values(), *source.header.contigs.values())), default=0)


def _check_total(source: VariantSource, total: RunCounts, options: RunOptions) -> None:
    for note in source.notes:
        logger.warning("%s", note)
    found = options.total if options.shard else total.records
    if options.expected is not None and found != options.expected:
        raise InputError(f"{found} records, not {options.expected} as expected: was it cut off?", file=source.name)
    if total.records and total.statuses["contig_unknown"] == total.alleles and not options.shard:
        remedy = "--contig-map ucsc or ensembl translates names"
        raise InputError("no variant is on a contig of the genome", file=source.name, remedy=remedy)
    if total.statuses["gvcf_block"]:
        logger.warning("%s: this is a gVCF: %d blocks have no score", source.name, total.statuses["gvcf_block"])


def _cut(lines: Iterator[Line], size: int) -> Iterator[tuple[int, Iterator[Line]]]:
    """Yield the number and the records of each chunk; each must be used up before the next."""
    for index in itertools.count():
        first = next(lines, None)
        if first is None:
            return
        yield index, itertools.chain([first], itertools.islice(lines, size - 1))


def _skip(chunk: Iterator[Line]) -> int:
    return sum(1 for _ in chunk)


def _counted(chunk: Iterator[Line], counts: RunCounts) -> Iterator[Line]:
    for line in chunk:
        counts.records += 1
        yield line


def _take_tally(scorer: RecordScorer, counts: RunCounts) -> None:
    tally = scorer.take_tally()
    counts.compared, counts.mismatched = tally.compared, tally.mismatched
    counts.skipped_records, counts.mismatches = tally.skipped, tally.examples


class _Progress:
    """A line with rate and, where the total is known, the time left, every ten seconds."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._done = 0
        self._began = self._shown = time.monotonic()

    def add(self, records: int) -> None:
        self._done += records
        self.show(0)

    def show(self, more: int) -> None:
        now = time.monotonic()
        if now - self._shown < _PROGRESS_SECONDS:
            return
        self._shown = now
        done = self._done + more
        rate = done / (now - self._began)
        left = f", {(self._total - done) / rate:,.0f} s left" if self._total and rate else ""
        logger.info("%s records, %s per second%s", f"{done:,}", f"{rate:,.0f}", left)
