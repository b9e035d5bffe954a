"""What a pass over a FASTA file produces: the table of its contigs, and their bases piece by piece."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Contig", "ContigChunk", "FastaScan"]


class Contig(NamedTuple):
    """One sequence of a FASTA file. Byte offsets count plain data, also in a compressed file."""

    name: str
    length: int
    """bp."""
    start: int
    """Bases of the file before this contig: its place where contigs lie back to back."""
    header_offset: int
    """Byte offset of its `>`."""
    offset: int
    """Byte offset of its first base."""
    line_bases: int
    """Bases on each line but the last; 0 where it is empty."""
    line_width: int
    """Bytes of such a line with its line end."""
    n_count: int
    """Bases written as N or n."""
    iupac_count: int
    """Bases written as another ambiguity code; they read as N too."""
    lower_count: int
    """Bases in lower case: soft-masked, by convention."""


class ContigChunk(NamedTuple):
    """A piece of one contig; the pieces of a file come in order and leave nothing out."""

    contig: int
    """Index of the contig in the file."""
    name: str
    start: int
    """0-based position of the first base on the contig."""
    bases: bytes
    """ACGTN and acgtn: the alphabet rule is applied, the case is the file's."""


@dataclass(frozen=True, eq=False)
class FastaScan:
    """What one pass over a FASTA file found.

    Args:
        path: the file.
        bgzf: whether it is BGZF rather than plain text.
        rna: whether U was read as T.
        contigs: its sequences in file order.
        n_runs: (runs, 2) int64, 0-based half-open: the stretches that read as N, in coordinates of all contigs back to
            back (`Contig.start`); no run crosses a contig's end.
        blocks: (blocks, 2) uint64, offsets of BGZF blocks in the file and in the plain data; empty for plain text.
        fingerprint: of the file that was read.
    """

    path: Path
    bgzf: bool
    rna: bool
    contigs: list[Contig]
    n_runs: NDArray[np.int64]
    blocks: NDArray[np.uint64]
    fingerprint: dict[str, int | str]

    @property
    def total(self) -> int:
        """Bases of all contigs together."""
        return self.contigs[-1].start + self.contigs[-1].length
