"""One pass over a FASTA file: every byte checked, every contig located, every base handed on."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hyena_dna.errors import InputError
from hyena_dna.files import fingerprint
from hyena_dna.genome.bgzf import GZIP_MAGIC, BgzfBlocks, is_bgzf
from hyena_dna.genome.contig_table import ContigChunk, FastaScan
from hyena_dna.genome.fasta_parser import FastaParser

__all__ = ["check_regular", "scan_fasta"]

# Small enough for a core's L2 cache: 1 MiB blocks took twice the time on the reference machine.
_BLOCK = 1 << 17
_HEAD = 1 << 16


def scan_fasta(
    path: str | os.PathLike[str], *, rna: bool = False, sink: Callable[[ContigChunk], None] | None = None
) -> FastaScan:
    """Read a FASTA file once, plain or BGZF, in memory that does not grow with its sequences.

    Args:
        path: the file.
        rna: read U as T.
        sink: receives every piece of every contig, in order.

    Returns:
        The table of contigs and what is needed to index the file.

    Raises:
        InputError: the file cannot be read or is no sound FASTA of nucleotides; the place and a remedy are named.
    """
    path = Path(path)
    before = check_regular(path)
    with open(path, "rb", buffering=0) as handle:
        head = handle.read(_HEAD)
        handle.seek(0)
        compressed = is_bgzf(head)
        if head.startswith(GZIP_MAGIC) and not compressed:
            raise InputError(
                "plain gzip has no random access", file=path, remedy="use bgzip: `gunzip FILE.gz && bgzip FILE`"
            )
        check_suffix(path, compressed)
        blocks = BgzfBlocks(handle) if compressed else None
        parser = FastaParser(path, rna, sink)
        try:
            for block in blocks or _plain_blocks(handle):
                parser.feed(block)
        except InputError as error:
            # A broken block is noticed below the level of sequences; say which one it cut short.
            if error.contig is None and error.line is None and parser.name is not None:
                raise InputError(
                    error.reason, file=path, contig=parser.name, position=parser.bases + 1, remedy=error.remedy
                ) from None
            raise
        parser.finish()
    after = fingerprint(path)
    if (after["size"], after["mtime_ns"]) != (before.st_size, before.st_mtime_ns):
        raise InputError("the file changed while it was read", file=path, remedy="wait until it is written, run again")
    empty = np.empty((0, 2), np.uint64)
    return FastaScan(path, compressed, rna, parser.contigs, parser.runs(), blocks.offsets if blocks else empty, after)


def check_regular(path: Path) -> os.stat_result:
    """The status of a file that can be read and sought in.

    Raises:
        InputError: it is missing, a folder, a pipe, or may not be read.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise InputError(os.strerror(error.errno or 0).lower(), file=path, remedy="check the path") from None
    if stat.S_ISDIR(status.st_mode):
        raise InputError("this is a folder", file=path, remedy="name a FASTA file")
    if not stat.S_ISREG(status.st_mode):
        raise InputError("random access needs a seekable file, not a pipe", file=path, remedy="write it to disk first")
    if not os.access(path, os.R_OK):
        raise InputError("permission denied", file=path, remedy=f"chmod +r {path}")
    return status


def check_suffix(path: Path, compressed: bool) -> None:
    """Raise `InputError` where a name belies its content, since pyfaidx decides by the name how to read."""
    named = path.name.lower().endswith((".gz", ".bgz"))
    if compressed and not named:
        raise InputError("BGZF data under a name that does not say so", file=path, remedy="let the name end in .gz")
    if named and not compressed:
        raise InputError("named as compressed, but it is not BGZF", file=path, remedy="remove .gz from the name")


def _plain_blocks(handle: BinaryIO) -> Iterator[bytes]:
    while block := handle.read(_BLOCK):
        yield block
