"""Tiling and batching: every position read, each counted once, nothing lost to batching."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dna.errors import InputError
from hyena_dna.inference.windows import (
    batches_by_length,
    check_overlap,
    longest_window,
    pad_rows,
    tile,
    tile_counts,
    variant_window,
)
from hyena_dna.model.config import HyenaConfig
from hyena_dna.tokenizer import PAD

lengths = st.integers(1, 3000)


@settings(max_examples=200, deadline=None)
@given(length=lengths, window=st.integers(1, 700), data=st.data())
def test_tiles_cover_every_position_and_speak_for_each_once(length: int, window: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, window - 1))
    tiles = tile(length, window, overlap)
    assert tiles[0][0] == 0
    assert tiles[-1][1] == length
    spoken = [0, *(end for _, end in tiles)]
    assert spoken == sorted(set(spoken)), "a tile adds nothing"
    for (start, end), (following, _) in itertools.pairwise(tiles):
        assert end - start == window
        assert end - following >= overlap, "neighbours share less than asked"
        assert following > start
    assert tile_counts(np.array([length]), window, overlap).tolist() == [len(tiles)]


def test_a_sequence_that_fits_is_one_tile() -> None:
    assert tile(100, 100, 10) == [(0, 100)]
    assert tile(1, 100) == [(0, 1)]


def test_the_last_tile_is_full() -> None:
    # A short last tile would give its positions next to no context.
    assert tile(250, 100) == [(0, 100), (100, 200), (150, 250)]
    assert tile(250, 100, 50) == [(0, 100), (50, 150), (100, 200), (150, 250)]


@pytest.mark.parametrize(("window", "overlap"), [(0, 0), (10, 10), (10, -1)])
def test_impossible_tilings(window: int, overlap: int) -> None:
    with pytest.raises(InputError):
        check_overlap(window, overlap)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.integers(1, 500), max_size=60),
    most=st.integers(1, 2000),
    cap=st.none() | st.integers(1, 7),
    multiple=st.sampled_from([1, 64]),
)
def test_batches_hold_every_row_once_within_their_bounds(
    rows: list[int], most: int, cap: int | None, multiple: int
) -> None:
    sizes = np.array(rows, np.int64)
    batches = batches_by_length(sizes, most, max_rows=cap, multiple=multiple)
    assert sorted(int(row) for batch in batches for row in batch) == list(range(len(rows)))
    for batch in batches:
        padded = -(-int(sizes[batch].max()) // multiple) * multiple * len(batch)
        assert len(batch) == 1 or padded <= most
        assert cap is None or len(batch) <= cap


def test_equal_lengths_keep_their_order() -> None:
    batches = batches_by_length(np.array([5, 9, 5, 9, 5]), 18)
    assert [batch.tolist() for batch in batches] == [[1, 3], [0, 2, 4]]


def test_rows_are_padded_on_the_right() -> None:
    ids, sizes = pad_rows([np.array([7, 8], np.uint8), np.array([9], np.uint8)])
    assert ids.tolist() == [[7, 8], [9, PAD]]
    assert sizes.tolist() == [2, 1]


def test_variant_window_is_all_of_the_context_but_short_on_a_cpu() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    long, short = (HyenaConfig(d_model=16, n_layer=1, max_length=n, filter_order=8) for n in (32_770, 514))
    assert [longest_window(config) for config in (long, short)] == [32_768, 512]
    assert [variant_window(config, None, cpu) for config in (long, short)] == [1024, 512]
    assert [variant_window(config, None, gpu) for config in (long, short)] == [32_768, 512]
    assert [variant_window(config, "max", cpu) for config in (long, short)] == [32_768, 512]
    assert variant_window(long, 8000, cpu) == 8000
    with pytest.raises(InputError, match=r"longer than the model's 512 .--window max"):
        variant_window(short, 513, gpu)
