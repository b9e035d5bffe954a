"""The files that scores can go to, chosen by suffix. Each is made of parts that can be joined without reading them."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from hyena_dna.errors import InputError
from hyena_dna.files import atomic_path
from hyena_dna.genome.lines import open_source
from hyena_dna.genome.vcf_header import VcfHeader
from hyena_dna.output.bgzf_blocks import BGZF_EOF, compress_blocks
from hyena_dna.output.score_fields import ScoredRecord, ScoreField, info_header
from hyena_dna.output.score_tables import (
    ParquetRows,
    arrow_batch,
    is_table_header,
    read_arrow,
    table_header,
    table_lines,
)
from hyena_dna.output.scored_vcf import vcf_lines

__all__ = [
    "SHARD_MARK",
    "SUFFIXES",
    "Heading",
    "ScoreFormat",
    "copy_files",
    "index_file",
    "score_format",
    "translate_bcf",
]

logger = logging.getLogger("hyena_dna")

SUFFIXES = (".vcf", ".vcf.gz", ".bcf", ".tsv", ".tsv.gz", ".parquet")

SHARD_MARK = b"##hyena-dna-shard="
"""Begins the header line that only a shard's output has."""

_TBI_LIMIT = 1 << 29
_BED_SUFFIXES = (".bed.gz", ".bedgraph.gz", ".bdg.gz", ".bg.gz")


class Heading(NamedTuple):
    """What stands before the records.

    Attributes:
        header: the header of the input, without fields that are written anew.
        declared: lines that complete it.
        provenance: version, model and settings, the value of the `##hyena-dna` line.
        shard: `i/n`, where the file is a part of a whole.
        extras: fields that the records have beyond those that every run has.
    """

    header: VcfHeader
    declared: Sequence[bytes]
    provenance: str
    shard: str | None
    extras: Sequence[ScoreField] = ()

    @property
    def marks(self) -> list[bytes]:
        """The lines that say where the scores come from."""
        shard = [] if self.shard is None else [SHARD_MARK + self.shard.encode()]
        return [f"##hyena-dna={self.provenance}".encode(), *shard]

    def vcf(self) -> bytes:
        """A whole VCF header."""
        return self.header.render([*self.declared, *info_header(self.extras), *self.marks])

    def table(self) -> bytes:
        """The header of a TSV; a shard says so in comment lines before it."""
        marks = b"".join(mark + b"\n" for mark in self.marks) if self.shard else b""
        return marks + table_header(self.extras)


class ScoreFormat(Protocol):
    """One kind of output."""

    def encode(self, records: Sequence[ScoredRecord]) -> bytes:
        """The records as a piece of a part; pieces and parts are joined by concatenation."""

    def join(self, path: Path, heading: Heading, parts: Iterable[Path]) -> None:
        """Write the file, whole, from the parts."""


def score_format(
    path: str | os.PathLike[str], extras: Sequence[ScoreField] = (), *, replace: bool = False
) -> ScoreFormat:
    """The format of an output by its suffix.

    Args:
        path: the output; `-` means VCF.
        extras: fields that the records have beyond those that every run has.
        replace: take the fields of an earlier run out of the records.

    Raises:
        InputError: no format has this suffix.
    """
    name = os.fspath(path)
    if name == "-" or name.endswith(".vcf"):
        return Text(extras, replace=replace)
    if name.endswith(".vcf.gz"):
        return Text(extras, replace=replace, compress=True)
    if name.endswith(".bcf"):
        return Bcf(extras, replace=replace)
    if name.endswith((".tsv", ".tsv.gz")):
        return Text(extras, compress=name.endswith(".gz"), table=True)
    if name.endswith(".parquet"):
        return Parquet(extras)
    raise InputError("no output format has this suffix", file=name, remedy=f"use one of {', '.join(SUFFIXES)}")


class Text:
    """VCF and TSV, plain or in BGZF.

    Args:
        extras: fields that the records have beyond those that every run has.
        replace: take the fields of an earlier run out of the records.
        compress: write BGZF.
        table: write TSV.
    """

    def __init__(
        self, extras: Sequence[ScoreField], *, replace: bool = False, compress: bool = False, table: bool = False
    ) -> None:
        self._extras = extras
        self._replace = replace
        self._compress = compress
        self._table = table

    def _packed(self, data: bytes) -> bytes:
        return compress_blocks(data) if self._compress else data

    def encode(self, records: Sequence[ScoredRecord]) -> bytes:
        """Lines, compressed where the file is."""
        if self._table:
            return self._packed(table_lines(records, self._extras))
        return self._packed(vcf_lines(records, self._extras, replace=self._replace))

    def join(self, path: Path, heading: Heading, parts: Iterable[Path]) -> None:
        """Header, parts, and BGZF's end-of-file block."""
        with open(path, "wb") as handle:
            handle.write(self._packed(heading.table() if self._table else heading.vcf()))
            copy_files(parts, handle)
            handle.write(BGZF_EOF if self._compress else b"")


class Bcf:
    """BCF, translated from VCF by htslib when the parts are joined.

    Args:
        extras: fields that the records have beyond those that every run has.
        replace: take the fields of an earlier run out of the records.
    """

    def __init__(self, extras: Sequence[ScoreField], *, replace: bool = False) -> None:
        self._extras = extras
        self._replace = replace

    def encode(self, records: Sequence[ScoredRecord]) -> bytes:
        """Lines of VCF in fast BGZF."""
        return compress_blocks(vcf_lines(records, self._extras, replace=self._replace))

    def join(self, path: Path, heading: Heading, parts: Iterable[Path]) -> None:
        """Join the parts to a VCF beside the file and translate it."""
        text = path.with_name(f"{path.name}.vcf.gz")
        try:
            with open(text, "wb") as handle:
                handle.write(compress_blocks(heading.vcf()))
                copy_files(parts, handle)
                handle.write(BGZF_EOF)
            translate_bcf(text, path)
        finally:
            text.unlink(missing_ok=True)


class Parquet:
    """Parquet.

    Args:
        extras: fields that the records have beyond those that every run has.
    """

    def __init__(self, extras: Sequence[ScoreField]) -> None:
        self._extras = extras

    def encode(self, records: Sequence[ScoredRecord]) -> bytes:
        """An Arrow stream."""
        return arrow_batch(records, self._extras)

    def join(self, path: Path, heading: Heading, parts: Iterable[Path]) -> None:
        """Rows of all parts, with the provenance in the file's metadata."""
        shard = {"hyena-dna-shard": heading.shard} if heading.shard else {}
        names = [field.column for field in self._extras]
        rows = ParquetRows(path, {"hyena-dna": heading.provenance, **shard}, names)
        for part in parts:
            with open(part, "rb") as handle:
                for table in read_arrow(handle):
                    rows.add(table)
        rows.close()


def copy_files(parts: Iterable[Path], handle: IO[bytes]) -> None:
    """Append files to an open one."""
    for part in parts:
        with open(part, "rb") as source:
            shutil.copyfileobj(source, handle, 1 << 20)


def translate_bcf(source: Path, path: Path) -> None:
    """Write a VCF or BCF file as BCF."""
    import pysam
    import pysam.bcftools

    try:
        pysam.bcftools.view("--no-version", "-Ob", "-o", os.fspath(path), os.fspath(source), catch_stdout=False)
    except pysam.utils.SamtoolsError as error:
        raise InputError(f"htslib cannot write this output: {str(error).strip()}") from None


def index_file(path: Path, longest_contig: int) -> Path | None:
    """Index a sorted .vcf.gz, .bcf, .tsv.gz or .bedgraph.gz, atomically.

    Args:
        path: the file.
        longest_contig: length in bp; above 512 Mbp only CSI indexes work.

    Returns:
        The index; None where the format has none or htslib cannot index these positions.
    """
    import pysam

    name = path.name
    if not name.endswith((".vcf.gz", ".bcf", ".tsv.gz", *_BED_SUFFIXES)):
        return None
    csi = name.endswith(".bcf") or longest_contig >= _TBI_LIMIT
    target = path.with_name(f"{name}.{'csi' if csi else 'tbi'}")
    presets = {".vcf.gz": "vcf", ".bcf": "bcf", **dict.fromkeys(_BED_SUFFIXES, "bed")}
    options: dict[str, Any] = {"preset": next((kind for end, kind in presets.items() if name.endswith(end)), None)}
    if name.endswith(".tsv.gz"):
        with open_source(path) as handle:
            skipped = 1 + sum(1 for _ in itertools.takewhile(lambda line: not is_table_header(line), handle))
        options = {"seq_col": 0, "start_col": 1, "end_col": 1, "line_skip": skipped}
    path.with_name(f"{name}.{'tbi' if csi else 'csi'}").unlink(missing_ok=True)
    try:
        with atomic_path(target) as temporary:
            pysam.tabix_index(
                os.fspath(path), force=True, keep_original=True, csi=csi, index=os.fspath(temporary), **options
            )
    except (OSError, InputError) as error:
        logger.warning("%s: written without an index: %s", path, error)
        target.unlink(missing_ok=True)
        return None
    return target
