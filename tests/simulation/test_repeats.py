from __future__ import annotations

import numpy as np
from Bio.Align import PairwiseAligner

from hyena_dna.genome.sequence import reverse_complement
from hyena_dna.simulation.repeats import make_families, tandem_repeat


def test_copies_are_diverged_copies_of_their_consensus_on_either_strand() -> None:
    rng = np.random.default_rng(0)
    aligner = PairwiseAligner(  # type: ignore[no-untyped-call]
        mode="local", match_score=1, mismatch_score=-1, gap_score=-2
    )
    for family in make_families(rng):
        strands = set()
        for _ in range(8):
            copy = family.copy(rng)
            strands.add(copy.strand)
            own = copy.sequence if copy.strand == "+" else reverse_complement(copy.sequence)
            assert own != family.consensus
            score = aligner.score(own.decode(), family.consensus.decode())  # type: ignore[no-untyped-call]
            assert score > 0.45 * len(own)
        assert strands == {"+", "-"}


def test_only_the_line_family_is_truncated() -> None:
    rng = np.random.default_rng(3)
    for family in make_families(rng):
        shortest = min(family.copy(rng).length for _ in range(40))
        assert (shortest < 0.8 * len(family.consensus)) is family.truncated


def test_tandem_repeats_repeat_their_unit() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        repeat = tandem_repeat(rng)
        unit = len(repeat.name) - 3
        same = sum(a == b for a, b in zip(repeat.sequence, repeat.sequence[unit:], strict=False))
        assert same > 0.5 * (repeat.length - unit)
