"""Background sequence: isochores, and CpG depletion as the decay of methylated CpG."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["background", "isochores"]

# The five classical isochore families L1, L2, H1, H2, H3 (Bernardi), GC fraction and relative abundance.
_LEVELS = (0.365, 0.39, 0.43, 0.485, 0.54)
_ABUNDANCE = (0.2, 0.3, 0.26, 0.16, 0.08)
_MEAN_BLOCK = 40_000
_SHORTEST_BLOCK = 8_000
_PATCH = 500
_PATCH_SPREAD = 0.02


def isochores(rng: np.random.Generator, length: int) -> NDArray[np.float64]:
    """Draw the expected GC fraction along a contig: long blocks of five levels with small local variation.

    Args:
        rng: source of randomness.
        length: contig length in bp.

    Returns:
        Expected GC fraction of every base, (length,).
    """
    expected = np.empty(length)
    start = 0
    while start < length:
        end = start + _SHORTEST_BLOCK + int(rng.exponential(_MEAN_BLOCK - _SHORTEST_BLOCK))
        expected[start:end] = rng.choice(_LEVELS, p=_ABUNDANCE)
        start = end
    local = rng.normal(0.0, _PATCH_SPREAD, -(-length // _PATCH))
    return expected + np.repeat(local, _PATCH)[:length]


def background(
    rng: np.random.Generator, expected_gc: NDArray[np.float64], cpg_survival: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Draw bases with a given GC content, then let CpG decay as deamination of methylated cytosine does.

    Each CpG is kept with its probability of survival; the others become TpG or CpA with equal probability, which is
    the deamination of the one strand's cytosine or of the other's.

    Args:
        rng: source of randomness.
        expected_gc: expected GC fraction of every base before the decay, (length,).
        cpg_survival: probability that a CpG starting at a base is kept, (length,).

    Returns:
        Upper-case bases, (length,) uint8.
    """
    length = len(expected_gc)
    strong = rng.random(length) < expected_gc
    which = rng.integers(0, 2, length)
    bases = np.where(strong, np.frombuffer(b"CG", np.uint8)[which], np.frombuffer(b"AT", np.uint8)[which])
    cpg = np.flatnonzero((bases[:-1] == ord("C")) & (bases[1:] == ord("G")))
    lost = cpg[rng.random(len(cpg)) >= cpg_survival[cpg]]
    forward = rng.random(len(lost)) < 0.5
    bases[lost[forward]] = ord("T")
    bases[lost[~forward] + 1] = ord("A")
    return bases
