"""Whether a BAM or CRAM index belongs to its file: a foreign or outdated one yields wrong or missing reads.

Modification times prove nothing (copying changes them), so that the places which the index names are looked up in the
file. Layouts: SAM specification sections 5.2 (BAI) and CSIv1, CRAM specification section 12 (CRAI).
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pysam

from hyena_dna.errors import InputError

__all__ = ["BamIndex", "check_bam_index", "check_crai", "find_index", "read_bam_index"]

_BAI_COUNTS_BIN = 37450
_BGZF_END_BYTES = 28
_CHECKED_CONTIGS = 64
_END, _UNREADABLE = -2, -3
# A CRAM container header has a few dozen bytes and up to five more per slice.
_LARGEST_CONTAINER_HEADER = 4096


@dataclass(frozen=True, slots=True)
class BamIndex:
    """What a BAI or CSI file says.

    Attributes:
        path: the index file.
        spans: for each contig in header order, virtual offsets of its first record and of the end of its last one;
            None for a contig without reads.
        reads: number of reads in the whole file, None where the writer did not count.
    """

    path: Path
    spans: list[tuple[int, int] | None]
    reads: int | None


def find_index(path: str | os.PathLike[str], kind: str) -> Path | None:
    """The index beside a BAM or CRAM file, `x.bam.bai` or `x.bai` (csi, crai alike), or None."""
    path = Path(path)
    suffixes = {"BAM": (".csi", ".bai"), "CRAM": (".crai",), "SAM": ()}[kind]
    names = [name for suffix in suffixes for name in (path.with_name(path.name + suffix), path.with_suffix(suffix))]
    return next((name for name in names if name.is_file()), None)


def _damaged(path: Path) -> InputError:
    return InputError("the index is damaged", file=path, remedy="make it again: samtools index")


def _stale(path: Path, index: Path, why: str) -> InputError:
    return InputError(
        f"the index {index.name} does not belong to this file: {why}",
        file=path,
        remedy=f"samtools index {path.name}, if the file itself is whole: samtools quickcheck",
    )


def read_bam_index(path: Path) -> BamIndex:
    """Read a BAI or CSI index.

    Raises:
        InputError: it is neither, or damaged.
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        return _parse(path, data)
    except (struct.error, EOFError, zlib.error, OSError):
        raise _damaged(path) from None


def _parse(path: Path, data: bytes) -> BamIndex:
    if data[:4] == b"BAI\1":
        at, is_csi, counts_bin = 4, False, _BAI_COUNTS_BIN
    elif data[:4] == b"CSI\1":
        _, depth, extra = struct.unpack_from("<iii", data, 4)
        at, is_csi, counts_bin = 16 + extra, True, ((1 << (3 * (depth + 1))) - 1) // 7 + 1
    else:
        raise _damaged(path)
    (contigs,) = struct.unpack_from("<i", data, at)
    at += 4
    spans: list[tuple[int, int] | None] = []
    counts: list[int] = []
    for _ in range(contigs):
        (bins,) = struct.unpack_from("<i", data, at)
        at += 4
        first, last, counted = 1 << 64, 0, -1
        for _ in range(bins):
            (number,) = struct.unpack_from("<I", data, at)
            at += 12 if is_csi else 4
            (chunks,) = struct.unpack_from("<i", data, at)
            offsets = struct.unpack_from(f"<{2 * chunks}Q", data, at + 4)
            at += 4 + 16 * chunks
            if number == counts_bin:
                counted = offsets[2] + offsets[3]
            elif offsets:
                first, last = min(first, *offsets[::2]), max(last, *offsets[1::2])
        if not is_csi:
            (linear,) = struct.unpack_from("<i", data, at)
            at += 4 + 8 * linear
        spans.append((first, last) if last else None)
        if last:
            counts.append(counted)
    unplaced = struct.unpack_from("<Q", data, at)[0] if len(data) >= at + 8 else -1
    complete = unplaced >= 0 and -1 not in counts
    return BamIndex(path, spans, sum(counts) + unplaced if complete else None)


def check_bam_index(handle: pysam.AlignmentFile, index: BamIndex, path: Path) -> None:
    """Look up the first record of contigs, and what follows their last one, at the places the index names.

    Anything that changed the size of the file moves the end of the last contig, which is always among those checked.
    At most 64 contigs are, so that an assembly of 100,000 opens as fast.

    Raises:
        InputError: the index was made for another file or for another state of it.
    """
    if len(index.spans) > handle.nreferences:
        raise _stale(path, index.path, "it has more contigs")
    used = [(tid, span) for tid, span in enumerate(index.spans) if span is not None]
    # Beyond the end of the file reading finds nothing, as it does at the end.
    end_block = path.stat().st_size - _BGZF_END_BYTES
    if any(span[1] >> 16 > end_block for _, span in used):
        raise _stale(path, index.path, "it points beyond the end")
    step = max(1, -(-len(used) // _CHECKED_CONTIGS))
    for tid, (first, end) in used[::-step]:
        name = handle.get_reference_name(tid)
        if _contig_at(handle, first) != tid:
            raise _stale(path, index.path, f"the reads of {name} do not begin where it says")
        after = _contig_at(handle, end)
        if after in (tid, _UNREADABLE):
            raise _stale(path, index.path, f"the reads of {name} do not end where it says")


def _contig_at(handle: pysam.AlignmentFile, offset: int) -> int:
    """Contig number of the record at a virtual offset: -1 for an unplaced read, -2 at the end of the file."""
    try:
        handle.seek(offset)
        return next(handle).reference_id
    except StopIteration:
        return _END
    except (OSError, ValueError):
        return _UNREADABLE


def check_crai(path: Path, index: Path, end: int) -> None:
    """Check that the last slice of a CRAI ends where the data of its CRAM file end.

    Args:
        path: the CRAM file.
        index: its CRAI file.
        end: byte offset of the end-of-file container.

    Raises:
        InputError: the index is damaged, or was made for another file or for another state of it.
    """
    last = max((container + offset + size for container, offset, size in _slices(index)), default=None)
    if last is not None and not 0 < end - last <= _LARGEST_CONTAINER_HEADER:
        raise _stale(path, index, "its last slice does not end where the data end")


def _slices(index: Path) -> Iterator[tuple[int, int, int]]:
    """Yield container offset, slice offset behind the container header, and slice size, in bytes."""
    try:
        data = index.read_bytes()
        text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        for line in text.decode("ascii").splitlines():
            _, _, _, container, offset, size = map(int, line.split("\t"))
            yield container, offset, size
    except (ValueError, EOFError, zlib.error, OSError):
        raise _damaged(index) from None
