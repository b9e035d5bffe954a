"""BED files: every way in which a region file is wrong without looking wrong."""

from __future__ import annotations

import csv
import gzip
import logging
from pathlib import Path

import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.regions import Region, read_regions

CONTIGS = {"chr1": 1000, "chr2": 500, "HLA": 50, "HLA:1-3": 60}


def _write(folder: Path, text: str | bytes, name: str = "r.bed") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# catalogue row, file, message
BAD = [
    (38, "chr1\t0\t1200\n", ":1: end 1200 > chr1 length 1000"),
    (38, "chr1\t0\t5\nchr1\t2000\t2100\n", ":2: end 2100 > chr1 length 1000"),
    (39, "chr1\t10\t5\n", ":1: the region is empty: start 10 is not before end 5"),
    (39, "chr1\t-5\t10\n", ":1: the start '-5' is not a whole number"),
    (40, "chr1\t10\t10\n", "look 1-based"),
    (40, "chr1\t900\t1001\n", "look 1-based"),
    (40, "chr1:10-20\n", "CONTIG:START-END, which is 1-based"),
    (40, "##gff-version 3\nchr1\ta\tgene\t1\t10\t.\t+\t.\tID=x\n", ":1: this looks like GFF"),
    (40, "chr1\thavana\tgene\t1\t10\t.\t+\t.\tID=x\n", ":1: this looks like GFF"),
    (41, "chr1\t1\t2\nchrX\t1\t2\nchrX\t3\t4\n", ":2: 'chrX' is not a contig of the genome: 2 regions lie"),
    (41, "1\t1\t2\n", "no region on a known contig (the genome calls it 'chr1'"),
    (46, "chr1\t1\n", ":1: 2 columns, but a region has at least 3"),
    (46, "chr1\t1\t2\ta\nchr1\t1\t2\n", ":2: 3 columns where there were 4"),
    (46, "chr1 1 2\n", "separated by blanks"),
    (46, "chr1,1,2\n", "separated by commas"),
    (46, "chr1\t1\t2\nchr1,3,4\n", ":2: 1 columns where there were 3"),
    (46, "chr1\t1\t2\ta\t0\tplus\n", "the strand 'plus'"),
    (46, "\t1\t2\n", "contig name is empty"),
    (46, ">chr1\nACGT\n", "looks like a FASTA file"),
    (46, "##fileformat=VCFv4.2\n", "looks like a VCF file"),
    (47, "chr1\t1\t2\rchr1\t3\t4\r", "carriage return"),
    (49, b"chr1\t1\t2\nchr1\t3\t4\t\xff\n", ":2: not UTF-8 text at byte 18"),
    (50, "chr1\t1_0\t20\n", "start '1_0' is not a whole number"),
    (50, "chr1\t१\t20\n", "is not a whole number"),
    (50, "chr1\t1e1\t20\n", "start '1e1'"),
    (50, "chr1\t 1\t20\n", "start ' 1'"),
    (50, "chr1\t+1\t20\n", "start '+1'"),
    (50, "chr1\t1\t20 \n", "end '20 '"),
    (50, "chr1\t1\t" + "9" * 5000 + "\n", "is not a whole number"),
    (54, "", "no regions"),
    (54, "# only\ntrack name=x\nbrowser position\n\n", "no regions"),
    (54, "chrom\tstart\tend\n", "no regions"),
]


@pytest.mark.parametrize(("row", "text", "message"), BAD, ids=[f"row{b[0]}-{i}" for i, b in enumerate(BAD)])
def test_bad_file_is_refused_with_its_line(tmp_path: Path, row: int, text: str | bytes, message: str) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_regions(path, contigs=CONTIGS)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


BAD_LABELS = [
    (43, "chr1\t1\t2\n", ":1: the label is missing"),
    (43, "chr1\t1\t2\t\n", ":1: the label is missing"),
    (43, "chr1\t1\t2\t.\n", ":1: the label is missing"),
    (43, "chr1\t1\t2\ta\nchr1\t3\t4\tNaN\n", ":2: the label 'NaN' is not a finite number"),
    (43, "chr1\t1\t2\t-inf\n", "the label '-inf' is not a finite number"),
    (51, "chr1\t1\t2\ta\nchr1\t1\t2\tb\n", ":2: the region has label 'b' here and 'a' in line 1"),
]


@pytest.mark.parametrize(("row", "text", "message"), BAD_LABELS)
def test_labels_to_learn_from_are_checked_and_names_are_not(tmp_path: Path, row: int, text: str, message: str) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_regions(path, contigs=CONTIGS, require_labels=True)
    assert message in str(caught.value)
    assert read_regions(path, contigs=CONTIGS)


def test_missing_label_column_is_refused_with_the_columns(tmp_path: Path) -> None:
    path = _write(tmp_path, "#chrom\tstart\tend\tclass\nchr1\t1\t2\ta\n")
    assert read_regions(path, label_column="class")[0].label == "a"
    for column, message in (
        ("clas", "0 columns are called 'clas' (the columns are chrom, start, end, class)"),
        (9, "9"),
    ):
        with pytest.raises(InputError) as caught:
            read_regions(path, label_column=column)
        assert message in str(caught.value)
    with pytest.raises(InputError, match="no header to find column 'x' in"):
        read_regions(_write(tmp_path, "chr1\t1\t2\ta\n"), label_column="x")


def test_every_column_has_its_meaning(tmp_path: Path) -> None:
    path = _write(tmp_path, "chr1\t1\t20\tpeak\t960\t-\t1\t2\t0\ttrain\nchr2\t0\t500\t.\t0\t.\t1\t2\t0\ttest\n")
    assert read_regions(path, contigs=CONTIGS, label_column=9, split_column="10") == [
        Region(Interval("chr1", 1, 20, "-"), "peak", "0", "train", 1),
        Region(Interval("chr2", 0, 500, "."), "chr2:0-500", "0", "test", 2),
    ]


def test_sixth_column_is_no_strand_where_it_is_the_split(tmp_path: Path) -> None:
    path = _write(tmp_path, "chr1\t1\t20\ta\t0\ttrain\n")
    assert read_regions(path, split_column=6)[0].interval.strand == "."
    header = _write(tmp_path, "chrom\tstart\tend\tlabel\tfold\tsplit\nchr1\t1\t20\ta\t0\ttrain\n", "h.bed")
    region = read_regions(header)[0]
    assert (region.interval.strand, region.label, region.split, region.line) == (".", "a", "train", 2)


def test_comments_line_ends_compression_and_byte_order_mark_change_nothing(tmp_path: Path) -> None:
    plain = "chr1\t1\t2\ta\nchr1\t3\t4\tb\n"
    expected = [(r.interval, r.name) for r in read_regions(_write(tmp_path, plain))]
    bgzip = tmp_path / "b.bed.gz"
    with pysam.BGZFile(str(bgzip), "w", None) as handle:
        handle.write(plain.encode())
    variants = [
        _write(tmp_path, "# x\ntrack name=t\nbrowser hide all\n" + plain + "\n\n", "1"),
        _write(tmp_path, plain.replace("\n", "\r\n"), "2"),
        _write(tmp_path, plain.rstrip("\n"), "3"),
        _write(tmp_path, b"\xef\xbb\xbf" + plain.encode(), "4"),
        _write(tmp_path, gzip.compress(plain.encode()), "5.bed.gz"),
        bgzip,
    ]
    for path in variants:
        assert [(r.interval, r.name) for r in read_regions(path)] == expected, path.name


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(_write(tmp_path, gzip.compress(b"chr1\t1\t2\n"))) as handle:
        monkeypatch.setattr("sys.stdin", handle)
        assert read_regions("-")[0].interval == Interval("chr1", 1, 2, ".")


def test_truncated_compressed_file_is_not_a_shorter_file(tmp_path: Path) -> None:
    text = b"".join(b"chr1\t%d\t%d\n" % (i, i + 1) for i in range(30000))
    whole = gzip.compress(text)
    with pytest.raises(InputError, match="damaged or truncated"):
        read_regions(_write(tmp_path, whole[: len(whole) // 2], "a.bed.gz"))
    bgzip = tmp_path / "b.bed.gz"
    with pysam.BGZFile(str(bgzip), "w", None) as handle:
        handle.write(text)
    cut = _write(tmp_path, bgzip.read_bytes()[:-28], "c.bed.gz")
    assert (
        gzip.decompress(cut.read_bytes()) == text
    )  # the gzip module cannot tell that the end-of-file block is missing
    with pytest.raises(InputError, match="end-of-file block is missing"):
        read_regions(cut)


def test_quotes_swallow_no_lines(tmp_path: Path) -> None:
    path = _write(tmp_path, 'chr1\t1\t2\t"a\nchr1\t3\t4\tb\nchr1\t5\t6\tc"\n')
    with open(path, encoding="utf-8", newline="") as handle:
        assert len(list(csv.reader(handle, delimiter="\t"))) == 1  # the naive reader loses two of three
    assert [region.name for region in read_regions(path)] == ['"a', "b", 'c"']


def test_line_without_end_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=":1: the line is longer than 1,048,576 bytes"):
        read_regions(_write(tmp_path, gzip.compress(b"A" * (64 << 20)), "bomb.gz"))


def test_clip_cuts_ends_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "hyena_dna"):
        regions = read_regions(_write(tmp_path, "chr1\t900\t1200\n"), contigs=CONTIGS, clip=True)
    assert regions[0].interval.end == 1000
    assert "1 regions were cut" in caplog.text
    with pytest.raises(InputError, match="end 1200 > chr1 length 1000"):
        read_regions(_write(tmp_path, "chr1\t1000\t1200\n"), contigs=CONTIGS, clip=True)


def test_repeated_regions_stay_and_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "hyena_dna"):
        regions = read_regions(_write(tmp_path, "chr1\t1\t2\ta\n" * 3), require_labels=True)
    assert len(regions) == 3
    assert "2 regions are there more than once" in caplog.text


def test_contig_names_are_opaque(tmp_path: Path) -> None:
    regions = read_regions(_write(tmp_path, "HLA:1-3\t55\t60\nHLA\t1\t3\n"), contigs=CONTIGS)
    assert [region.interval.chrom for region in regions] == ["HLA:1-3", "HLA"]


@pytest.mark.parametrize("name", ["absent.bed", "."])
def test_unreadable_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_regions(tmp_path / name)


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_regions(_write(tmp_path, "\x1b[2J\t1\t2\n"), contigs=CONTIGS)
    assert "\x1b" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | st.text('chr1\t 0129.-+#\r\n"é', max_size=80).map(str.encode))
def test_any_bytes_give_regions_inside_the_contig_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = _write(tmp_path_factory.getbasetemp(), data, "fuzz.bed")
    try:
        regions = read_regions(path, contigs=CONTIGS)
    except InputError:
        return
    assert regions
    assert all(0 <= r.interval.start < r.interval.end <= CONTIGS[r.interval.chrom] for r in regions)


def test_real_elements(shared_data: Path) -> None:
    regions = read_regions(shared_data / "ce10" / "regulatory_elements.bed", require_labels=True)
    assert len(regions) == 32982
    assert len({region.label for region in regions}) == 5
