from __future__ import annotations

import numpy as np
import pytest

from hyena_dna.genome.sequence import gc_fraction
from hyena_dna.simulation.composition import background, isochores


def _cpg_ratio(sequence: bytes) -> float:
    return sequence.count(b"CG") * len(sequence) / (sequence.count(b"C") * sequence.count(b"G"))


@pytest.mark.parametrize("survival", [0.2, 1.0])
def test_cpg_decays_to_its_survival_and_becomes_tpg_and_cpa(survival: float) -> None:
    length = 400_000
    rng = np.random.default_rng(1)
    sequence = background(rng, np.full(length, 0.5), np.full(length, survival)).tobytes()
    assert _cpg_ratio(sequence) == pytest.approx(survival, abs=0.1)
    if survival < 1:
        gained = (sequence.count(b"TG") - sequence.count(b"AC"), sequence.count(b"CA") - sequence.count(b"GT"))
        assert min(gained) > 0.01 * length
        assert gained[0] == pytest.approx(gained[1], rel=0.15)


def test_gc_follows_the_isochores() -> None:
    rng = np.random.default_rng(2)
    expected = isochores(rng, 500_000)
    sequence = background(rng, expected, np.ones(500_000)).tobytes()
    blocks = [(gc_fraction(sequence[i : i + 5_000]), expected[i : i + 5_000].mean()) for i in range(0, 500_000, 5_000)]
    measured, wanted = np.array(blocks).T
    assert np.abs(measured - wanted).max() < 0.04
    assert np.ptp(wanted) > 0.08
