from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dna.ops.fft_size import fast_fft_size


def is_fast(size: int) -> bool:
    for prime in (2, 3, 5):
        while size % prime == 0:
            size //= prime
    return size == 1


def slow_fast_fft_size(minimum: int) -> int:
    size = minimum
    while size % 2 or not is_fast(size):
        size += 1
    powers = [power for power in (2**exponent for exponent in range(1, 25)) if minimum <= power <= 1.05 * size]
    return powers[0] if powers else size


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20_000))
def test_is_the_smallest_fast_size_or_a_power_of_two_close_above(minimum: int) -> None:
    assert fast_fft_size(minimum) == slow_fast_fft_size(minimum)


@pytest.mark.parametrize("length", [1026, 16_386, 32_770, 160_002, 450_002, 1_000_002])
def test_published_lengths_get_a_fast_size_close_above(length: int) -> None:
    minimum = 2 * length - 1
    size = fast_fft_size(minimum)
    assert minimum <= size <= 1.06 * minimum
    assert is_fast(size)
    assert not is_fast(2 * length), "twice the published length is what makes the naive size slow"


def test_refuses_no_points() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        fast_fft_size(0)


def test_without_a_power_of_two_the_smallest_fast_size_stands() -> None:
    assert fast_fft_size(1_000_000) == 1 << 20
    assert fast_fft_size(1_000_000, power_of_two=False) == 1_000_000
    assert fast_fft_size(1_000_002, power_of_two=False) == 1_012_500
