"""Intervals: off-by-one errors move every result by a base and show nowhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval

positions = st.integers(-50, 50)
intervals = st.builds(
    lambda chrom, start, length, strand: Interval(chrom, start, start + length, strand),
    st.sampled_from(["a", "b"]),
    positions,
    st.integers(0, 40),
    st.sampled_from("+-."),
)


def bases(interval: Interval) -> set[tuple[str, int]]:
    return {(interval.chrom, i) for i in range(interval.start, interval.end)}


@settings(max_examples=200)
@given(intervals, intervals)
def test_overlap_and_containment_are_those_of_sets_of_bases(one: Interval, other: Interval) -> None:
    assert one.overlaps(other) == bool(bases(one) & bases(other))
    if other.length:
        assert one.contains(other) == (bases(other) <= bases(one))


@settings(max_examples=200)
@given(intervals, st.integers(0, 60))
def test_resize_keeps_the_centre_base_and_can_be_undone(interval: Interval, length: int) -> None:
    resized = interval.resize(length)
    assert resized.length == length
    assert resized.start + length // 2 == interval.start + interval.length // 2
    assert resized.resize(interval.length) == interval


@given(intervals, st.integers(0, 30))
def test_clip_keeps_exactly_the_bases_on_the_contig(interval: Interval, contig_length: int) -> None:
    clipped = interval.clip(contig_length)
    assert bases(clipped) == {b for b in bases(interval) if 0 <= b[1] < contig_length}
    assert 0 <= clipped.start <= clipped.end <= contig_length


@given(intervals, positions)
def test_shift_moves_along_the_forward_strand(interval: Interval, n: int) -> None:
    assert interval.shift(n) == Interval(interval.chrom, interval.start + n, interval.end + n, interval.strand)


@given(st.integers(0, 10**9), st.integers(1, 10**6), st.sampled_from("+-."))
def test_what_is_shown_reads_back(start: int, length: int, strand: str) -> None:
    interval = Interval("chr1", start, start + length, strand)
    assert Interval.parse(str(interval), {"chr1": 10**9}) == interval


def test_people_count_from_one_and_include_both_ends() -> None:
    assert str(Interval("chr1", 1000, 2000)) == "chr1:1001-2000(+)"
    assert Interval.parse("chr1:1,001-2,000", {"chr1": 5000}) == Interval("chr1", 1000, 2000)
    assert Interval.parse("chr1", {"chr1": 5000}) == Interval("chr1", 0, 5000)
    assert Interval.parse("chr1(-)", {"chr1": 5000}) == Interval("chr1", 0, 5000, "-")


def test_the_longest_contig_name_wins() -> None:
    contigs = {"HLA": 100, "HLA:1-3": 7, "HLA-A*01:01": 50}
    assert Interval.parse("HLA:1-3", contigs) == Interval("HLA:1-3", 0, 7)
    assert Interval.parse("HLA:1-3:2-4", contigs) == Interval("HLA:1-3", 1, 4)
    assert Interval.parse("HLA:2-3", contigs) == Interval("HLA", 1, 3)
    assert Interval.parse("HLA-A*01:01:2-3", contigs) == Interval("HLA-A*01:01", 1, 3)


@pytest.mark.parametrize("text", ["chr1:0-5", "chr1:5-4", "chr1:5", "chr1:-5-7", "chr1:1_0-20", "chr1:१-२", "chr2:1-2"])
def test_bad_ranges_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        Interval.parse(text, {"chr1": 100})


def test_bad_intervals_are_refused() -> None:
    with pytest.raises(ValueError, match="before its start"):
        Interval("chr1", 5, 4)
    with pytest.raises(ValueError, match="strand"):
        Interval("chr1", 4, 5, "x")
    with pytest.raises(ValueError, match="bp long"):
        Interval("chr1", 4, 5).resize(-1)
