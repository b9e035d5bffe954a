from __future__ import annotations

import numpy as np
import pytest
from Bio import motifs as bio_motifs
from Bio.Data.IUPACData import ambiguous_dna_values

from hyena_dna.simulation.motifs import E_BOX, IUPAC, MOTIFS, NF_KB, Motif


def test_letters_are_those_of_the_iupac_code() -> None:
    assert {letter: set(bases) for letter, bases in IUPAC.items()} == {
        letter: set(bases) for letter, bases in ambiguous_dna_values.items() if letter in IUPAC
    }
    assert len(IUPAC) == 15


@pytest.mark.parametrize("motif", MOTIFS, ids=lambda motif: motif.name)
def test_instances_fit_the_consensus_and_cover_it(motif: Motif) -> None:
    rng = np.random.default_rng(0)
    instances = [motif.instance(rng).decode() for _ in range(400)]
    assert all(not motif.mismatches(instance.encode()) for instance in instances)
    counted = bio_motifs.create(instances)  # type: ignore[no-untyped-call]
    assert counted.degenerate_consensus == motif.consensus


def test_starts_include_overlapping_instances() -> None:
    assert Motif("x", "ANA").starts(b"ATATACA") == [0, 2, 4]
    assert E_BOX.starts(b"CACGTGTG") == [0]


def test_mismatches_name_the_offsets() -> None:
    assert NF_KB.mismatches(b"GGGAATTTCC") == []
    assert NF_KB.mismatches(b"GGCAATTTCA") == [2, 9]
