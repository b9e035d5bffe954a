"""Dinucleotide shuffles keep what they say, and change the rest."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from hyena_dna.tokenizer import PAD
from hyena_dna.training.shuffles import dinucleotide_shuffles

pytest.importorskip("tangermeme")


def test_dinucleotides_stay() -> None:
    rng = np.random.default_rng(0)
    lengths = np.array([60, 40, 60, 2])
    ids = np.full((4, 60), PAD, np.uint8)
    for row, length in enumerate(lengths):
        ids[row, :length] = rng.choice([7, 8, 9, 10, 11], length)
    found = dinucleotide_shuffles(ids, lengths, count=3, seed=1)
    assert found.shape == (12, 60)
    for row, shuffled in enumerate(found):
        length = lengths[row // 3]
        before, after = ids[row // 3, :length].tolist(), shuffled[:length].tolist()
        assert Counter(pairwise(before)) == Counter(pairwise(after))
        assert (shuffled[length:] == PAD).all()
        assert (before != after) == (length > 2)
    assert len({row.tobytes() for row in found[:3]}) == 3
    # A sequence's shuffles depend on its number alone, not on what is shuffled with it.
    assert np.array_equal(found[:3], dinucleotide_shuffles(ids[:1], lengths[:1], count=3, seed=1))
    assert np.array_equal(found, dinucleotide_shuffles(ids, lengths, count=3, seed=1))
    assert not np.array_equal(found, dinucleotide_shuffles(ids, lengths, count=3, seed=2))
