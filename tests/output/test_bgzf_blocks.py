"""Risks: blocks that other readers refuse, bytes that depend on how the data were cut."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pysam
import pytest

from hyena_dna.output.bgzf_blocks import BGZF_EOF, compress_blocks


@pytest.mark.parametrize("size", [0, 1, 0xFF00, 0xFF01, 300_000])
@pytest.mark.parametrize("kind", ["text", "noise"])
def test_what_is_written_is_read_by_gzip_and_htslib(tmp_path: Path, size: int, kind: str) -> None:
    data = random.Random(size).randbytes(size) if kind == "noise" else b"ACGT\t" * (size // 5) + b"A" * (size % 5)
    packed = compress_blocks(data) + BGZF_EOF
    assert gzip.decompress(packed) == data
    path = tmp_path / "data.gz"
    path.write_bytes(packed)
    with pysam.BGZFile(str(path), "r", None) as handle:
        assert handle.read() == data


def test_pieces_join() -> None:
    assert gzip.decompress(compress_blocks(b"one\n") + compress_blocks(b"two\n") + BGZF_EOF) == b"one\ntwo\n"
