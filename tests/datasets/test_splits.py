"""Splits: no held-out base in training, and no silent choice."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hyena_dna.datasets.segments import NCounter, Segment, merge, subtract
from hyena_dna.datasets.splits import Splits, by_contigs, by_regions, check_no_leak, read_folds
from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval


@dataclass
class FakeStore:
    """Contigs back to back, without tokens."""

    contigs: dict[str, int]
    n_runs: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), dtype=np.int64))

    @property
    def offsets(self) -> dict[str, int]:
        ends = np.cumsum(list(self.contigs.values()))
        return {name: int(end) - self.contigs[name] for name, end in zip(self.contigs, ends, strict=True)}


@dataclass
class FakeRegion:
    interval: Interval
    split: str | None


WORM = FakeStore({"chrI": 15_072, "chrII": 15_279, "chrIII": 13_784, "chrIV": 17_494, "chrM": 14, "chrX": 17_719})


def names(segments: list[Segment]) -> list[str]:
    return [segment.chrom for segment in segments]


def bases(segments: list[Segment]) -> set[int]:
    return {position for segment in segments for position in range(segment.start, segment.end)}


def test_contigs_become_segments_in_store_coordinates() -> None:
    splits = by_contigs(WORM, val_contigs=["chrII"], test_contigs=["chr[MX]"])
    assert splits.val == [Segment(15_072, 15_072 + 15_279, "chrII")]
    assert names(splits.test) == ["chrM", "chrX"]
    assert names(splits.train) == ["chrI", "chrIII", "chrIV"]
    assert splits.description.startswith("validation: chrII, as asked; test: chrM, chrX")


def test_neighbouring_contigs_are_never_joined() -> None:
    # A window across the junction of two contigs is a sequence that does not exist.
    splits = by_contigs(FakeStore({"a": 10, "b": 10, "c": 80}), val_contigs=["c"])
    assert splits.train == [Segment(0, 10, "a"), Segment(10, 20, "b")]


def test_only_kept_contigs_are_used() -> None:
    splits = by_contigs(WORM, ["chrIV", "chrI", "chrX"], val_contigs=["chrX"])
    assert names(splits.train) == ["chrI", "chrIV"]
    with pytest.raises(InputError, match=r"no contig in use matches 'chrM'.*named like"):
        by_contigs(WORM, ["chrI", "chrX"], val_contigs=["chrM"])
    with pytest.raises(InputError, match="no contig 'chr1'"):
        by_contigs(WORM, ["chr1"])


def test_a_name_is_not_a_glob() -> None:
    store = FakeStore({"HLA*01": 50, "HLA*01:01": 50})
    assert names(by_contigs(store, val_contigs=["HLA*01"]).val) == ["HLA*01"]


def test_patterns_without_a_match_and_double_use_are_refused() -> None:
    with pytest.raises(InputError, match=r"no contig in use matches 'chr22', which was asked for validation"):
        by_contigs(WORM, val_contigs=["chr22"])
    with pytest.raises(InputError, match="'chrX' is chosen for validation and for testing"):
        by_contigs(WORM, val_contigs=["chr[IX]"], test_contigs=["chrX"])
    with pytest.raises(InputError, match="nothing is left for training"):
        by_contigs(WORM, val_contigs=["chrI*"], test_contigs=["chr[MX]"])


@pytest.mark.parametrize(
    ("sizes", "expected", "reason"),
    [
        ({"only": 1000}, [(900, 1000)], "the last 10% of only"),
        ({"big": 1000, "plasmid": 20}, [(900, 1000)], "the last 10% of big"),
        ({"a": 500, "b": 60, "c": 100, "d": 340}, [(500, 560)], "b, the contig nearest to 7.5%"),
        ({f"s{i}": 10 for i in range(100)}, [(0, 50)], "the 5 largest contigs (5.0%)"),
        ({"a": 480, "b": 440, "c": 10, "d": 40, "e": 30}, [(930, 1000)], "the 2 largest below 5%"),
    ],
)
def test_default_validation_set(sizes: dict[str, int], expected: list[tuple[int, int]], reason: str) -> None:
    splits = by_contigs(FakeStore(sizes))
    covered = bases([Segment(start, end, "") for start, end in expected])
    assert bases(splits.val) == covered
    assert bases(splits.train) == set(range(sum(sizes.values()))) - covered
    assert reason in splits.description


def test_default_validation_set_counts_known_bases_only() -> None:
    # The last tenth of a contig that ends in N would be a validation set of nothing.
    store = FakeStore({"only": 1000}, np.array([[0, 100], [300, 1000]]))
    assert by_contigs(store).val == [Segment(280, 1000, "only")]
    with pytest.raises(InputError, match="no base but N"):
        by_contigs(FakeStore({"only": 10}, np.array([[0, 10]])))


def test_excluded_intervals_leave_every_split() -> None:
    exclude = [Interval("chrI", 100, 200, "-"), Interval("chrII", 0, 15_000), Interval("chrI", 150, 300)]
    splits = by_contigs(WORM, val_contigs=["chrII"], exclude=exclude)
    assert splits.train[:2] == [Segment(0, 100, "chrI"), Segment(300, 15_072, "chrI")]
    assert splits.val == [Segment(30_072, 30_351, "chrII")]
    assert "excluded: 15,200 bp" in splits.description
    with pytest.raises(InputError, match="beyond its contig"):
        by_contigs(WORM, exclude=[Interval("chrM", 0, 15)])
    with pytest.raises(InputError, match="nothing is left for validation"):
        by_contigs(WORM, val_contigs=["chrM"], exclude=[Interval("chrM", 0, 14)])


def test_regions_leave_the_rest_of_the_genome_for_training() -> None:
    store = FakeStore({"a": 100, "b": 100})
    regions = [
        FakeRegion(Interval("a", 10, 20), "valid"),
        FakeRegion(Interval("a", 15, 30), "test"),
        FakeRegion(Interval("b", 0, 50, "-"), "dev"),
    ]
    splits = by_regions(store, regions)
    assert splits.val == [Segment(10, 15, "a"), Segment(100, 150, "b")]
    assert splits.test == [Segment(15, 30, "a")]
    assert splits.train == [Segment(0, 10, "a"), Segment(30, 100, "a"), Segment(150, 200, "b")]
    assert names(by_regions(store, regions, contigs=["a"]).train) == ["a", "a"]


def test_named_training_regions_lose_what_is_held_out() -> None:
    regions = [FakeRegion(Interval("a", 0, 60), "train"), FakeRegion(Interval("a", 50, 70), "val")]
    splits = by_regions(FakeStore({"a": 100}), regions)
    assert splits.train == [Segment(0, 50, "a")]


@pytest.mark.parametrize(
    ("split", "chrom", "reason"),
    [
        (None, "a", "has no split"),
        ("fold1", "a", "unknown split 'fold1'"),
        ("train", "a", "no region is for validation"),
        ("val", "zz", "no contig 'zz'"),
        ("val", "a", "nothing is left for training"),
    ],
)
def test_regions_that_do_not_make_a_split_are_refused(split: str | None, chrom: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        by_regions(FakeStore({"a": 100}), [FakeRegion(Interval(chrom, 0, 100), split)])


def test_a_leak_is_found() -> None:
    clean = Splits([Segment(0, 10, "a")], [Segment(10, 20, "a")], [Segment(20, 30, "a")], "")
    check_no_leak(clean)
    leaky = Splits([Segment(0, 100, "a")], [Segment(150, 160, "a")], [Segment(40, 41, "a")], "")
    with pytest.raises(InputError, match="a segment of train overlaps one of test"):
        check_no_leak(leaky)


segments = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 15)), max_size=8).map(
    lambda pairs: [Segment(start, start + length, "a") for start, length in pairs]
)


@settings(max_examples=100, deadline=None)
@given(segments, segments)
def test_interval_arithmetic_agrees_with_sets(kept: list[Segment], holes: list[Segment]) -> None:
    result = subtract(kept, holes)
    assert bases(result) == bases(kept) - bases(holes)
    assert merge(result) == result
    assert all(segment.length > 0 for segment in result)


@settings(max_examples=50, deadline=None)
@given(segments)
def test_n_counter_agrees_with_counting(runs: list[Segment]) -> None:
    is_n = np.zeros(80, dtype=np.int64)
    for run in merge(runs):
        is_n[run.start : run.end] = 1
    counter = NCounter(np.array([(run.start, run.end) for run in merge(runs)], dtype=np.int64).reshape(-1, 2))
    starts, ends = np.triu_indices(80)
    expected = [int(is_n[start:end].sum()) for start, end in zip(starts, ends, strict=True)]
    assert counter.count(starts, ends).tolist() == expected


def test_folds_name_contigs(tmp_path: Path) -> None:
    path = tmp_path / "folds.json"
    path.write_text(json.dumps({"train": ["chrI", "chrIV"], "valid": ["chrII"], "test": ["chrX"]}))
    folds = read_folds(path)
    splits = by_contigs(WORM, [*folds.train, *folds.val, *folds.test], folds.val, folds.test)
    assert [names(splits.train), names(splits.val), names(splits.test)] == [["chrI", "chrIV"], ["chrII"], ["chrX"]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "cannot read"),
        ("[]", "not a JSON object"),
        ('{"fold1": []}', "unknown split 'fold1'"),
        ('{"train": "chrI"}', "not a list"),
        ('{"train": ["a"], "val": ["a"]}', "named twice"),
        ('{"train": ["a"], "train": ["b"]}', "given twice"),
    ],
)
def test_folds_that_cannot_be_meant_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "folds.json"
    path.write_text(text)
    with pytest.raises(InputError, match=reason):
        read_folds(path)
