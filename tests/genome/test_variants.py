"""Risks: an allele judged wrongly, trimmed differently than its equal, or placed off by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.variants import Trimmed, Variant, classify, left_align, trim

BASES = st.text("ACGT", min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("ref", "alt", "status"),
    [
        ("A", "T", "ok"),
        ("a", "t", "ok"),
        ("AC", "GT", "ok"),
        ("ACG", "A", "ok"),
        ("A", ".", "no_alt"),
        ("A", "", "no_alt"),
        ("A", "A", "no_alt"),
        ("a", "A", "no_alt"),
        ("A", "*", "spanning_deletion"),
        ("A", "<NON_REF>", "gvcf_block"),
        ("A", "<*>", "gvcf_block"),
        ("A", "<DEL>", "symbolic"),
        ("N", "<DUP:TANDEM>", "symbolic"),
        ("A", "A[chr2:5[", "breakend"),
        ("A", "]chr2:5]A", "breakend"),
        ("A", "A.", "breakend"),
        ("A", ".A", "breakend"),
        ("A", "T!", "bad_allele"),
        ("12", "T", "bad_allele"),
        (".", "T", "bad_allele"),
        ("A", "R", "bad_allele"),
        ("N", "T", "ref_not_acgt"),
        ("AR", "T", "ref_not_acgt"),
    ],
)
def test_every_kind_of_allele_has_its_status(ref: str, alt: str, status: str) -> None:
    assert classify(ref, alt) == status


@pytest.mark.parametrize(
    ("pos", "ref", "alt", "expected"),
    [
        (10, "A", "T", Trimmed(9, "A", "T")),
        (10, "CA", "CT", Trimmed(10, "A", "T")),
        (10, "CAG", "CTG", Trimmed(10, "A", "T")),
        (10, "CAA", "CA", Trimmed(11, "A", "")),
        (10, "C", "CTT", Trimmed(10, "", "TT")),
        (10, "TCA", "TGGA", Trimmed(10, "C", "GG")),
    ],
)
def test_trimming_takes_the_prefix_first(pos: int, ref: str, alt: str, expected: Trimmed) -> None:
    assert Variant("chr1", pos, ref, alt).trimmed() == expected


@given(BASES, BASES, st.text("ACGT", max_size=5), st.text("ACGT", max_size=5))
@settings(max_examples=200, deadline=None)
def test_trimming_keeps_the_change(ref: str, alt: str, before: str, after: str) -> None:
    padded = trim(100 - len(before), before + ref + after, before + alt + after)
    background = "G" * (100 - len(before)) + before + ref + after + "C" * 20
    changed = background[: padded.start] + padded.alt + background[padded.end :]
    assert background[padded.start : padded.end] == padded.ref
    assert changed == "G" * (100 - len(before)) + before + alt + after + "C" * 20
    assert not padded.ref or not padded.alt or padded.ref[0] != padded.alt[0]


@given(
    st.text("AC", min_size=20, max_size=40), st.integers(1, 18), st.text("AC", min_size=1, max_size=4), st.booleans()
)
@settings(max_examples=300, deadline=None)
def test_left_aligned_variants_give_the_same_sequence_and_one_place(
    sequence: str, start: int, allele: str, insertion: bool
) -> None:
    ref = "" if insertion else sequence[start : start + len(allele)]
    change = Trimmed(start, ref, allele if insertion else "")

    def fetch(interval: Interval) -> bytes:
        return sequence[interval.start : interval.end].encode()

    def apply(one: Trimmed) -> str:
        assert sequence[one.start : one.end] == one.ref
        return sequence[: one.start] + one.alt + sequence[one.end :]

    aligned = left_align(change, fetch, "c")
    assert apply(aligned) == apply(change)
    # Every equal spelling, found by brute force, ends at the same place, which is the leftmost.
    size = len(ref or change.alt)
    spellings = [
        Trimmed(at, sequence[at : at + size], "") if ref else Trimmed(at, "", apply(change)[at : at + size])
        for at in range(len(sequence) + 1 - (size if ref else 0))
    ]
    equal = [one for one in spellings if apply(one) == apply(change)]
    assert aligned == min(equal)
    assert {left_align(one, fetch, "c") for one in equal} == {aligned}


def test_parse_reads_contigs_with_colons() -> None:
    assert Variant.parse("HLA-A*01:01:5:a:t", ["HLA-A*01:01"]) == Variant("HLA-A*01:01", 5, "A", "T")


@pytest.mark.parametrize("text", ["chr1:5:A", "chr1:x:A:T", "chr1:5:A:<DEL>", "chr2:5:A:T", "chr1:5:A:N"])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(InputError):
        Variant.parse(text, ["chr1"])
