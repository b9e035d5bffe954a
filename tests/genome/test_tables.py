"""Tables of labelled sequences and regions: rows that vanish, labels that are none, letters that are no bases."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.region_collector import Region
from hyena_dna.genome.tables import SequenceRow, read_table


def _write(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


BAD = [
    (43, "sequence,label\nACGT,\n", ":2: the label is missing"),
    (43, "sequence,label\nACGT,1\nACGT,nan\n", ":3: the label 'nan' is not a finite number"),
    (43, "sequence\nACGT\n", "0 columns are called 'label'"),
    (43, "sequence,label,split\nACGT,1,\n", ":2: the split is missing"),
    (46, "sequence,label\nACGT,1,2\n", ":2: 3 columns, but the header names 2"),
    (46, "sequence,label\nACGT\t1\n", ":2: 1 columns, but the header names 2"),
    (46, "sequence,sequence,label\nA,C,1\n", "2 columns are called 'sequence'"),
    (46, "ACGT,1\n", "the header names no column 'sequence'"),
    (48, 'sequence,label\nACGT,"1\nACGT,0\nACGT,"\n', ":2: the quoting is wrong"),
    (49, b"sequence,label\nACGT,\xff\n", ":2: not UTF-8 text at byte 20"),
    (50, "chrom,start,end,label\nchr1,1_0,20,a\n", ":2: the start '1_0' is not a whole number"),
    (38, "chrom,start,end,label\nchr1,1,2000,a\n", ":2: end 2000 > chr1 length 1000"),
    (41, "chrom,start,end,label\n1,1,20,a\n", ":2: '1' is not a contig of the genome"),
    (51, "chrom,start,end,label\nchr1,1,9,a\nchr1,1,9,b\n", ":3: the region has label 'b' here and 'a' in line 2"),
    (54, "", "the table is empty"),
    (54, "sequence,label\n", "the table has no rows"),
    (54, "chrom,start,end,label\n", "no regions"),
    (14, "sequence,label\nAC GT,1\n", ":2: ' ' at position 3 of the sequence is no base"),
    (31, "sequence,label\nACGT-,1\n", ":2: '-' at position 5"),
    (32, "sequence,label\nACGU,1\n", "RNA? give --rna"),
    (5, "sequence,label\nMKL,1\n", ":2: 'L' at position 3"),
    (5, "sequence,label\nACé,1\n", "'é' at position 3"),
    (5, "sequence,label\nAC漢,1\n", "'漢' at position 3"),
    (28, "sequence,label\n,1\n", ":2: the sequence is empty"),
]


@pytest.mark.parametrize(("row", "text", "message"), BAD, ids=[f"row{b[0]}-{i}" for i, b in enumerate(BAD)])
def test_bad_table_is_refused_with_its_line(tmp_path: Path, row: int, text: str | bytes, message: str) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_table(path, contigs={"chr1": 1000}, require_labels=True)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "sequence,label,split\nacgtRn,1,train\n",
        "sequence\tlabel\tsplit\r\nACGTNN\t1\ttrain\r\n",
        b"\xef\xbb\xbfsequence,label,split\nACGTNN,1,train\n",
        '"sequence","label","split"\n"ACGTNN","1","train"\n\n',
        "split,other,sequence,label\ntrain,x,ACGTNN,1\n",
    ],
)
def test_dialects_give_the_same_row(tmp_path: Path, text: str | bytes) -> None:
    rows = read_table(_write(tmp_path, text), require_labels=True).sequences
    assert [(r.name, r.sequence, r.label, r.split, r.line) for r in rows] == [("row1", b"ACGTNN", "1", "train", 2)]


def test_regions_by_column_names(tmp_path: Path) -> None:
    table = read_table(
        _write(tmp_path, "start\tend\tchrom\tstrand\tname\tkind\n5\t9\tchr1\t-\tx\ta\n"), label_column="kind"
    )
    assert table.regions == [Region(Interval("chr1", 5, 9, "-"), "x", "a", None, 2)]
    assert table.sequences == []


def test_sequence_longer_than_the_csv_modules_field_limit(tmp_path: Path) -> None:
    bases = "ACGT" * 50_000
    path = _write(tmp_path, f"sequence,label\n{bases},1\n")
    with open(path, encoding="utf-8") as handle, pytest.raises(csv.Error, match="field larger"):
        list(csv.reader(handle))
    assert len(read_table(path).sequences[0].sequence) == 200_000


def test_quoted_comma_is_part_of_its_field(tmp_path: Path) -> None:
    row = read_table(_write(tmp_path, 'name,sequence,label\n"a, ""b""",ACGT,1\n')).sequences[0]
    assert row == SequenceRow('a, "b"', b"ACGT", "1", None, 2)


def test_repeated_sequences_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "hyena_dna"):
        rows = read_table(_write(tmp_path, "sequence,label\nACGT,1\nacgt,0\nACGT,1\n")).sequences
    assert len(rows) == 3
    assert "2 sequences repeat an earlier one, 1 of them with another label" in caplog.text


def test_parquet_is_read_like_text(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"sequence": ["ACGT", "acgn"], "label": [1, 0]}), path)
    assert [(r.sequence, r.label, r.line) for r in read_table(path).sequences] == [(b"ACGT", "1", 1), (b"ACGN", "0", 2)]
    pq.write_table(pa.table({"chrom": ["chr1"], "start": [1], "end": [5], "label": [0.5]}), path)
    assert read_table(path).regions == [Region(Interval("chr1", 1, 5, "."), "chr1:1-5", "0.5", None, 1)]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"sequence": ["ACGT"], "label": [float("nan")]}, ":1: the label 'nan'"),
        ({"sequence": ["ACGT"], "label": pa.array([None], pa.int64())}, ":1: the label is missing"),
        ({"chrom": ["chr1"], "start": [1.5], "end": [5], "label": [1]}, ":1: the start '1.5'"),
        ({"chrom": ["chr1"], "start": [-1], "end": [5], "label": [1]}, ":1: the start '-1'"),
    ],
)
def test_bad_parquet_values(tmp_path: Path, columns: dict[str, object], message: str) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(InputError) as caught:
        read_table(path, require_labels=True)
    assert message in str(caught.value)


def test_text_that_is_called_parquet(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_text("sequence,label\nACGT,1\n")
    with pytest.raises(InputError, match="the Parquet file cannot be read"):
        read_table(path)


def test_damaged_parquet(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"sequence": ["ACGT"] * 100}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="Parquet file cannot be read"):
        read_table(path)


def test_real_benchmark(shared_data: Path) -> None:
    rows = read_table(shared_data / "gue" / "prom_prom_core_all" / "train.csv", require_labels=True).sequences
    assert len(rows) == 47356
    assert {len(row.sequence) for row in rows} == {70}
    assert {row.label for row in rows} == {"0", "1"}
