"""Joining the outputs of shards to the file that one run over everything would have made, byte for byte."""

from __future__ import annotations

import os
import re
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hyena_dna.errors import InputError
from hyena_dna.files import atomic_path
from hyena_dna.genome.bgzf import BgzfBlocks
from hyena_dna.output.bgzf_blocks import BGZF_EOF, compress_blocks
from hyena_dna.output.score_fields import info_header
from hyena_dna.output.score_formats import SHARD_MARK, index_file, translate_bcf
from hyena_dna.output.score_tables import COLUMNS, ParquetRows, is_table_header, table_header

__all__ = ["merge_shards"]

_FOREIGN = "this is no output of hyena-dna score-variants --shard"
_MADE_UP = re.compile(
    rb"##(contig|INFO|FILTER|FORMAT)=<ID=([^,>]+)(?:>|,.*Description=\"Not declared in the input\">)$"
)
_KINDS = (b"contig", b"INFO", b"FILTER", b"FORMAT")
_LONGEST = re.compile(rb"##contig=<ID=[^>]*length=([0-9]+)")


class _Shard(NamedTuple):
    path: Path
    number: int
    shards: int
    head: list[bytes]
    body: int
    """Where the records begin, in bytes of the file."""


def merge_shards(paths: Sequence[Path], output: Path) -> int:
    """Join the outputs of all shards of one run.

    Args:
        paths: the shards' outputs, in any order, all of the output's format.
        output: the file to be made, with its index where its format has one.

    Returns:
        Number of shards.

    Raises:
        InputError: a file is no shard, is damaged, belongs to another run or format, or a shard is missing.
    """
    suffix = "".join(output.suffixes[-2:]) if output.suffix == ".gz" else output.suffix
    for path in paths:
        if not path.name.endswith(suffix):
            raise InputError(f"the output is {suffix}, and this is not", file=path)
    read = {".parquet": _read_parquet, ".bcf": _read_bcf}.get(output.suffix, _read_text)
    shards = sorted((read(path) for path in paths), key=lambda shard: shard.number)
    _check(shards)
    with atomic_path(output) as temporary:
        if output.suffix == ".parquet":
            _join_parquet(shards, temporary)
        elif output.suffix == ".bcf":
            _join_bcf(shards, temporary)
        else:
            _join_text(shards, temporary)
    lengths = [int(match[1]) for line in shards[0].head if (match := _LONGEST.match(line))]
    index_file(output, max(lengths, default=0))
    return len(shards)


def _check(shards: Sequence[_Shard]) -> None:
    first = shards[0]
    own = [line for line in first.head if line.startswith(b"##hyena-dna=")]
    for shard in shards:
        if shard.shards != first.shards or [line for line in shard.head if line.startswith(b"##hyena-dna=")] != own:
            raise InputError(f"this shard is of another run than {first.path}", file=shard.path)
    numbers = [shard.number for shard in shards]
    if numbers != list(range(1, first.shards + 1)):
        missing = sorted(set(range(1, first.shards + 1)) - set(numbers))
        what = f"shard {missing[0]} of {first.shards} is missing" if missing else "a shard is given twice"
        raise InputError(what, file=first.path.parent)


def _shard(path: Path, head: list[bytes], body: int) -> _Shard:
    marks = [line for line in head if line.startswith(SHARD_MARK)]
    match = re.fullmatch(rb"([0-9]+)/([0-9]+)", marks[0][len(SHARD_MARK) :]) if len(marks) == 1 else None
    if match is None:
        raise InputError(_FOREIGN, file=path)
    return _Shard(path, int(match[1]), int(match[2]), head, body)


def _is_last(line: bytes) -> bool:
    return line.startswith(b"#CHROM\t") or is_table_header(line)


def _read_text(path: Path) -> _Shard:
    """Read the head of a text file; in BGZF it ends at the end of a block, as `score_formats` writes it."""
    head: list[bytes] = []
    with open(path, "rb") as handle:
        if path.suffix != ".gz":
            for line in handle:
                head.append(line.rstrip(b"\n"))
                if _is_last(head[-1]):
                    return _shard(path, head, handle.tell())
            raise InputError(_FOREIGN, file=path)
        # Every block is checked before any is copied.
        for _ in BgzfBlocks(handle):
            pass
        handle.seek(0)
        text = b""
        while len(block := handle.read(18)) == 18:
            block += handle.read(int.from_bytes(block[16:18], "little") + 1 - 18)
            text += zlib.decompress(block[18:-8], -15)
            head = text.split(b"\n")
            if head[-1] == b"" and len(head) > 1 and _is_last(head[-2]):
                return _shard(path, head[:-1], handle.tell())
            if not text.startswith(b"#") and not text.startswith(table_header()[:5]):
                break
    raise InputError(_FOREIGN, file=path)


def _merged_head(shards: Sequence[_Shard]) -> list[bytes]:
    """The first shard's head with what other shards had to declare, in the order of one run, without the marks."""
    head = [line for line in shards[0].head if not line.startswith(SHARD_MARK)]
    first_field = info_header()[0]
    if first_field not in head:
        return [line for line in head if not line.startswith(b"##")]
    place = head.index(first_field)
    declared: dict[tuple[int, bytes], bytes] = {}
    for shard in shards:
        for line in shard.head:
            match = _MADE_UP.match(line)
            if match and (line in head[:place] or line not in head):
                key = (_KINDS.index(match[1]), match[2])
                # A key that one shard saw only without a value has one in another.
                if key not in declared or b"Type=Flag" in declared[key]:
                    declared[key] = line
    kept = [line for line in head[:place] if line not in declared.values() and not _replaced(line, declared)]
    added = [declared[key] for key in sorted(declared, key=lambda key: key[0])]
    return [*kept, *added, *head[place:]]


def _replaced(line: bytes, declared: dict[tuple[int, bytes], bytes]) -> bool:
    match = _MADE_UP.match(line)
    return match is not None and (_KINDS.index(match[1]), match[2]) in declared


def _join_text(shards: Sequence[_Shard], path: Path) -> None:
    packed = path.suffix == ".gz"
    head = b"\n".join(_merged_head(shards)) + b"\n"
    with open(path, "wb") as handle:
        handle.write(compress_blocks(head) if packed else head)
        for shard in shards:
            with open(shard.path, "rb") as source:
                source.seek(shard.body)
                shutil.copyfileobj(source, handle, 1 << 20)
            if packed:
                handle.seek(-len(BGZF_EOF), os.SEEK_CUR)
                handle.truncate()
        handle.write(BGZF_EOF if packed else b"")


def _read_bcf(path: Path) -> _Shard:
    import pysam

    try:
        with pysam.VariantFile(os.fspath(path)) as file:
            head = str(file.header).rstrip("\n").encode().split(b"\n")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {error}", file=path) from None
    return _shard(path, head, 0)


def _join_bcf(shards: Sequence[_Shard], path: Path) -> None:
    import pysam

    joined = path.with_name(f"{path.name}.joined")
    try:
        # A header of pysam's own making would declare another version of VCF.
        joined.write_bytes(b"\n".join(_merged_head(shards)) + b"\n")
        with pysam.VariantFile(os.fspath(joined)) as head:
            header = head.header.copy()
        with pysam.VariantFile(os.fspath(joined), "wb", header=header) as out:
            for shard in shards:
                try:
                    with pysam.VariantFile(os.fspath(shard.path)) as file:
                        for record in file:
                            record.translate(header)
                            out.write(record)
                except (OSError, ValueError) as error:
                    raise InputError(f"cannot be read: {error}", file=shard.path) from None
        # The bytes of a BCF depend on its writer's habits: the one of an undivided run writes this one too.
        translate_bcf(joined, path)
    finally:
        joined.unlink(missing_ok=True)


def _read_parquet(path: Path) -> _Shard:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"cannot be read: {str(error).splitlines()[0]}", file=path) from None
    if b"hyena-dna" not in metadata or b"hyena-dna-shard" not in metadata:
        raise InputError(_FOREIGN, file=path)
    return _shard(path, [b"##hyena-dna=" + metadata[b"hyena-dna"], SHARD_MARK + metadata[b"hyena-dna-shard"]], 0)


def _join_parquet(shards: Sequence[_Shard], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    extras = pq.read_schema(shards[0].path).names[len(COLUMNS) :]
    rows = ParquetRows(path, {"hyena-dna": shards[0].head[0].removeprefix(b"##hyena-dna=").decode()}, extras)
    for shard in shards:
        with pq.ParquetFile(shard.path) as file:
            for batch in file.iter_batches(batch_size=1 << 16):
                rows.add(pa.Table.from_batches([batch]))
    rows.close()
