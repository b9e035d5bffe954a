"""Random streams, one for each part of the simulation and contig, so that no part depends on another's draws."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

__all__ = ["Part", "stream"]


class Part(IntEnum):
    """The parts of a simulation; the numbers are part of the output's definition and never change."""

    SIZES = 0
    FAMILIES = 1
    REPEATS = 2
    GENES = 3
    LAYOUT = 4
    COMPOSITION = 5
    CODING = 6
    ELEMENTS = 7
    VARIANTS = 8
    GENOTYPES = 9
    READS = 10


def stream(seed: int, part: Part, contig: int = 0) -> np.random.Generator:
    """The random stream of one part on one contig: the spawned child of the seed with that key.

    Args:
        seed: the simulation's seed, not negative.
        part: what the numbers are for.
        contig: index of the contig they are for.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(int(part), contig))))
