"""A small simulated genome that the tests share."""

from __future__ import annotations

import pytest

from hyena_dna.simulation.assembly import Genome, assemble
from hyena_dna.simulation.cohort import plan_variants
from hyena_dna.simulation.simulate import Simulation, simulate
from hyena_dna.simulation.variants import Variant

SEED, LENGTH, CONTIGS = 5, 300_000, 3


@pytest.fixture(scope="session")
def genome() -> Genome:
    return assemble(SEED, LENGTH, CONTIGS)


@pytest.fixture(scope="session")
def variants(genome: Genome) -> list[Variant]:
    return plan_variants(SEED, genome)


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return simulate(tmp_path_factory.mktemp("simulated") / "set", seed=SEED, length=LENGTH, contigs=CONTIGS)
