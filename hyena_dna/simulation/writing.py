"""Writing an example set's files: compressed, indexed, and the same bytes for the same content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pysam

from hyena_dna.simulation.assembly import Contig
from hyena_dna.simulation.reads import UNMAPPED, SimulatedRead

__all__ = ["write_bam", "write_bgzf_table", "write_fasta", "write_json", "write_lines"]

_LINE = 60


def write_fasta(path: Path, contigs: Iterable[Contig]) -> None:
    """Write a bgzipped FASTA with lower-case repeats, and its `.fai` and `.gzi`."""
    with pysam.BGZFile(str(path), "wb", None) as handle:
        for contig in contigs:
            # In ASCII bit 5 makes a letter lower-case.
            bases = np.where(contig.soft, contig.bases | 0x20, contig.bases).astype(np.uint8).tobytes()
            handle.write(f">{contig.name}\n".encode())
            handle.write(b"".join(bases[i : i + _LINE] + b"\n" for i in range(0, len(bases), _LINE)))
    pysam.faidx(str(path))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file."""
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file for people and programs."""
    write_lines(path, [json.dumps(content, indent=2)])


def write_bgzf_table(path: Path, lines: Iterable[str], preset: Literal["bed", "vcf"]) -> None:
    """Write a bgzipped table in coordinate order and its tabix index.

    Args:
        path: the file, which ends in `.gz`.
        lines: the table's lines.
        preset: tabix preset, `bed` or `vcf`.
    """
    with pysam.BGZFile(str(path), "wb", None) as handle:
        handle.write("".join(f"{line}\n" for line in lines).encode())
    pysam.tabix_index(str(path), preset=preset, force=True)


def write_bam(path: Path, contigs: Sequence[Contig], chrom: str, sample: str, reads: Iterable[SimulatedRead]) -> None:
    """Write reads of one contig, which are in coordinate order, as BAM with its index.

    Tags: RG; NM, SA as the SAM specification has them; HP, the haplotype; and the truth in two tags of the
    specification's local range: ZO, offset of the first aligned base on that haplotype, and ZE, sequencing errors.
    """
    header = pysam.AlignmentHeader.from_dict(
        {
            "HD": {"VN": "1.6", "SO": "coordinate"},
            "SQ": [
                {"SN": contig.name, "LN": contig.length, "M5": hashlib.md5(contig.bases.tobytes()).hexdigest()}
                for contig in contigs
            ],
            "RG": [{"ID": sample, "SM": sample, "PL": "ILLUMINA", "LB": "simulated"}],
            "PG": [{"ID": "hyena-dna", "PN": "hyena-dna simulate"}],
        }
    )
    with pysam.AlignmentFile(str(path), "wb", header=header) as handle:
        for read in reads:
            handle.write(_record(header, chrom, sample, read))
    pysam.index(str(path))


def _record(header: pysam.AlignmentHeader, chrom: str, sample: str, read: SimulatedRead) -> pysam.AlignedSegment:
    record = pysam.AlignedSegment(header)
    record.query_name = read.name
    record.flag = read.flag
    record.query_sequence = read.sequence.decode() or None
    record.query_qualities = pysam.qualitystring_to_array("".join(chr(33 + quality) for quality in read.qualities))
    record.set_tag("RG", sample)
    if read.flag & UNMAPPED:
        return record
    record.reference_name = chrom
    record.reference_start = read.start
    record.mapping_quality = read.mapping_quality
    record.cigartuples = list(read.cigar)
    record.set_tag("NM", read.edit_distance)
    record.set_tag("HP", read.haplotype)
    record.set_tag("ZO", read.origin)
    record.set_tag("ZE", read.errors)
    if read.other_part:
        record.set_tag("SA", read.other_part)
    return record
