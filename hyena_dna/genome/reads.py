"""Aligned reads: sequences as they came off the sequencer, and the consensus they make on the reference.

A file is read whole or refused. Iterating over a damaged BAM with pysam's plain `fetch()` ends early without an error
(pysam 0.24); `until_eof` and fetching by contig raise, and only these are used. A BAM from which whole blocks were cut
reads like a smaller file; where there is an index, the number of reads is compared with it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import pysam

from hyena_dna.errors import InputError
from hyena_dna.genome.alignment_file import (
    alignment_kind,
    check_cram_contigs,
    cram_data_end,
    cram_reference,
    differing_md5,
    open_alignments,
)
from hyena_dna.genome.alignment_index import check_bam_index, check_crai, find_index, read_bam_index
from hyena_dna.genome.consensus import covered_consensus
from hyena_dna.genome.contigs import contig_hint
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.read_flags import DEFAULT_EXCLUDED_FLAGS, skip_reason
from hyena_dna.genome.sequence import NORMALISE, reverse_complement

__all__ = ["AlignedReads", "Read"]


@dataclass(frozen=True, slots=True)
class Read:
    """One read.

    Attributes:
        name: query name.
        sequence: A, C, G, T and N in the direction of sequencing (reverse-strand alignments are turned back), with
            soft-clipped bases and without hard-clipped ones, which the file does not hold.
        chrom: contig it is aligned to, None where it is unmapped.
        start: first aligned reference base, 0-based; None where it is unmapped.
        end: one past the last aligned reference base; None where it is unmapped.
        reverse: aligned to the reverse strand.
        mapping_quality: as in the file, 255 where the aligner gave none.
        flag: SAM flag.
    """

    name: str
    sequence: bytes
    chrom: str | None
    start: int | None
    end: int | None
    reverse: bool
    mapping_quality: int
    flag: int


class _Handles:
    """Idle open files of one process. A file position is shared by all who use a handle, so that nobody shares one."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.idle: deque[pysam.AlignmentFile] = deque()
        self.lock = threading.Lock()


class AlignedReads:
    """A BAM, CRAM or SAM file.

    Opening checks that the file is whole at its end and that the index beside it, if any, belongs to it. Safe to use
    from threads, across fork, and to pickle: every process and every running iteration has a handle of its own.

    Args:
        path: the file; what it is, is decided by its content.
        reference: the FASTA that a CRAM was made with, with its .fai beside it. Sequences are taken from there alone,
            never from a server (the process's `REF_PATH` and `REF_CACHE` are pinned).

    Attributes:
        path: the file.
        kind: "BAM", "CRAM" or "SAM".
        contigs: length in bp of every contig in the header, in its order.
        counts: reads so far by outcome, over all iterations that ended: "kept", or why they were skipped, the first of
            "unmapped", "secondary", "supplementary", "duplicate", "qc_fail", "other_flag", "no_sequence",
            "low_mapping_quality".

    Raises:
        InputError: the file is missing, not an alignment file, truncated, or CRAM without its reference; the index
            belongs to another file.
    """

    def __init__(self, path: str | os.PathLike[str], *, reference: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path)
        self.reference = None if reference is None else Path(reference)
        self.kind = alignment_kind(self.path)
        self.counts: Counter[str] = Counter()
        self._handles = _Handles()
        self._index = find_index(self.path, self.kind)
        # Before htslib sees them: it would complete a missing FASTA index on disk, and misname a damaged BAM index.
        in_reference = cram_reference(self.path, self.reference) if self.kind == "CRAM" else {}
        index = read_bam_index(self._index) if self._index is not None and self.kind == "BAM" else None
        self._reads_in_index = None if index is None else index.reads
        if self._index is not None and self.kind == "CRAM":
            check_crai(self.path, self._index, cram_data_end(self.path))
        handle = self._open()
        try:
            self.contigs = dict(zip(handle.references, handle.lengths, strict=True))
            if self.kind == "CRAM":
                check_cram_contigs(self.path, self.contigs, in_reference)
            if index is not None:
                check_bam_index(handle, index, self.path)
        finally:
            _close(handle)

    def reads(
        self,
        interval: Interval | None = None,
        *,
        exclude_flags: int = DEFAULT_EXCLUDED_FLAGS,
        min_mapping_quality: int = 0,
    ) -> Iterator[Read]:
        """Stream the reads of the file, in its order, or those that overlap an interval.

        Args:
            interval: needs an index; its strand plays no part, and what lies beyond the contig holds no reads.
                None streams the whole file, which needs none.
            exclude_flags: reads with any of these SAM flags are skipped and counted.
            min_mapping_quality: so are reads below this.

        Yields:
            Reads; IUPAC codes in their sequences are N.

        Raises:
            InputError: the contig is unknown or the index missing (at once); the data are damaged or truncated, a read
                names a contig that the header lacks, a sequence holds "=", or the number of reads in the whole file is
                not that of its index (while iterating, after what was read before).
        """
        inside = None if interval is None else self._inside(interval)
        return self._stream(inside, exclude_flags, min_mapping_quality)

    def consensus(
        self,
        interval: Interval,
        *,
        min_depth: int = 3,
        min_base_quality: int = 13,
        min_mapping_quality: int = 1,
        exclude_flags: int = DEFAULT_EXCLUDED_FLAGS,
    ) -> bytes:
        """The most frequent base of the reads at every reference position.

        Depth counts aligned A, C, G and T of at least `min_base_quality`, so that deletions, N and other codes count
        as nothing, insertions have no place, and reads without qualities count only where `min_base_quality` is 0.
        Mates that overlap count twice. Reads are chosen by the two last arguments alone. Memory does not grow with the
        depth, and with the length only by the result.

        Args:
            interval: needs an index; reverse-complemented where its strand is "-".
            min_depth: fewer bases than this give N; at least 1.
            min_base_quality: Phred; bases below do not count.
            min_mapping_quality: reads below do not count; 1 leaves out those that fit elsewhere as well.
            exclude_flags: reads with any of these SAM flags do not count.

        Returns:
            Exactly `interval.length` bytes of A, C, G, T and N: N where two bases are equally frequent, below
            `min_depth`, and outside the contig.

        Raises:
            InputError: the contig is unknown, the index missing, or the data damaged.
        """
        if min_depth < 1:
            raise InputError(f"a base needs at least one read, not {min_depth}", remedy="--min-depth 1 or more")
        inside = self._inside(interval)

        with self._borrowed() as handle:
            try:
                covered = covered_consensus(
                    handle,
                    inside,
                    min_depth=min_depth,
                    min_base_quality=min_base_quality,
                    min_mapping_quality=min_mapping_quality,
                    exclude_flags=exclude_flags,
                )
            except (OSError, ValueError) as error:
                raise self._damage(handle, inside, error) from None
        left = min(max(0, inside.start - interval.start), interval.length)
        sequence = b"N" * left + covered + b"N" * (interval.length - left - len(covered))
        return reverse_complement(sequence) if interval.strand == "-" else sequence

    def check_contigs(self, contigs: Mapping[str, int]) -> list[str]:
        """Compare the header with a genome.

        Args:
            contigs: length in bp of every contig of the genome.

        Returns:
            Contigs of the header that the genome lacks, for the log.

        Raises:
            InputError: a contig has another length there, or not one of them is there.
        """
        for name, length in self.contigs.items():
            if name in contigs and contigs[name] != length:
                raise InputError(
                    f"the reads were aligned to {length} bp, but the genome has {contigs[name]} bp",
                    file=self.path,
                    contig=name,
                    remedy="use the assembly they were aligned to",
                )
        missing = [name for name in self.contigs if name not in contigs]
        if missing and len(missing) == len(self.contigs):
            raise InputError(
                f"the genome has none of the {len(missing)} contigs the reads were aligned to, such as {missing[0]!r}",
                file=self.path,
                remedy=contig_hint(missing[0], contigs),
            )
        return missing

    def close(self) -> None:
        """Close the idle handles of this process; the object can be used again."""
        handles, self._handles = self._handles, _Handles()
        for handle in handles.idle:
            _close(handle)

    def __enter__(self) -> AlignedReads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_handles"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._handles = _Handles()

    def _open(self) -> pysam.AlignmentFile:
        return open_alignments(self.path, self.kind, self.reference, self._index)

    @contextlib.contextmanager
    def _borrowed(self, *, fresh: bool = False) -> Iterator[pysam.AlignmentFile]:
        """Lend a handle to one user: an idle one or a new one, at the start of the file where `fresh`."""
        if self._handles.pid != os.getpid():
            self._handles = _Handles()
        handles = self._handles
        try:
            handle = self._open() if fresh else handles.idle.pop()
        except IndexError:
            handle = self._open()
        try:
            yield handle
        except BaseException:
            _close(handle)
            raise
        if fresh:
            _close(handle)
        else:
            handles.idle.append(handle)

    def _inside(self, interval: Interval) -> Interval:
        if interval.chrom not in self.contigs:
            raise InputError(
                f"the header has no contig {interval.chrom!r}",
                file=self.path,
                remedy=contig_hint(interval.chrom, self.contigs),
            )
        if self._index is None:
            sam = self.kind == "SAM"
            raise InputError(
                "a region of a SAM file cannot be looked up" if sam else "there is no index to look up a region in",
                file=self.path,
                remedy=f"samtools sort -o {self.path.stem}.bam {self.path.name}; samtools index {self.path.stem}.bam"
                if sam
                else f"samtools index {self.path.name}",
            )
        return interval.clip(self.contigs[interval.chrom])

    def _stream(self, inside: Interval | None, exclude_flags: int, min_mapping_quality: int) -> Iterator[Read]:
        counts: Counter[str] = Counter()
        if inside is not None and inside.length == 0:
            return
        try:
            with self._borrowed(fresh=inside is None) as handle:
                for segment in self._segments(handle, inside):
                    reason = skip_reason(segment, exclude_flags, min_mapping_quality)
                    counts[reason or "kept"] += 1
                    if reason is None:
                        yield self._read(segment)
        finally:
            with self._handles.lock:
                self.counts.update(counts)

    def _segments(self, handle: pysam.AlignmentFile, inside: Interval | None) -> Iterator[pysam.AlignedSegment]:
        number = 0
        try:
            if inside is None:
                rows = handle.fetch(until_eof=True)
            else:
                rows = handle.fetch(inside.chrom, inside.start, inside.end)
            for number, segment in enumerate(rows, 1):
                # htslib turns a read on a contig that the header lacks into an unmapped one, and keeps its position.
                if segment.reference_id < 0 <= segment.reference_start:
                    raise InputError(
                        f"read {segment.query_name!r} lies on a contig that no @SQ line names",
                        file=self.path,
                        line=self._line(handle, number),
                    )
                yield segment
        except InputError:
            raise
        except (OSError, ValueError) as error:
            raise self._damage(handle, inside, error, number) from None
        if inside is None and self._reads_in_index not in (None, number):
            assert self._index is not None, "the number comes from the index"
            raise InputError(
                f"the file holds {number:,} reads, but its index counted {self._reads_in_index:,}",
                file=self.path,
                remedy=f"blocks are missing, or {self._index.name} is of another file: samtools index",
            )

    def _read(self, segment: pysam.AlignedSegment) -> Read:
        text = segment.get_forward_sequence()
        assert text is not None, "reads without sequence are skipped before"
        sequence = text.encode("ascii").translate(NORMALISE)
        if 0 in sequence:
            raise InputError(
                f"the sequence of read {segment.query_name!r} holds '='",
                file=self.path,
                remedy="bases were replaced by '=' where they equal the reference: samtools calmd without -e",
            )
        mapped = not segment.is_unmapped
        return Read(
            segment.query_name or "",
            sequence,
            segment.reference_name if mapped else None,
            segment.reference_start if mapped else None,
            segment.reference_end if mapped else None,
            segment.is_reverse,
            segment.mapping_quality,
            segment.flag,
        )

    def _line(self, handle: pysam.AlignmentFile, number: int) -> int | None:
        return len(str(handle.header).splitlines()) + number if self.kind == "SAM" else None

    def _damage(
        self, handle: pysam.AlignmentFile, inside: Interval | None, error: Exception, number: int | None = None
    ) -> InputError:
        if self.kind == "CRAM" and self.reference is not None:
            contig = differing_md5(handle, self.reference)
            if contig is not None:
                return InputError(
                    f"{self.reference} is not the reference that the CRAM was made with: the MD5 differs",
                    file=self.path,
                    contig=contig,
                )
        where = f" in {inside}" if inside is not None else f" after {number:,} reads"
        return InputError(
            f"the data are damaged or truncated{where} ({error})",
            file=self.path,
            line=None if inside is not None or number is None else self._line(handle, number + 1),
            remedy="copy or download it again",
        )


def _close(handle: pysam.AlignmentFile) -> None:
    # After a read error htslib reports it once more on closing; it has been raised already.
    with contextlib.suppress(OSError):
        handle.close()
