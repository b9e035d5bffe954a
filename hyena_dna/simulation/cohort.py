"""Two samples with phased genotypes at every planted variant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hyena_dna.simulation.assembly import Genome
from hyena_dna.simulation.element_variants import plan_in_elements
from hyena_dna.simulation.spacer_variants import plan_in_spacers
from hyena_dna.simulation.streams import Part, stream
from hyena_dna.simulation.variants import Plan, Variant

__all__ = ["SAMPLES", "plan_variants"]

SAMPLES = ("SIM1", "SIM2")
_ALT_FREQUENCY = 0.5


def plan_variants(seed: int, genome: Genome) -> list[Variant]:
    """Choose the variants of a genome and the genotypes of the two samples.

    Args:
        seed: the simulation's seed.
        genome: the genome that they are planted in.

    Returns:
        Variants in order of contig and position, which do not overlap.
    """
    variants: list[Variant] = []
    for index, contig in enumerate(genome.contigs):
        plan = Plan(contig)
        rng = stream(seed, Part.VARIANTS, index)
        plan_in_elements(rng, plan)
        plan_in_spacers(rng, plan)
        rng = stream(seed, Part.GENOTYPES, index)
        variants += [replace(variant, genotypes=_genotypes(rng, len(variant.alts))) for variant in plan.named()]
    return variants


def _genotypes(rng: np.random.Generator, alts: int) -> tuple[tuple[int, int], ...]:
    frequencies = [1 - _ALT_FREQUENCY, *[_ALT_FREQUENCY / alts] * alts]
    drawn = rng.choice(alts + 1, (len(SAMPLES), 2), p=frequencies).tolist()
    return tuple((first, second) for first, second in drawn)
