from __future__ import annotations

from itertools import pairwise

import pytest

from hyena_dna.errors import InputError
from hyena_dna.simulation.layout import SHORTEST_CONTIG, Gap, Site, contig_lengths, lay_out
from hyena_dna.simulation.repeats import make_families
from hyena_dna.simulation.streams import Part, stream


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("length", [SHORTEST_CONTIG, 33_333, 150_001])
def test_features_never_overlap_and_fill_the_contig(seed: int, length: int) -> None:
    placed = lay_out(seed, 0, length, make_families(stream(seed, Part.FAMILIES)))
    assert placed[0].start == 0
    assert placed[-1].end == length
    assert isinstance(placed[0].feature, Gap)
    assert all(b.start - a.end >= 64 for a, b in pairwise(placed))


def test_elements_and_decoys_are_equally_many_and_shuffled() -> None:
    placed = lay_out(0, 0, 500_000, make_families(stream(0, Part.FAMILIES)))
    obeys = [item.feature.obeys for item in placed if isinstance(item.feature, Site)]
    assert sum(obeys) == len(obeys) / 2
    half = len(obeys) // 2
    assert sum(obeys[:half]) == pytest.approx(half / 2, rel=0.15)


def test_lengths_add_up_and_fall() -> None:
    lengths = contig_lengths(1, 2_000_003, 6)
    assert sum(lengths) == 2_000_003
    assert lengths == sorted(lengths, reverse=True)


def test_the_remedy_for_short_contigs_works() -> None:
    with pytest.raises(InputError, match="shorter than 20 kb") as caught:
        contig_lengths(1, 60_000, 6)
    assert caught.value.remedy is not None
    needed = int(caught.value.remedy.split()[1])
    assert min(contig_lengths(1, needed, 6)) >= SHORTEST_CONTIG


@pytest.mark.parametrize("contigs", [-1, 0, 2])
def test_too_few_contigs_cannot_be_split(contigs: int) -> None:
    with pytest.raises(InputError, match="train, valid and test"):
        contig_lengths(1, 2_000_000, contigs)


@pytest.mark.parametrize("contigs", [25, 1_000_000])
def test_so_many_contigs_that_the_last_would_vanish_are_refused(contigs: int) -> None:
    with pytest.raises(InputError, match="too many"):
        contig_lengths(1, 100_000_000, contigs)
