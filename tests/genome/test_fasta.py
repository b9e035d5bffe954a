"""The FASTA scan: the catalogue of bad files, and equality with biopython on good ones."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pyfaidx
import pysam
import pytest
from Bio import SeqIO
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyena_dna.errors import InputError
from hyena_dna.genome import fasta, fasta_parser
from hyena_dna.genome.contig_table import ContigChunk, FastaScan
from hyena_dna.genome.fasta import scan_fasta
from hyena_dna.genome.sequence import NORMALISE

EOF_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
PROTEIN = b">p1 a kinase\nMGSNKSKPKDASQRRRSLEPAENVHGAGGGAFPASQTPSKPASADGHRGPSAAFAPAAAE\n"


def bgzf_block(data: bytes) -> bytes:
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = deflate.compress(data) + deflate.flush()
    head = struct.pack("<4BI2BH2B2H", 31, 139, 8, 4, 0, 0, 255, 6, 66, 67, 2, len(body) + 25)
    return head + body + struct.pack("<II", zlib.crc32(data), len(data))


def bgzf(data: bytes, block: int = 65280) -> bytes:
    return b"".join(bgzf_block(data[i : i + block]) for i in range(0, len(data), block)) + EOF_BLOCK


def scan_bytes(folder: Path, data: bytes, *, rna: bool = False) -> tuple[FastaScan, dict[str, bytes]]:
    path = folder / ("g.fa.gz" if data[:2] == b"\x1f\x8b" else "g.fa")
    path.write_bytes(data)
    pieces: dict[str, bytes] = {}

    def sink(chunk: ContigChunk) -> None:
        assert chunk.start == len(pieces.get(chunk.name, b""))
        pieces[chunk.name] = pieces.get(chunk.name, b"") + chunk.bases

    scan = scan_fasta(path, rna=rna, sink=sink)
    assert {c.name: c.length for c in scan.contigs} == {c.name: len(pieces.get(c.name, b"")) for c in scan.contigs}
    return scan, pieces


BAD = {
    "02-empty": (b"", "no sequences"),
    "02-newline": (b"\n", "no sequences"),
    "03-no-header": (b"ACGT\n", ":1: text before the first header"),
    "03-text-first": (b"\nhello\n>a\nACGT\n", ":2: text before the first header"),
    "04-fastq": (b"@r\nACGT\n+\nIIII\n", "looks like FASTQ"),
    "05-protein": (PROTEIN, ":p1:8: this looks like protein"),
    "05-typing-error": (b">a\nACGTACGTE\n", ":a:9: 'E' is no nucleotide code"),
    "06-duplicate": (b">a\nAC\n>b\nAC\n>a\nGG\n", ":5: the name 'a' was used before, on line 1"),
    "07-duplicate-word": (b">a one\nAC\n>a two\nGG\n", ":3: the name 'a' was used before, on line 1"),
    "09-no-name": (b">\nACGT\n", ":1: a sequence without a name"),
    "09-blank-name": (b">a\nAC\n> b\nACGT\n", ":3: a sequence without a name"),
    "10-long-line": (b">a\nACGT\nACGTA\n", ":3: uneven line lengths"),
    "10-long-open-line": (b">a\nACGT\nACGTA", ":3: uneven line lengths"),
    "10-short-line": (b">a\nACGT\nACGT\nACG\nACGT\n>b\nA\n", ":4: uneven line lengths: a short line within a"),
    "10-short-aligned": (b">a\nACGTACGT\nACG\nACGT\nACGTACGT\n", ":3: uneven line lengths: a short line within a"),
    "10-blank-line": (b">a\nACGT\nACGT\n\nACGT\n", ":4: uneven line lengths: a blank line within a"),
    "10-blank-first": (b">a\n\nACGT\n", ":2: uneven line lengths: a blank line within a"),
    "12-mixed": (b">a\nACGT\nACG\r\nACGT\n", ":a:8: mixed line ends"),
    "12-mixed-first": (b">a\nACGT\r\nACGT\n", ":a:5: mixed line ends"),
    "12-mixed-header": (b">a\r\nACGT\r\n>b\nACGT\n", ":3: mixed line ends"),
    "12-mixed-lf-in-crlf": (b">a\r\nACGT\r\nACG\nACGT\r\n", ":3: mixed line ends"),
    "12-mixed-last": (b">a\r\nACGT\r\nAC\n", ":3: mixed line ends"),
    "12-mixed-blank": (b">a\r\nACGT\r\n\r\n\n", ":4: mixed line ends"),
    "13-cr-only": (b">a\rACGT\rACGT\r", ":1: lines end in CR alone"),
    "14-trailing-space": (b">a\nACGT \nACGT \n", ":a:5: ' ' in a sequence"),
    "14-inner-space": (b">a\nAC GT\n", ":a:3: ' ' in a sequence"),
    "14-numbers": (b">a\n1 ACGT\n", ":a:1: '1' in a sequence"),
    "15-nul": (b">a\nACGT\nAC\x00T\n", ":a:7: a NUL byte"),
    "16-bom": (b"\xef\xbb\xbf>a\nACGT\n", ":1: the file begins with a byte order mark"),
    "17-latin-1": (b">\xe9\nACGT\n", ":1: a sequence name that is not UTF-8"),
    "17-escape": (b">\x1b[2J\nACGT\n", ":1: control characters in the name"),
    "18-gzip": (b"\x1f\x8b\x08\x00" + bytes(30), "use bgzip"),
    "31-star": (b">a\nACG*\n", ":a:4: '*' in a sequence"),
    "31-gap": (b">a\nAC-T\n", ":a:3: '-' in a sequence"),
    "31-dot": (b">a\nAC.T\n", ":a:3: '.' in a sequence"),
    "32-rna": (b">a\nACGU\n", ":a:4: U in a DNA sequence"),
    "header-in-line": (b">a\nAC>b\nAC\n", ":a:3: '>' within a sequence line"),
    "19-bgzf-cut-in-block": (bgzf(b">a\n" + b"ACGT" * 50000)[:400], "truncated"),
    "20-bgzf-no-eof": (bgzf(b">a\nACGT\n")[:-28], "its end-of-file block is missing"),
    "21-bgzf-crc": (bgzf(b">a\nACGT\n")[:-33] + b"\x00" + bgzf(b">a\nACGT\n")[-32:], "damaged BGZF block"),
    "21-bgzf-then-text": (bgzf(b">a\nACGT\n") + b"x" * 200_000, "data that are not BGZF"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_with_place_and_remedy(tmp_path: Path, case: str) -> None:
    data, fragment = BAD[case]
    with pytest.raises(InputError) as caught:
        scan_bytes(tmp_path, data)
    assert fragment in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))
    assert caught.value.remedy


GOOD = {
    "08-words": (b">a b\tc\nACGT\n>d\te\nGG\n", {"a": b"ACGT", "d": b"GG"}),
    "11-crlf": (b">a\r\nACGT\r\nAC\r\n>b\r\nGG\r\n", {"a": b"ACGTAC", "b": b"GG"}),
    "11-crlf-no-end": (b">a\r\nACGT\r\nAC", {"a": b"ACGTAC"}),
    "10-last-line-short": (b">a\nACGT\nAC\n>b\nGG", {"a": b"ACGTAC", "b": b"GG"}),
    "10-blank-at-end": (b">a\nACGT\n\n>b\nGG\n\n\n", {"a": b"ACGT", "b": b"GG"}),
    "28-empty-contigs": (b">a\n>b\nAC\n>c\n\n>d", {"b": b"AC"}),
    "29-soft-mask": (b">a\nACgtn\n", {"a": b"ACgtn"}),
    "30-iupac": (b">a\nARYSWKMBDHVNrn\n", {"a": b"ANNNNNNNNNNNnn"}),
    "36-odd-names": (b">HLA-A*01:01\nAC\n>gi|1|\nGT\n", {"HLA-A*01:01": b"AC", "gi|1|": b"GT"}),
    "17-utf-8-name": (">\u03b1\nAC\n".encode(), {"\u03b1": b"AC"}),
    "header-with-gt": (b">a >b\nAC\n", {"a": b"AC"}),
    "bgzf": (bgzf(b">a\nACGT\nAC\n>b\nGG\n", block=5), {"a": b"ACGTAC", "b": b"GG"}),
    "bgzf-joined": (bgzf(b">a\nACGT\nAC\n") + bgzf(b">b\nGG\n"), {"a": b"ACGTAC", "b": b"GG"}),
}


@pytest.mark.parametrize("case", GOOD)
def test_good_files_give_their_bases(tmp_path: Path, case: str) -> None:
    data, expected = GOOD[case]
    assert scan_bytes(tmp_path, data)[1] == expected


def test_counts_and_runs_of_n(tmp_path: Path) -> None:
    scan, _ = scan_bytes(tmp_path, b">a\nNNAC\nGRyN\n>b\n>c\nNacN\nNNT\n")
    a, b, c = scan.contigs
    assert (a.n_count, a.iupac_count, a.lower_count, a.start) == (3, 2, 1, 0)
    assert (b.length, b.line_bases, b.line_width) == (0, 0, 0)
    assert (c.n_count, c.iupac_count, c.lower_count, c.start) == (4, 0, 2, 8)
    # The run that ends contig a and the one that begins contig c stay two.
    assert scan.n_runs.tolist() == [[0, 2], [5, 8], [8, 9], [11, 14]]


def test_offsets_are_those_of_samtools(tmp_path: Path) -> None:
    data = b">a\nACGT\nACGT\nA\n>bb x\nACGTACG\n>c\nAC\nGT\n"
    scan, _ = scan_bytes(tmp_path, data)
    pysam.faidx(str(tmp_path / "g.fa"))
    ours = [f"{c.name}\t{c.length}\t{c.offset}\t{c.line_bases}\t{c.line_width}" for c in scan.contigs]
    assert "\n".join(ours) + "\n" == (tmp_path / "g.fa.fai").read_text()


def test_rna_is_read_where_announced(tmp_path: Path) -> None:
    assert scan_bytes(tmp_path, b">a\nACGUu\n", rna=True)[1] == {"a": b"ACGTt"}


def test_places_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.fa")
    for name, fragment in (("none.fa", "no such file"), (".", "folder"), ("fifo.fa", "seekable")):
        with pytest.raises(InputError, match=fragment):
            scan_fasta(tmp_path / name)


def test_names_that_belie_their_content(tmp_path: Path) -> None:
    (tmp_path / "plain.fa.gz").write_bytes(b">a\nAC\n")
    (tmp_path / "packed.fa").write_bytes(bgzf(b">a\nAC\n"))
    for name in ("plain.fa.gz", "packed.fa"):
        with pytest.raises(InputError, match="name"):
            scan_fasta(tmp_path / name)


def test_mixed_line_ends_where_pyfaidx_loses_a_base(tmp_path: Path) -> None:
    path = tmp_path / "g.fa"
    path.write_bytes(b">a\nACGT\nACG\r\nACGT\n")
    naive = pyfaidx.Fasta(str(path))
    assert len(naive["a"]) != len(str(naive["a"]))  # 11 bases announced, 10 given
    with pytest.raises(InputError, match="mixed line ends"):
        scan_fasta(path)


def test_spaces_where_pyfaidx_and_pysam_disagree(tmp_path: Path) -> None:
    path, copy = tmp_path / "g.fa", tmp_path / "copy.fa"
    for file in (path, copy):
        file.write_bytes(b">a\nAC GT\nAC GT\nAC\n")
    by_pyfaidx = str(pyfaidx.Fasta(str(path))["a"])
    assert " " in by_pyfaidx
    assert by_pyfaidx != pysam.FastaFile(str(copy)).fetch("a")
    with pytest.raises(InputError, match="' ' in a sequence"):
        scan_fasta(path)


def test_duplicates_where_pysam_takes_the_first(tmp_path: Path) -> None:
    path = tmp_path / "g.fa"
    path.write_bytes(b">a\nAAAA\n>a\nCCCC\n")
    assert pysam.FastaFile(str(path)).fetch("a") == "AAAA"
    with pytest.raises(InputError, match="used before"):
        scan_fasta(path)


def test_empty_contigs_where_pysam_drops_them(tmp_path: Path) -> None:
    path = tmp_path / "g.fa"
    path.write_bytes(b">a\nAC\n>empty\n>b\nGT\n")
    assert "empty" not in pysam.FastaFile(str(path)).references
    assert [c.name for c in scan_fasta(path).contigs] == ["a", "empty", "b"]


def test_a_missing_last_block_where_pysam_serves_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "g.fa.gz"
    text = b">a\n" + b"\n".join([b"ACGTACGTAC" * 6] * 20_000) + b"\n"
    cut = b"".join(bgzf_block(text[i : i + 65280]) for i in range(0, 10 * 65280, 65280))
    path.write_bytes(cut)
    assert 0 < pysam.FastaFile(str(path)).get_reference_length("a") < 1_200_000
    with pytest.raises(InputError, match="end-of-file block is missing") as caught:
        scan_fasta(path)
    assert caught.value.contig == "a"
    assert caught.value.position is not None


def test_a_flipped_bit_names_the_contig(tmp_path: Path) -> None:
    text = b">a\n" + b"ACGT" * 40_000 + b"\n>b\n" + b"GATTACA" * 40_000 + b"\n"
    data = bytearray(bgzf(text))
    data[-60] ^= 1
    with pytest.raises(InputError, match="damaged BGZF block") as caught:
        scan_bytes(tmp_path, bytes(data))
    assert caught.value.contig == "b"


@pytest.mark.parametrize("block", [1, 2, 3, 5, 8, 13, 64])
@pytest.mark.parametrize("case", [*GOOD, *BAD])
def test_block_borders_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, block: int) -> None:
    def outcome() -> object:
        try:
            scan, pieces = scan_bytes(tmp_path, {**GOOD, **BAD}[case][0])
        except InputError as error:
            return error.line, error.contig, error.position
        return scan.contigs, scan.n_runs.tolist(), pieces

    whole = outcome()
    monkeypatch.setattr(fasta, "_BLOCK", block)
    monkeypatch.setattr(fasta_parser, "_SMALL", 0)
    assert outcome() == whole


line = st.sampled_from(
    [b">a", b">b x", b">c\t", b"ACGT", b"ACG", b"acgN", b"RYKM", b"", b"AC GT", b"AC\r", b"AC-T", b">"]
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(line, max_size=9), st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_either_biopythons_bases_or_an_error(tmp_path: Path, lines: list[bytes], eol: bytes, last: bool) -> None:
    data = eol.join(lines) + (eol if last else b"")
    try:
        _, pieces = scan_bytes(tmp_path, data)
    except InputError:
        return
    text = io.StringIO(data.lstrip().decode(), newline=None)
    records = SeqIO.parse(text, "fasta")  # type: ignore[no-untyped-call]
    oracle = {record.id: str(record.seq).encode() for record in records}
    assert {name: bases.upper() for name, bases in pieces.items()} == {
        name: bases.translate(NORMALISE) for name, bases in oracle.items() if bases
    }


def test_random_genomes_come_back_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for width in (1, 59, 60, 61, 200_000, 10**9):
        truth = {
            f"c{i}": rng.choice(np.frombuffer(b"ACGTacgtNn", np.uint8), int(size)).tobytes()
            for i, size in enumerate([70_000, 60, 0, 61, 131_072 * (width > 1) + 1, 59])
        }
        text = b"".join(
            b">" + name.encode() + b"\n" + b"".join(s[i : i + width] + b"\n" for i in range(0, len(s), width))
            for name, s in truth.items()
        )
        for data in (text, text.replace(b"\n", b"\r\n"), bgzf(text), bgzf(text, 65536 if width > 1 else 300)):
            assert {"c2": b"", **scan_bytes(tmp_path, data)[1]} == truth


def test_many_contigs_take_seconds(tmp_path: Path) -> None:
    path = tmp_path / "many.fa"
    with open(path, "w") as handle:
        handle.writelines(f">contig_{i} length=700\n{'ACGTACGTAC' * 60}\n{'acgtn' * 20}\n" for i in range(20_000))
    scan = scan_fasta(path)
    assert len(scan.contigs) == 20_000
    assert scan.total == 14_000_000


def test_memory_does_not_grow_with_the_genome(tmp_path: Path) -> None:
    """One contig on one line, as some assemblies are written, must not be held."""
    path = tmp_path / "line.fa.gz"
    # One compressed block repeated: 200 Mbp in a small file.
    block = bgzf_block(b"ACGTACGT" * 8160)
    path.write_bytes(bgzf_block(b">a\n") + block * 3064 + EOF_BLOCK)
    largest = 0

    def sink(chunk: ContigChunk) -> None:
        nonlocal largest
        largest = max(largest, len(chunk.bases))

    assert scan_fasta(path, sink=sink).total == 3064 * 65280
    assert largest < 1 << 20
