"""FASTA, FASTQ and GenBank streams: what Biopython repairs or ignores silently must be refused here."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from Bio.SeqIO.FastaIO import SimpleFastaParser

from hyena_dna.errors import InputError
from hyena_dna.genome.records import Record, read_records

GENBANK = """LOCUS       SCU49845                  12 bp    DNA     linear   PLN 21-JUN-1999
DEFINITION  a gene.
ACCESSION   U49845
VERSION     U49845.1
FEATURES             Location/Qualifiers
     source          1..12
ORIGIN
        1 gatcctccat at
//
"""


def _write(folder: Path, text: str | bytes, name: str = "r") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        (">a one two\nACGT\nacgr\n>b\nN\n", "x.fa", [Record("a", b"ACGTACGN", "one two"), Record("b", b"N")]),
        (">a\tone\r\nAC\r\nGT\r\n", "x.txt", [Record("a", b"ACGT", "one")]),
        (">a\nAC\n\nGT\n\n", "x.fq", [Record("a", b"ACGT")]),
        ("@r1 x\nACGT\n+\n@@@@\n@r2\nA\n+r2\nI\n", "x.fa", [Record("r1", b"ACGT", "x"), Record("r2", b"A")]),
        (GENBANK, "x", [Record("U49845.1", b"GATCCTCCATAT", "a gene")]),
        ("Genetic Sequence Data Bank\n\n" + GENBANK, "x.seq", [Record("U49845.1", b"GATCCTCCATAT", "a gene")]),
    ],
)
def test_format_is_decided_by_content(tmp_path: Path, text: str, name: str, expected: list[Record]) -> None:
    assert list(read_records(_write(tmp_path, text, name))) == expected
    assert list(read_records(_write(tmp_path, gzip.compress(text.encode()), f"{name}.gz"))) == expected


BAD = [
    (2, "", "the file has no sequences"),
    (2, "\n\n", "the file has no sequences"),
    (3, "ACGT\n>a\nACGT\n", ":1: this is not FASTA, FASTQ or GenBank"),
    (5, ">p\nMKLV\n", ":p:3: 'L' is no base"),
    (9, ">\nACGT\n", "the header has no name"),
    (9, "> a\nACGT\n", "the header has no name"),
    (13, ">a\rACGT\r", ":1: a carriage return inside a line"),
    (14, ">a\nAC GT\n", ":2: a blank inside a sequence"),
    (14, ">a\nACGT \n", ":2: a blank inside a sequence"),
    (14, ">a\nAC1GT\n", ":a:3: '1' is no base"),
    (15, ">a\nAC\x00GT\n", ":a:3: "),
    (17, b">\xff\nACGT\n", ":1: not UTF-8"),
    (28, ">a\n>b\nACGT\n", ":a: the record has no sequence"),
    (31, ">a\nACGT*\n", ":a:5: '*' is no base"),
    (32, ">a\nACGU\n", "RNA? give --rna"),
    (101, "@HD\tVN:1.6\n@SQ\tSN:c\tLN:4\n", "this looks like a SAM file"),
    (90, "@r1\nACGT\n+\nIII\n", "Lengths of sequence and quality values differs"),
    (90, "@r1\nACGT\n+\nIIII\n@r2\nAC\n", ":6: End of file without quality"),
    (90, GENBANK.replace("//\n", ""), "U49845.1: the record is truncated"),
    (14, GENBANK.replace("gatcctccat at", ""), "no sequence"),
]


@pytest.mark.filterwarnings("ignore::Bio.BiopythonParserWarning")
@pytest.mark.parametrize(("row", "text", "message"), BAD, ids=[f"row{b[0]}-{i}" for i, b in enumerate(BAD)])
def test_bad_file_is_refused(tmp_path: Path, row: int, text: str | bytes, message: str) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        list(read_records(path))
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_biopython_alone_would_shift_coordinates() -> None:
    # Why blanks are refused before the parser sees them.
    parsed = list(SimpleFastaParser(io.StringIO("text\n>a\nAC GT\n")))  # type: ignore[no-untyped-call]
    assert parsed == [("a", "ACGT")]


def test_rna_is_read_where_announced(tmp_path: Path) -> None:
    assert next(read_records(_write(tmp_path, ">a\nACGU\n"), rna=True)).sequence == b"ACGT"


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(_write(tmp_path, ">a\nACGT\n")) as handle:
        monkeypatch.setattr("sys.stdin", handle)
        assert list(read_records("-")) == [Record("a", b"ACGT")]


def test_truncated_gzip_is_not_a_shorter_file(tmp_path: Path) -> None:
    data = gzip.compress(b"".join(b">s%d\nACGTACGT\n" % i for i in range(50_000)))
    with pytest.raises(InputError, match="damaged or truncated"):
        list(read_records(_write(tmp_path, data[: len(data) // 2])))


def test_sequence_on_one_long_line(tmp_path: Path) -> None:
    # Whole chromosomes come on one line: the limit of tables does not hold here.
    assert len(next(read_records(_write(tmp_path, b">a\n" + b"ACGT" * (1 << 20) + b"\n"))).sequence) == 4 << 20


def test_real_genome(shared_data: Path) -> None:
    records = {r.name: len(r.sequence) for r in read_records(shared_data / "sacCer3" / "sacCer3.fa.gz")}
    assert len(records) == 16
    assert sum(records.values()) == 12_071_326
