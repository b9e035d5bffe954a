"""Exponents, crossovers and extrapolation on curves that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hyena_dna.benchmark.scaling import crossover, extrapolate, fit_exponent

LENGTHS = [32_768, 65_536, 131_072, 262_144, 524_288, 1_048_576]


def test_a_power_law_is_found_exactly() -> None:
    fit = fit_exponent(LENGTHS, [3e-6 * length**1.7 for length in LENGTHS])
    assert fit is not None
    assert fit.points == 6
    assert fit.low == pytest.approx(1.7) == fit.value == pytest.approx(fit.high)


def test_the_interval_covers_what_it_should() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        times = [length**1.1 * math.exp(rng.normal(0, 0.1)) for length in LENGTHS]
        fit = fit_exponent(LENGTHS, times)
        assert fit is not None
        covered += fit.low <= 1.1 <= fit.high
    assert 0.92 <= covered / 400 <= 0.98


def test_two_points_are_no_fit() -> None:
    assert fit_exponent(LENGTHS[:2], [1.0, 2.0]) is None


def test_extrapolation_follows_the_last_two_points() -> None:
    assert extrapolate([1024, 2048], [1.0, 4.0], 8192) == pytest.approx(64.0)
    # A flat start is not believed to go on.
    assert extrapolate([1024, 2048], [1.0, 1.1], 4096) == pytest.approx(2.2)
    assert extrapolate([1024], [1.0], 4096, least=2.0) == pytest.approx(16.0)
    assert extrapolate([], [], 4096) is None


def test_crossing_is_interpolated_on_logarithms() -> None:
    lengths = [2**power for power in range(10, 21)]
    ours = [100.0 * length for length in lengths]
    theirs = [length**2 / 50 for length in lengths]
    found = crossover(lengths, ours, theirs)
    assert found == pytest.approx(5000, rel=0.01)
    assert crossover(lengths, theirs, ours) == math.inf
    assert crossover(lengths, [1.0] * 11, [2.0] * 11) == 1024
    assert crossover([], [], []) is None
