"""`cut_windows` against its slow definition: a shifted or half-reversed window trains a wrong model silently."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hyena_dna.datasets import cut
from hyena_dna.datasets.cut import Windows, cut_windows
from hyena_dna.tokenizer import PAD, SOFT_MASK, A, C, G, N, T

_OPPOSITE = {A: T, C: G, G: C, T: A, N: N}


def slow(tokens: NDArray[np.uint8], start: int, length: int, window: int, reverse: bool) -> list[tuple[int, bool]]:
    row = [(int(t) & 0x7F, bool(t & SOFT_MASK)) for t in tokens[start : start + length]]
    if reverse:
        row = [(_OPPOSITE[token], soft) for token, soft in reversed(row)]
    return row + [(PAD, False)] * (window - length)


def rows(windows: Windows) -> list[list[tuple[int, bool]]]:
    return [
        list(zip(ids.tolist(), soft.tolist(), strict=True)) for ids, soft in zip(windows.ids, windows.soft, strict=True)
    ]


def random_tokens(seed: int, total: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.integers(A, N + 1, total) | rng.choice([0, SOFT_MASK], total), np.uint8)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_equals_the_slow_definition(data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 120))
    window = data.draw(st.integers(1, 60))
    batch = data.draw(st.integers(0, 6))
    lengths = [data.draw(st.integers(0, min(window, total))) for _ in range(batch)]
    starts = [data.draw(st.integers(0, total - length)) for length in lengths]
    reverse = [data.draw(st.booleans()) for _ in range(batch)]
    tokens = random_tokens(total, total)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cut, "_TILE", data.draw(st.integers(1, 70)))
        patch.setattr(cut, "_GROUP", data.draw(st.integers(1, 200)))
        found = cut_windows(
            tokens, np.array(starts, np.int64), np.array(lengths, np.int64), window, np.array(reverse, np.bool_)
        )
    assert found.ids.shape == found.soft.shape == (batch, window)
    assert rows(found) == [slow(tokens, s, n, window, r) for s, n, r in zip(starts, lengths, reverse, strict=True)]


@pytest.mark.parametrize("window", [1024, 1026, 70_001, 131_072])
def test_full_windows_across_tiles(window: int) -> None:
    tokens = random_tokens(1, 400_000)
    starts = np.array([0, 400_000 - window, 12_345, 7], np.int64)
    reverse = np.array([False, True, True, False])
    found = cut_windows(tokens, starts, None, window, reverse)
    assert rows(found) == [slow(tokens, s, window, window, r) for s, r in zip(starts.tolist(), reverse, strict=True)]


def test_reversing_twice_is_the_identity() -> None:
    tokens = random_tokens(2, 5000)
    starts = np.arange(0, 4000, 100, dtype=np.int64)
    once = cut_windows(tokens, starts, None, 777, np.ones(len(starts), np.bool_))
    stored = (once.ids | (once.soft * np.uint8(SOFT_MASK))).reshape(-1)
    twice = cut_windows(stored, np.arange(len(starts)) * 777, None, 777, np.ones(len(starts), np.bool_))
    assert rows(twice) == rows(cut_windows(tokens, starts, None, 777, np.zeros(len(starts), np.bool_)))


def test_buffers_are_reused_and_wholly_overwritten() -> None:
    tokens = random_tokens(4, 300)
    starts, lengths, reverse = np.array([0, 295, 100]), np.array([40, 5, 17]), np.array([True, True, False])
    fresh = cut_windows(tokens, starts, lengths, 40, reverse)
    poisoned = Windows(np.full((3, 40), 99, np.uint8), np.ones((3, 40), np.bool_))
    assert cut_windows(tokens, starts, lengths, 40, reverse, out=poisoned).ids is poisoned.ids
    assert rows(poisoned) == rows(fresh)
    with pytest.raises(ValueError, match="out has shapes"):
        cut_windows(tokens, starts, lengths, 41, reverse, out=poisoned)


def test_the_store_is_not_written_to() -> None:
    tokens = random_tokens(3, 100)
    before = tokens.copy()
    tokens.flags.writeable = False
    cut_windows(tokens, np.array([0, 3]), None, 50, np.array([True, False]))
    assert (tokens == before).all()


@pytest.mark.parametrize(
    ("starts", "lengths", "fragment"),
    [
        ([-1], [5], "beyond"),
        ([96], [5], "beyond"),
        ([0], [11], "0..10"),
        ([3], [-1], "0..10"),
        ([0], [1, 2], "lengths"),
    ],
)
def test_windows_outside_the_store_are_refused(starts: list[int], lengths: list[int], fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        cut_windows(random_tokens(0, 100), np.array(starts), np.array(lengths), 10, np.array([False]))
