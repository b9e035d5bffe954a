"""The token ids of published checkpoints, and no byte that silently becomes an unknown token."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dna.errors import InputError
from hyena_dna.tokenizer import (
    BASE_IDS,
    ENCODE,
    FORBIDDEN,
    PAD,
    SEP,
    UNK,
    VOCAB,
    A,
    C,
    G,
    N,
    T,
    Tokenizer,
    complement_ids,
)

tokenizer = Tokenizer()
dna = st.text(alphabet="ACGTN", max_size=200)


def test_ids_are_those_of_published_checkpoints() -> None:
    # A permuted table would load every checkpoint without an error and give nonsense.
    assert tokenizer.encode("ACGTNTTGCA").tolist() == [7, 8, 9, 10, 11, 10, 10, 9, 8, 7]
    assert VOCAB[:7] == ("[CLS]", "[SEP]", "[BOS]", "[MASK]", "[PAD]", "[RESERVED]", "[UNK]")
    assert (SEP, PAD, UNK, BASE_IDS, N) == (1, 4, 6, (7, 8, 9, 10), 11)
    assert tokenizer.vocab_size == len(tokenizer.vocab) == 12


def test_soft_masked_bases_are_bases() -> None:
    # The published tokenizers look up single upper-case letters, which makes half of a UCSC genome [UNK].
    naive = [VOCAB.index(letter) if letter in VOCAB else UNK for letter in "acgtn"]
    assert naive == [UNK] * 5
    assert tokenizer.encode("acgtn").tolist() == [A, C, G, T, N]


def test_iupac_codes_become_n_and_every_other_byte_is_refused() -> None:
    assert tokenizer.encode("NRYSWKMBDHVnryswkmbdhv").tolist() == [N] * 22
    allowed = set(b"ACGTNRYSWKMBDHVacgtnryswkmbdhv")
    assert {byte for byte in range(256) if ENCODE[byte] != FORBIDDEN} == allowed
    for byte in set(range(256)) - allowed:
        with pytest.raises(InputError, match="position 3"):
            tokenizer.encode(b"AC" + bytes([byte]) + b"GT")


def test_refusals_name_the_letter_and_the_remedy() -> None:
    with pytest.raises(InputError, match=r"'U' at position 2 is not a DNA letter \(write U as T first\)"):
        tokenizer.encode("AUG")
    with pytest.raises(InputError, match="position 2"):
        tokenizer.encode("A\u0391C")  # a Greek capital alpha looks like an A


def test_sep_is_appended_last_and_only_on_request() -> None:
    assert tokenizer.encode("AC", add_sep=True).tolist() == [A, C, SEP]
    assert tokenizer.encode("", add_sep=True).tolist() == [SEP]
    assert tokenizer.encode("").tolist() == []


def test_encoded_ids_are_writable() -> None:
    # A read-only view of the bytes object would fail far away, in the first in-place operation of a caller.
    tokenizer.encode(b"ACGT")[0] = N


@settings(max_examples=50, deadline=None)
@given(dna)
def test_decode_inverts_encode(sequence: str) -> None:
    assert tokenizer.decode(tokenizer.encode(sequence)) == sequence
    assert tokenizer.decode(tokenizer.encode(sequence, add_sep=True)) == sequence + "[SEP]"


@pytest.mark.parametrize("ids", [[12], [-1], [0xFF]])
def test_decode_refuses_ids_outside_the_vocabulary(ids: list[int]) -> None:
    with pytest.raises(InputError, match="token ids must lie in"):
        tokenizer.decode(ids)


def test_decode_refuses_a_batch() -> None:
    with pytest.raises(InputError, match="one sequence"):
        tokenizer.decode(np.full((2, 3), A, dtype=np.uint8))


@settings(max_examples=50, deadline=None)
@given(dna)
def test_reverse_complement_agrees_with_that_of_the_letters(sequence: str) -> None:
    ids = tokenizer.encode(sequence)
    reverse = tokenizer.reverse_complement(ids)
    assert tokenizer.decode(reverse) == sequence[::-1].translate(str.maketrans("ACGT", "TGCA"))
    assert np.array_equal(tokenizer.reverse_complement(reverse), ids)


def test_complement_leaves_special_tokens_alone() -> None:
    ids = np.arange(12, dtype=np.uint8)
    assert complement_ids(ids).tolist() == [0, 1, 2, 3, 4, 5, 6, T, G, C, A, N]
    assert ids.tolist() == list(range(12))


def test_reverse_complement_works_along_any_axis() -> None:
    ids = np.array([[A, C, G], [N, T, PAD]], dtype=np.uint8)
    assert tokenizer.reverse_complement(ids).tolist() == [[C, G, T], [PAD, A, N]]
    assert tokenizer.reverse_complement(ids, axis=0).tolist() == [[N, A, PAD], [T, G, C]]


def test_json_round_trip_and_refusals() -> None:
    text = tokenizer.to_json()
    assert Tokenizer.from_json(text) == tokenizer
    assert json.loads(text)["vocab"] == list(VOCAB)
    permuted = text.replace('"A"', '"X"').replace('"C"', '"A"').replace('"X"', '"C"')
    for bad, reason in [
        ("{", "not valid JSON"),
        ("[]", "not of the format"),
        ('{"vocab": []}', "not of the format"),
        (text.replace('"format_version": 1', '"format_version": 2'), "version 2 is unknown"),
        (permuted, "another vocabulary"),
    ]:
        with pytest.raises(InputError, match=reason):
            Tokenizer.from_json(bad)
