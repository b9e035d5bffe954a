"""Sequence primitives against biopython: a wrong complement or alphabet changes scores without an error."""

from __future__ import annotations

import math
from itertools import groupby

import numpy as np
import pytest
from Bio.Seq import Seq
from Bio.SeqUtils import gc_fraction as biopython_gc_fraction
from hypothesis import given
from hypothesis import strategies as st

from hyena_dna.genome.sequence import (
    CLEAN,
    CLEAN_RNA,
    NORMALISE,
    NORMALISE_RNA,
    gc_fraction,
    n_runs,
    reverse_complement,
)

IUPAC = "ACGTRYSWKMBDHVN"


@given(st.text(IUPAC + IUPAC.lower()))
def test_reverse_complement_is_biopythons_and_its_own_inverse(text: str) -> None:
    sequence = text.encode()
    assert reverse_complement(sequence).decode() == str(Seq(text).reverse_complement())  # type: ignore[no-untyped-call]
    assert reverse_complement(reverse_complement(sequence)) == sequence


@given(st.text("ACGTNacgtn", min_size=1))
def test_gc_fraction_is_biopythons_without_ambiguous_bases(text: str) -> None:
    found = gc_fraction(text.encode())
    if set(text.upper()) <= {"N"}:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(biopython_gc_fraction(text, ambiguous="remove"))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("table", "rna"), [(NORMALISE, False), (NORMALISE_RNA, True), (CLEAN, False), (CLEAN_RNA, True)]
)
def test_every_byte_follows_the_alphabet_rule(table: bytes, rna: bool) -> None:
    keeps_case = table in (CLEAN, CLEAN_RNA)
    for byte in range(256):
        letter = chr(byte).upper()
        if letter in "ACGT" and byte < 128:
            expected = letter
        elif letter in IUPAC and byte < 128:
            expected = "N"
        elif rna and letter == "U":
            expected = "T"
        else:
            expected = "\x00"
        if keeps_case and chr(byte).islower():
            expected = expected.lower()
        assert table[byte] == ord(expected), chr(byte)


@given(st.lists(st.booleans()))
def test_runs_are_those_of_groupby(mask: list[bool]) -> None:
    expected, at = [], 0
    for value, group in groupby(mask):
        size = len(list(group))
        if value:
            expected.append([at, at + size])
        at += size
    assert n_runs(np.array(mask, np.bool_)).tolist() == expected
