"""Risks: a truncated or malformed file half read, a fault reported at the wrong line, a column changed."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import pysam
import pysam.bcftools
import pytest

from hyena_dna.errors import InputError
from hyena_dna.genome.vcf import VariantSource, open_variants, split_record
from hyena_dna.genome.vcf_header import Undeclared
from hyena_dna.output.bgzf_blocks import BGZF_EOF, compress_blocks

HEAD = "##fileformat=VCFv4.2\n##contig=<ID=c,length=1000000>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def rows(count: int) -> str:
    return "".join(f"c\t{i + 1}\trs{i}\tA\tT\t.\t.\t.\n" for i in range(count))


def drain(source: VariantSource) -> list[list[bytes]]:
    return [split_record(line, number, source.header.width, source.name) for number, line in source.lines]


def fault(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        drain(open_variants(path))
    return caught.value


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("", None, "empty"),
        ("c\t1\t.\tA\tT\t.\t.\t.\n", 1, "no header"),
        ("\ufeff" + HEAD, 1, ""),
        ("##fileformat=VCFv4.2\nc\t1\t.\tA\tT\t.\t.\t.\n", 2, "#CHROM"),
        ("##fileformat=VCFv4.2\n", 1, "#CHROM"),
        ("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n", 1, "fileformat"),
        ("##fileformat=VCFv4.2\n#CHROM POS ID REF ALT QUAL FILTER INFO\n", 2, "tabs"),
    ],
)
def test_a_bad_header_is_refused(tmp_path: Path, text: str, line: int | None, word: str) -> None:
    path = tmp_path / "in.vcf"
    path.write_text(text, encoding="utf-8")
    error = fault(path)
    assert error.line == line
    assert word in str(error)


@pytest.mark.parametrize(
    "bad",
    [
        "c\tabc\t.\tA\tT\t.\t.\t.",
        "c\t-5\t.\tA\tT\t.\t.\t.",
        "c\t1_0\t.\tA\tT\t.\t.\t.",
        "c\t5\t.\tA",
        "c\t5\t.\tA\tT\t.\t.",
        "c 5 . A T . . .",
        "c\t5\t.\tA\tT\t.\t.\t.\tGT",
        "\t5\t.\tA\tT\t.\t.\t.",
        "",
        "#CHROM\t5",
    ],
)
def test_a_malformed_line_is_named_by_its_number(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "in.vcf"
    path.write_text(HEAD + rows(3) + bad + "\n" + rows(3))
    assert fault(path).line == 7
    if bad in ("c\tabc\t.\tA\tT\t.\t.\t.", "c\t5\t.\tA"):
        # pysam calls this a truncated file and knows no line.
        with pytest.raises(OSError, match="truncated"), pysam.VariantFile(str(path)) as file:
            list(file)


@pytest.mark.parametrize("how", ["plain", "gzip", "bgzf"])
def test_the_same_records_from_every_compression(tmp_path: Path, how: str) -> None:
    data = (HEAD + rows(5000)).encode()
    packed = {"plain": data, "gzip": gzip.compress(data), "bgzf": compress_blocks(data) + BGZF_EOF}[how]
    path = tmp_path / "in.vcf"
    path.write_bytes(packed)
    found = drain(open_variants(path))
    assert b"".join(b"\t".join(fields) + b"\n" for fields in found) == rows(5000).encode()


@pytest.mark.parametrize("how", ["middle", "boundary", "plain gzip", "bit flip"])
def test_damage_is_found_with_a_line(tmp_path: Path, how: str) -> None:
    data = (HEAD + rows(20000)).encode()
    blocks = compress_blocks(data)
    flipped = bytearray(blocks + BGZF_EOF)
    flipped[len(blocks) // 2] ^= 0x10
    packed = {
        "middle": blocks[: len(blocks) // 2],
        "boundary": blocks,
        "plain gzip": gzip.compress(data)[:-2000],
        "bit flip": bytes(flipped),
    }[how]
    path = tmp_path / "in.vcf.gz"
    path.write_bytes(packed)
    error = fault(path)
    assert error.line is not None
    assert error.line > 3


def test_a_missing_last_line_end_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "in.vcf"
    path.write_text((HEAD + rows(3))[:-1])
    source = open_variants(path)
    assert len(drain(source)) == 3
    assert len(source.notes) == 1


def test_crlf_is_a_line_end(tmp_path: Path) -> None:
    path = tmp_path / "in.vcf"
    path.write_bytes((HEAD + rows(2)).replace("\n", "\r\n").encode())
    assert [fields[7] for fields in drain(open_variants(path))] == [b".", b"."]


def test_a_stale_index_is_never_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "in.vcf.gz"
    path.write_bytes(compress_blocks((HEAD + rows(10)).encode()) + BGZF_EOF)
    (tmp_path / "in.vcf.gz.tbi").write_bytes(b"not an index")
    assert len(drain(open_variants(path))) == 10


def bcf(tmp_path: Path, count: int) -> Path:
    text, path = tmp_path / "in.vcf", tmp_path / "in.bcf"
    text.write_text(HEAD + rows(count))
    pysam.bcftools.view("-Ob", "-o", str(path), str(text), catch_stdout=False)
    return path


def test_bcf_is_read_as_the_vcf_that_it_stands_for(tmp_path: Path) -> None:
    source = open_variants(bcf(tmp_path, 5000))
    assert b"".join(b"\t".join(fields) + b"\n" for fields in drain(source)) == rows(5000).encode()


@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_truncated_bcf_is_refused(tmp_path: Path, keep: float) -> None:
    path = bcf(tmp_path, 50000)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    assert "truncated" in str(fault(path))


def test_bcf_from_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(bcf(tmp_path, 300), "rb") as handle:
        monkeypatch.setattr(sys, "stdin", handle)
        assert len(drain(open_variants("-"))) == 300


@pytest.mark.parametrize(
    "text", ["chrom\tpos\tref\talt\nc\t5\tA\tT\n", "c\t5\tA\tT\n", "#alt\tREF\tpos\tchrom\nT\tA\t5\tc\n"]
)
def test_tables_with_and_without_a_header(tmp_path: Path, text: str) -> None:
    path = tmp_path / "in.tsv"
    path.write_text(text)
    assert drain(open_variants(path)) == [[b"c", b"5", b".", b"A", b"T", b".", b".", b"."]]


@pytest.mark.parametrize(("text", "line"), [("c\tx\tA\tT\n", 1), ("c\t5\tA\tT\nc\t5\n", 2)])
def test_a_bad_table_line_is_named(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "in.tsv"
    path.write_text(text)
    assert fault(path).line == line


def test_undeclared_names_get_declarations_that_htslib_accepts(tmp_path: Path) -> None:
    path = tmp_path / "in.vcf"
    columns = HEAD.splitlines()[-1] + "\tFORMAT\tS"
    record = "d\t5\t.\tA\t<DEL>\t.\tq10;low\tAF=0.5;FLAG;X=1\tGT:ZZ\t0|1:7"
    path.write_text(f"##fileformat=VCFv4.2\n{columns}\n{record}\n")
    source = open_variants(path)
    undeclared = Undeclared(symbolic=True)
    for fields in drain(source):
        undeclared.add(source.header, fields)
        undeclared.contigs["d"] = None
    whole = tmp_path / "whole.vcf"
    whole.write_bytes(
        source.header.render(undeclared.header_lines(source.header, {"c": 100})) + record.encode() + b"\n"
    )
    with pysam.VariantFile(str(whole)) as file:
        assert {"AF", "FLAG", "X", "END"} <= set(file.header.info)
        assert {"q10", "low"} <= set(file.header.filters)
        assert {"GT", "ZZ"} <= set(file.header.formats)
        assert list(file.header.contigs) == ["c", "d"]
        found = next(file)
        assert found.info["AF"] == (0.5,)
        assert found.info["FLAG"] is True
