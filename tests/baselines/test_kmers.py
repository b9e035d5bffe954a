"""k-mer counts against counting by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from hyena_dna.baselines import kmers
from hyena_dna.baselines.kmers import count_kmers
from hyena_dna.genome.sequence import reverse_complement
from hyena_dna.tokenizer import SOFT_MASK, Tokenizer

SEQUENCES = [b"ACGTACGTTT", b"", b"AC", b"ACNGTACGTTAGNAAA", b"TTTTTT"]


def by_hand(sequence: bytes, k: int, both: bool) -> Counter[int]:
    counts: Counter[int] = Counter()
    for start in range(len(sequence) - k + 1):
        word = sequence[start : start + k]
        if set(word) <= set(b"ACGT"):
            codes = [int(bytes(b"ACGT".index(base) + 48 for base in w), 4) for w in (word, reverse_complement(word))]
            counts[min(codes) if both else codes[0]] += 1
    return counts


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("block", [4, 1 << 22])
def test_counts(k: int, both: bool, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmers, "_BLOCK", block)
    rows = [Tokenizer().encode(sequence) for sequence in SEQUENCES]
    rows[0] = rows[0] | np.uint8(SOFT_MASK)
    found = count_kmers(rows, k, both_strands=both).toarray()
    assert found.shape == (5, 4**k)
    for row, sequence in zip(found, SEQUENCES, strict=True):
        assert {code: int(n) for code, n in enumerate(row) if n} == by_hand(sequence, k, both)


def test_both_strands_count_alike() -> None:
    rng = np.random.default_rng(0)
    sequence = rng.choice(np.frombuffer(b"ACGT", np.uint8), 200).tobytes()
    rows = [Tokenizer().encode(s) for s in (sequence, reverse_complement(sequence))]
    one, other = count_kmers(rows, 4, both_strands=True).toarray()
    assert (one == other).all()
    one, other = count_kmers(rows, 4).toarray()
    assert (one != other).any()
