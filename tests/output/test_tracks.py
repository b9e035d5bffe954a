"""Tracks are read back with independent readers: the same numbers at the same bases."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pysam
import pytest

from hyena_dna.errors import InputError
from hyena_dna.output.tracks import Stretch, check_track, write_track

pybigtools = pytest.importorskip("pybigtools", reason="bigWig needs hyena-dna[tracks]")

CONTIGS = {"chr2": 70_000, "chr10": 500, "chrM": 10}
VALUES = np.random.default_rng(0).normal(size=70_000).astype(np.float32)


def stretches() -> Iterator[Stretch]:
    gap = VALUES[:66_000].copy()
    gap[10:15] = np.nan
    yield Stretch.per_base("chr2", 5, gap)
    yield Stretch.per_base("chr2", 66_100, np.full(3, np.nan))
    yield Stretch.per_base("chr10", 499, VALUES[:1])
    yield Stretch("chrM", np.array([0, 4]), np.array([4, 10]), np.array([1.5, -2.0]))


@pytest.mark.parametrize("name", ["t.bw", "t.bigWig", "t.BIGWIG"])
def test_a_bigwig_has_every_number_at_its_base(tmp_path: Path, name: str) -> None:
    assert write_track(tmp_path / name, CONTIGS, stretches()) == 66_000 - 5 + 1 + 10
    os.rename(tmp_path / name, tmp_path / "read.bw")
    track = pybigtools.open(str(tmp_path / "read.bw"))
    assert track.chroms() == CONTIGS
    found = track.values("chr2", fillna=None)
    expected = np.full(70_000, np.nan)
    expected[5:66_005] = VALUES[:66_000]
    expected[15:20] = np.nan
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(track.values("chr10", 498, 500, fillna=None), [np.nan, VALUES[0]])
    np.testing.assert_array_equal(track.values("chrM", fillna=None), [1.5] * 4 + [-2.0] * 6)
    assert [path.name for path in tmp_path.iterdir()] == ["read.bw"]


@pytest.mark.parametrize("name", ["t.bedGraph", "t.bedgraph.gz"])
def test_a_bedgraph_has_the_same_numbers_and_an_index(tmp_path: Path, name: str) -> None:
    write_track(tmp_path / name, CONTIGS, stretches())
    if name.endswith(".gz"):
        with pysam.TabixFile(str(tmp_path / name)) as handle:
            rows = [row.split("\t") for row in handle.fetch("chr2", 65_000, 65_002)]
            last = list(handle.fetch("chrM"))
    else:
        lines = [line.split("\t") for line in (tmp_path / name).read_text().splitlines()]
        rows = [row for row in lines if row[0] == "chr2" and 65_000 <= int(row[1]) < 65_002]
        last = ["\t".join(row) for row in lines if row[0] == "chrM"]
    assert [row[1:3] for row in rows] == [["65000", "65001"], ["65001", "65002"]]
    np.testing.assert_allclose([float(row[3]) for row in rows], VALUES[64_995:64_997], rtol=1e-6)
    assert last == ["chrM\t0\t4\t1.5", "chrM\t4\t10\t-2"]


def per_base(chrom: str, start: int, size: int, value: float = 1.0) -> Stretch:
    return Stretch.per_base(chrom, start, np.full(size, value))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([per_base("chr2", 0, 5), per_base("chr2", 4, 5)], "overlap"),
        ([per_base("chr10", 0, 5), per_base("chr2", 4, 5)], "out of order"),
        ([per_base("chr3", 0, 5)], "unknown"),
        ([per_base("chr10", 490, 11)], "beyond the end"),
        ([per_base("chr2", 0, 5, np.nan)], "no base has a value"),
        ([per_base("chr2", 0, 5, np.inf)], "infinite"),
        ([], "no base has a value"),
    ],
)
@pytest.mark.parametrize("suffix", [".bw", ".bedgraph", ".bedgraph.gz"])
def test_what_is_no_track_is_refused_and_leaves_nothing(
    tmp_path: Path, bad: list[Stretch], message: str, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=message):
        write_track(tmp_path / f"t{suffix}", CONTIGS, bad)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().err == ""


def test_suffixes_are_checked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="written as one of"):
        check_track(tmp_path / "t.wig")
    monkeypatch.setitem(sys.modules, "pybigtools", None)
    check_track(tmp_path / "t.bedgraph")
    with pytest.raises(InputError, match=r"pip install 'hyena-dna\[tracks\]'"):
        check_track(tmp_path / "t.bw")


def test_an_interruption_while_numbers_are_made_is_passed_on(tmp_path: Path) -> None:
    def interrupted() -> Iterator[Stretch]:
        yield per_base("chr2", 0, 5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_track(tmp_path / "t.bw", CONTIGS, interrupted())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".bw", ".bedgraph", ".bedgraph.gz"])
def test_a_full_disk_is_one_line(small_disk: Path, suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="No space left on device"):
        write_track(small_disk / f"t{suffix}", CONTIGS, [Stretch.per_base("chr2", 0, VALUES)])
    assert not list(small_disk.iterdir())
    assert capfd.readouterr().err == ""
