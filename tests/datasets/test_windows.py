"""Windows: a pure function of seed and step, uniform, and exact about N and about the ends of segments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hyena_dna.datasets.segments import Segment, merge
from hyena_dna.datasets.windows import WindowBatch, WindowSampler, WindowSource, tile_windows
from hyena_dna.errors import InputError


@dataclass
class FakeStore:
    n_runs: NDArray[np.int64]


NO_N = FakeStore(np.empty((0, 2), dtype=np.int64))


def same(a: WindowBatch, b: WindowBatch) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("source", "start", "length", "reverse"))


def allowed(segments: list[Segment], n_runs: NDArray[np.int64], window: int, n_percent: int) -> set[tuple[int, int]]:
    """Every (start, length) that may be drawn, by looking at every base."""
    is_n = np.zeros(200, dtype=np.bool_)
    for start, end in n_runs:
        is_n[start:end] = True
    places = set()
    for segment in segments:
        length = min(segment.length, window + 1)
        for start in range(segment.start, segment.end - length + 1):
            if length > 1 and int(is_n[start : start + length].sum()) * 100 <= n_percent * length:
                places.add((start, length))
    return places


def spans(limit: int) -> st.SearchStrategy[list[Segment]]:
    pair = st.tuples(st.integers(0, limit), st.integers(1, 50))
    return st.lists(pair, max_size=6).map(lambda pairs: merge(Segment(a, a + b, "c") for a, b in pairs))


@settings(max_examples=150, deadline=None)
@given(spans(140), spans(140), st.integers(1, 60), st.integers(0, 100))
def test_every_allowed_start_counts_once_and_no_other(
    segments: list[Segment], runs: list[Segment], window: int, n_percent: int
) -> None:
    n_runs = np.array([(run.start, run.end) for run in runs], dtype=np.int64).reshape(-1, 2)
    expected = allowed(segments, n_runs, window, n_percent)
    source = WindowSource(FakeStore(n_runs), segments)
    if not expected:
        with pytest.raises(InputError, match="no place for a window"):
            WindowSampler([source], window=window, seed=0, max_n_fraction=n_percent / 100)
        return
    sampler = WindowSampler([source], window=window, seed=0, max_n_fraction=n_percent / 100)
    # As many places as brute force finds, and thousands of draws that all lie among them: together the same set.
    assert sampler.sizes.tolist() == [len(expected)]
    batch = sampler.sample(0, 5000)
    drawn = set(zip(batch.start.tolist(), batch.length.tolist(), strict=True))
    assert drawn <= expected
    if len(expected) < 100:
        assert drawn == expected


def test_starts_are_uniform() -> None:
    # Drawing a segment first and a start in it afterwards would prefer the starts of small segments.
    segments = [Segment(0, 50, "a"), Segment(60, 160, "a"), Segment(200, 208, "b"), Segment(300, 430, "c")]
    n_runs = np.array([[80, 90], [310, 311]])
    sampler = WindowSampler([WindowSource(FakeStore(n_runs), segments)], window=20, seed=7)
    starts = np.concatenate([sampler.sample(step, 4096).start for step in range(20)])
    _, counts = np.unique(starts, return_counts=True)
    places = int(sampler.sizes.sum())
    assert counts.size == places
    expected = starts.size / places
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    # Mean places - 1, standard deviation sqrt(2 (places - 1)).
    assert abs(chi_square - (places - 1)) < 4 * np.sqrt(2 * (places - 1))


def test_a_batch_is_a_function_of_seed_and_step_alone() -> None:
    source = WindowSource(NO_N, [Segment(0, 100_000, "a")])
    sampler = WindowSampler([source], window=100, seed=1)
    first = [sampler.sample(step, 64) for step in range(5)]
    # Another process, another order, steps asked for twice: what a resumed run and several workers do.
    again = WindowSampler([source], window=100, seed=1)
    assert all(same(again.sample(step, 64), first[step]) for step in (4, 0, 2, 2, 1, 3))
    assert len({tuple(batch.start.tolist()) for batch in first}) == 5
    for other in (
        WindowSampler([source], window=100, seed=2).sample(0, 64),
        WindowSampler([source], window=101, seed=1).sample(0, 64),
    ):
        assert np.count_nonzero(other.start == first[0].start) < 3


def test_workers_that_share_an_iterator_repeat_windows_and_steps_do_not() -> None:
    # The naive stream: every worker starts the same generator, and two workers give every window twice.
    def naive_worker() -> list[int]:
        rng = np.random.default_rng(0)
        return [int(start) for start in rng.integers(0, 10**9, 100)]

    assert len(set(naive_worker() + naive_worker())) == 100
    sampler = WindowSampler([WindowSource(NO_N, [Segment(0, 10**9, "a")])], window=100, seed=0)
    worker_a = [sampler.sample(step, 1).start[0] for step in range(0, 200, 2)]
    worker_b = [sampler.sample(step, 1).start[0] for step in range(1, 200, 2)]
    assert len({*worker_a, *worker_b}) == 200


def test_the_strand_is_a_fair_coin_and_can_be_fixed() -> None:
    source = WindowSource(NO_N, [Segment(0, 100_000, "a")])
    batch = WindowSampler([source], window=100, seed=3).sample(0, 10_000)
    assert abs(np.count_nonzero(batch.reverse) - 5000) < 200
    assert abs(np.corrcoef(batch.reverse, batch.start)[0, 1]) < 0.04
    forward = WindowSampler([source], window=100, seed=3, reverse_complement=False).sample(0, 10_000)
    assert not forward.reverse.any()
    assert np.array_equal(forward.start, batch.start)


def test_sources_are_drawn_by_size_or_by_weight() -> None:
    stretches = [Segment(0, 1100, "a")], [Segment(0, 3100, "a")]
    by_size = WindowSampler([WindowSource(NO_N, segments) for segments in stretches], window=100, seed=0)
    assert by_size.weights.tolist() == [0.25, 0.75]
    shares = np.bincount(by_size.sample(0, 20_000).source) / 20_000
    np.testing.assert_allclose(shares, [0.25, 0.75], atol=0.015)

    sources = [WindowSource(NO_N, segments, weight) for segments, weight in zip(stretches, (3, 1), strict=True)]
    batch = WindowSampler(sources, window=100, seed=0).sample(0, 20_000)
    np.testing.assert_allclose(np.bincount(batch.source) / 20_000, [0.75, 0.25], atol=0.015)
    assert batch.start[batch.source == 0].max() < 1000 <= batch.start[batch.source == 1].max()


def test_short_segments_give_padded_windows_and_single_bases_none() -> None:
    segments = [Segment(0, 30, "read1"), Segment(30, 31, "read2"), Segment(31, 33, "read3")]
    batch = WindowSampler([WindowSource(NO_N, segments)], window=100, seed=0).sample(0, 100)
    assert set(zip(batch.start.tolist(), batch.length.tolist(), strict=True)) == {(0, 30), (31, 2)}


def test_bad_arguments_are_refused() -> None:
    source = WindowSource(NO_N, [Segment(0, 1000, "a")])
    for seed, window, max_n_fraction, reason in [
        (-1, 100, 0.0, "seed"),
        (2**64, 100, 0.0, "seed"),
        (0, 0, 0.0, "at least 1 bp"),
        (0, 100, 1.5, "share of N"),
        (0, 100, float("nan"), "share of N"),
    ]:
        with pytest.raises(InputError, match=reason):
            WindowSampler([source], window=window, seed=seed, max_n_fraction=max_n_fraction)
    with pytest.raises(InputError, match="no sequence"):
        WindowSampler([], window=100, seed=0)
    with pytest.raises(InputError, match="step"):
        WindowSampler([source], window=100, seed=0).sample(-1, 1)
    for weights in ((1.0, None), (1.0, 0.0), (1.0, float("nan"))):
        with pytest.raises(InputError, match="weight"):
            WindowSampler([WindowSource(NO_N, source.segments, w) for w in weights], window=100, seed=0)


def test_validation_windows_predict_every_base_once() -> None:
    segments = [Segment(0, 101, "a"), Segment(200, 235, "b"), Segment(300, 304, "c"), Segment(310, 311, "d")]
    batch = tile_windows(segments, 10, 1000, source=2)
    targets = [
        position
        for start, length in zip(batch.start.tolist(), batch.length.tolist(), strict=True)
        for position in range(start + 1, start + length)
    ]
    # All of the first segment; 30 of the second, whose rest is dropped; the third as one padded window.
    assert targets == [*range(1, 101), *range(201, 231), *range(301, 304)]
    assert batch.source.tolist() == [2] * len(batch)
    assert not batch.reverse.any()


def test_validation_windows_are_thinned_evenly() -> None:
    batch = tile_windows([Segment(0, 10_001, "a")], 10, 100)
    assert batch.start.tolist() == list(range(0, 10_000, 100))
    few = tile_windows([Segment(0, 10_001, "a")], 10, 7)
    assert len(few) == 7
    assert np.ptp(np.diff(few.start)) <= 10


def test_validation_windows_of_n_are_left_out_before_thinning() -> None:
    n_runs = np.array([[0, 500]])
    batch = tile_windows([Segment(0, 1001, "a")], 10, 10, n_runs=n_runs)
    assert batch.start.tolist() == list(range(500, 1000, 50))
    with pytest.raises(InputError, match="no place"):
        tile_windows([Segment(0, 400, "a")], 10, 10, n_runs=n_runs)
    with pytest.raises(InputError, match="at least one window"):
        tile_windows([Segment(0, 400, "a")], 10, 0)


def test_batches_can_be_cut_and_joined() -> None:
    batch = tile_windows([Segment(0, 1001, "a")], 10, 100)
    assert same(WindowBatch.concatenate([batch[:30], batch[30:]]), batch)
    assert len(batch[90:200]) == 10
