from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dna.simulation.haplotypes import build_haplotype
from hyena_dna.simulation.variants import Variant

_BASES = st.text("ACGT", min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    reference=st.text("ACGT", min_size=60, max_size=60),
    edits=st.lists(st.tuples(_BASES, _BASES, st.integers(1, 4), st.integers(0, 2)), max_size=8),
)
def test_haplotype_equals_replacing_alleles_in_a_string(reference: str, edits: list[tuple[str, str, int, int]]) -> None:
    variants = [
        Variant("c", 7 * i, reference[7 * i : 7 * i + size], (one, two), ("neutral",) * 2, genotypes=((allele, 0),))
        for i, (one, two, size, allele) in enumerate(edits)
    ]
    expected = reference
    for variant in reversed(variants):
        allele = variant.genotypes[0][0]
        if allele:
            expected = expected[: variant.start] + variant.alts[allele - 1] + expected[variant.end :]
    codes = np.frombuffer(reference.encode(), np.uint8)
    haplotype = build_haplotype(codes, variants, sample=0, haplotype=0)
    assert haplotype.bases.tobytes().decode() == expected
    placed = haplotype.reference[haplotype.reference >= 0]
    assert (np.diff(placed) > 0).all()
    assert len(haplotype.reference) == len(expected)
    untouched = build_haplotype(codes, variants, sample=0, haplotype=1)
    assert untouched.bases.tobytes().decode() == reference
    assert untouched.reference.tolist() == list(range(len(reference)))
