"""A sample's two chromosomes: the reference with one allele of every phased variant."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyena_dna.simulation.variants import Variant

__all__ = ["Haplotype", "build_haplotype"]


@dataclass(frozen=True)
class Haplotype:
    """A sequence with the place of each base on the reference.

    Args:
        bases: upper-case bases, (length,) uint8.
        reference: 0-based reference position of each base, -1 where it is inserted, (length,) int64.
    """

    bases: NDArray[np.uint8]
    reference: NDArray[np.int64]


def build_haplotype(
    reference: NDArray[np.uint8], variants: Iterable[Variant], sample: int, haplotype: int
) -> Haplotype:
    """Apply one haplotype's alleles to a contig.

    An allele's first bases stand on the reference allele's first bases; what the longer of the two has more is
    inserted or deleted after them.

    Args:
        reference: bases of the contig, (length,) uint8.
        variants: the contig's variants in order, which do not overlap.
        sample: index of the sample.
        haplotype: 0 or 1, left or right of the bar in the genotype.
    """
    bases, places, done = [], [], 0
    for variant in variants:
        allele = variant.genotypes[sample][haplotype]
        if not allele:
            continue
        assert variant.start >= done, "variants are sorted and do not overlap"
        alt = np.frombuffer(variant.alts[allele - 1].encode(), np.uint8)
        aligned = min(len(alt), len(variant.ref))
        bases += [reference[done : variant.start], alt]
        places += [np.arange(done, variant.start + aligned), np.full(len(alt) - aligned, -1)]
        done = variant.end
    bases.append(reference[done:])
    places.append(np.arange(done, len(reference)))
    return Haplotype(np.concatenate(bases), np.concatenate(places))
