"""Pooling: which positions count, and that each counts once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dna.errors import InputError
from hyena_dna.inference.inputs import Chunk, Row, sequence_chunks
from hyena_dna.inference.pooling import Pool, combine, cut_pieces, parse_pool, pool_tiles
from hyena_dna.inference.tiling import tile_chunk


def chunk_of(lengths: list[int]) -> Chunk:
    (chunk,) = sequence_chunks((Row(None, 0, length, f"s{length}", "."), b"A" * length) for length in lengths)
    return chunk


@pytest.mark.parametrize(
    "text", ["mean", "last", "max", "mean+max", "mean+std", "moments:64", "none", "center:32", "bins:8"]
)
def test_pools_are_read_back_as_written(text: str) -> None:
    assert str(parse_pool(text)) == text


@pytest.mark.parametrize("text", ["", "median", "center", "center:0", "bins:-1", "bins:1.5", "mean:3", "center:x"])
def test_unknown_pools_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="center:N"):
        parse_pool(text)


@settings(max_examples=100, deadline=None)
@given(
    lengths=st.lists(st.integers(8, 200), min_size=1, max_size=6),
    window=st.integers(2, 90),
    data=st.data(),
    pool=st.sampled_from([Pool("mean"), Pool("bins", 3), Pool("bins", 8), Pool("max"), Pool("none")]),
)
def test_every_position_counts_once_on_each_strand(
    lengths: list[int], window: int, data: st.DataObject, pool: Pool
) -> None:
    overlap = data.draw(st.integers(0, window - 1))
    chunk = chunk_of(lengths)
    tiles = tile_chunk(chunk, window, overlap, strands=2)
    pieces = cut_pieces(pool, chunk, tiles)
    counted = [np.zeros((2, length), int) for length in lengths]
    sizes: dict[int, int] = {}
    for tile, low, high, slot in zip(pieces.tile, pieces.low, pieces.high, pieces.slot, strict=True):
        start = tiles.start[tile]
        assert start + high <= tiles.end[tile]
        counted[tiles.record[tile]][tiles.passes[tile], start + low : start + high] += 1
        sizes[int(slot)] = sizes.get(int(slot), 0) + int(high - low)
    assert all((count == 1).all() for count in counted)
    if pool.kind == "bins":
        assert len(sizes) == 2 * len(lengths) * pool.size
        per_record = np.array([sizes[slot] for slot in sorted(sizes)]).reshape(2, len(lengths), pool.size)
        assert (per_record[0] == per_record[1]).all(), "the strands cut different bins"
        assert (np.ptp(per_record, axis=2) <= 1).all()


def test_the_centre_is_the_same_bases_on_both_strands() -> None:
    chunk = chunk_of([11, 10, 30])
    tiles = tile_chunk(chunk, 16, 4, strands=2)
    pieces = cut_pieces(Pool("center", 4), chunk, tiles)
    bases: dict[tuple[int, int], set[int]] = {}
    for tile, low, high in zip(pieces.tile, pieces.low, pieces.high, strict=True):
        record, passes = int(tiles.record[tile]), int(tiles.passes[tile])
        places = np.arange(tiles.start[tile] + low, tiles.start[tile] + high)
        along = chunk.lengths[record] - 1 - places if passes else places
        bases.setdefault((record, passes), set()).update(along.tolist())
    assert bases[0, 0] == bases[0, 1] == {3, 4, 5, 6}
    assert bases[1, 0] == bases[1, 1] == {3, 4, 5, 6}
    assert bases[2, 0] == bases[2, 1] == {13, 14, 15, 16}


def test_fewer_bases_than_bins_name_the_record() -> None:
    chunk = chunk_of([20, 5])
    with pytest.raises(InputError, match="'s5' has 5 bp"):
        cut_pieces(Pool("bins", 6), chunk, tile_chunk(chunk, 100, 0, strands=1))


def test_sums_are_float32_even_where_the_model_computes_in_bfloat16() -> None:
    # Four thousand and one ones are four thousand in bfloat16.
    hidden = torch.ones(1, 4001, 2, dtype=torch.bfloat16)
    assert hidden.sum(1)[0, 0].item() != 4001
    whole = torch.tensor([0]), torch.tensor([0]), torch.tensor([4001])
    assert pool_tiles(Pool("mean"), hidden, *whole, single=True).tolist() == [[4001.0, 4001.0]]


def test_segments_equal_slices() -> None:
    hidden = torch.randn(3, 10, 4)
    row, low, high = torch.tensor([0, 0, 2]), torch.tensor([1, 3, 0]), torch.tensor([3, 10, 10])
    found = pool_tiles(Pool("bins", 2), hidden, row, low, high, single=False)
    expected = torch.stack([hidden[r, a:b].sum(0) for r, a, b in zip(row, low, high, strict=True)])
    torch.testing.assert_close(found, expected)


def test_tiles_are_combined_by_their_number_of_positions() -> None:
    chunk = chunk_of([25])
    pieces = cut_pieces(Pool("mean"), chunk, tile_chunk(chunk, 10, 0, strands=1))
    assert (pieces.high - pieces.low).tolist() == [10, 10, 5]
    sums = np.array([[10.0], [20.0], [20.0]], np.float32)
    # The mean of the tiles' means would be 7/3.
    assert combine(Pool("mean"), pieces, sums, 1).tolist() == [[2.0]]
