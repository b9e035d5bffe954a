"""Background that matches positives in all but what makes them positives."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hyena_dna.datasets.negatives import gc_matched_regions
from hyena_dna.datasets.store import TokenStore
from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.reference import Reference
from hyena_dna.genome.sequence import gc_fraction


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    """Two contigs whose GC content rises from 20 to 80 %, with a run of N."""
    rng = np.random.default_rng(0)
    with open(tmp_path / "genome.fa", "w", encoding="ascii") as handle:
        for name in ("chr1", "chr2"):
            at = np.arange(40_000) / 40_000
            gc = rng.random(40_000) < 0.2 + 0.6 * at
            bases = np.where(gc, rng.choice(list("GC"), 40_000), rng.choice(list("AT"), 40_000))
            bases[20_000:21_000] = "N"
            handle.write(f">{name}\n{''.join(bases)}\n")
    return Reference(tmp_path / "genome.fa")


def test_matched_in_contig_length_and_gc(reference: Reference) -> None:
    store = TokenStore.for_reference(reference)
    rng = np.random.default_rng(1)
    positives = [
        Interval(chrom, start, start + int(length), "-")
        for chrom in ("chr2", "chr1")
        for start, length in zip(range(1000, 39_000, 2000), rng.integers(100, 400, 19), strict=True)
        if not 19_000 < start < 21_500
    ]
    found = gc_matched_regions(store, positives, positives, per_positive=2, seed=3)
    assert found == gc_matched_regions(store, positives, positives, per_positive=2, seed=3)
    assert found != gc_matched_regions(store, positives, positives, per_positive=2, seed=4)
    assert len(found) == 2 * len(positives)
    # In the order of contigs, then of the positives.
    wanted = [p for chrom in ("chr1", "chr2") for p in positives if p.chrom == chrom for _ in range(2)]
    for one, like in zip(found, wanted, strict=True):
        assert (one.chrom, one.length, one.strand) == (like.chrom, like.length, like.strand)
        sequence = reference.fetch(Interval(one.chrom, one.start, one.end))
        difference = gc_fraction(sequence) - gc_fraction(reference.fetch(Interval(like.chrom, like.start, like.end)))
        assert abs(difference) <= 0.02 + 1e-9
        assert sequence.count(b"N") <= 0.05 * one.length
    taken = sorted((*found, *positives), key=lambda interval: (interval.chrom, interval.start))
    assert not any(left.overlaps(right) for left, right in pairwise(taken))


def test_a_genome_without_room(reference: Reference, caplog: pytest.LogCaptureFixture) -> None:
    store = TokenStore.for_reference(reference)
    everything = [Interval("chr1", 0, 40_000), Interval("chr2", 0, 39_700)]
    with pytest.raises(InputError, match="no region of like GC content is free for 3 of 3"):
        gc_matched_regions(store, [Interval("chr1", 100, 200)] * 3, everything)
    few = [Interval("chr2", start, start + 100) for start in (39_100, 39_200, 39_300)]
    assert len(gc_matched_regions(store, few, everything, tolerance=0.2)) == 2
    assert "1 of 3 negatives" in caplog.text
