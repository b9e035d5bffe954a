from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dna.genome.sequence import reverse_complement
from hyena_dna.simulation.grammar import ENHANCER, GRAMMARS, PROMOTER, Grammar, arrange, pair_sites, satisfied

LENGTH = 160


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), grammar=st.sampled_from(GRAMMARS), obey=st.booleans())
def test_arrangements_obey_or_violate_every_pair(seed: int, grammar: Grammar, obey: bool) -> None:
    placements = arrange(np.random.default_rng(seed), grammar, LENGTH, obey=obey)
    assert all(a.end < b.offset for a, b in pairwise(placements))
    assert placements[0].offset >= 0
    assert placements[-1].end <= LENGTH
    wanted = sorted(m.name for pair in grammar.pairs for m in (pair.first, pair.second))
    assert sorted(p.motif.name for p in placements if p.motif not in grammar.accessory) == wanted
    at = {placement.motif: placement.offset for placement in placements}
    for pair in grammar.pairs:
        assert (pair.nearest <= at[pair.second] - at[pair.first] <= pair.farthest) is obey


def test_decoys_come_in_both_orders() -> None:
    rng = np.random.default_rng(0)
    pair = PROMOTER.pairs[1]
    swapped = 0
    for _ in range(200):
        at = {placement.motif: placement.offset for placement in arrange(rng, PROMOTER, LENGTH, obey=False)}
        swapped += at[pair.second] < at[pair.first]
    assert 40 < swapped < 160


@pytest.mark.parametrize(("distance", "there"), [(26, False), (27, True), (31, True), (32, False)])
def test_distance_is_counted_from_start_to_start(distance: int, there: bool) -> None:
    pair = PROMOTER.pairs[1]
    sequence = b"CC" + b"TATAAAAG".ljust(distance, b"C") + b"TCAGTC" + b"CC"
    assert pair_sites(sequence, pair) == ([(2, 2 + distance)] if there else [])


def test_order_and_orientation_matter_and_strand_does_not() -> None:
    right = b"TATAAAAG".ljust(29, b"C") + b"TCAGTC"
    assert satisfied(right, PROMOTER) == 1
    assert satisfied(reverse_complement(right), PROMOTER) == 1
    assert satisfied(b"TCAGTC".ljust(29, b"C") + b"TATAAAAG", PROMOTER) == 0
    assert satisfied(b"TATAAAAG".ljust(29, b"C") + reverse_complement(b"TCAGTC"), PROMOTER) == 0
    assert satisfied(right, ENHANCER) == 0
