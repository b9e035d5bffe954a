"""Inputs: which bases of which record, on which strand, in which chunk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dna.datasets.store import TokenStore
from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.regions import Region
from hyena_dna.inference.inputs import ChunkLimits, Row, consensus_chunks, region_chunks, sequence_chunks
from hyena_dna.tokenizer import SOFT_MASK, Tokenizer

CONTIGS = {"a": b"ACGTTGCAACGGTTAACCGGTTTACGTAAC", "b": b"ttgacaNNgc"}


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return TokenStore.from_sequences(CONTIGS.items(), tmp_path / "store", {})


def region(chrom: str, start: int, end: int, strand: str = ".") -> Region:
    return Region(Interval(chrom, start, end, strand), f"{chrom}{start}", "x", None)


def texts(chunk_tokens: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> list[str]:
    pairs = zip(starts.tolist(), lengths.tolist(), strict=True)
    return [Tokenizer().decode(chunk_tokens[start : start + length] & (SOFT_MASK - 1)) for start, length in pairs]


def test_regions_are_their_own_bases(store: TokenStore) -> None:
    (chunk,) = region_chunks(store, [region("b", 2, 7), region("a", 0, 4, "-")])
    assert texts(chunk.tokens, chunk.starts, chunk.lengths) == ["GACAN", "ACGT"]
    assert chunk.rows[0] == Row("b", 2, 7, "b2", ".", "x", None)
    assert not chunk.reverse.any()


def test_strands_count_only_where_asked(store: TokenStore) -> None:
    (chunk,) = region_chunks(store, [region("a", 0, 4, "-"), region("a", 0, 4, "+")], stranded=True)
    assert chunk.reverse.tolist() == [True, False]


def test_windows_keep_the_centre_and_end_with_the_contig(store: TokenStore) -> None:
    regions = [region("a", 10, 13), region("a", 0, 3), region("a", 28, 30), region("b", 4, 6)]
    (chunk,) = region_chunks(store, regions, window=8)
    assert texts(chunk.tokens, chunk.starts, chunk.lengths) == [
        CONTIGS["a"][7:15].decode(), CONTIGS["a"][:5].decode(), CONTIGS["a"][25:].decode(), "TGACANNG",
    ]  # fmt: skip
    centres = [11, 1, 29, 5]
    assert (chunk.starts + chunk.centres).tolist() == [
        store.offsets[one.interval.chrom] + centre for one, centre in zip(regions, centres, strict=True)
    ]
    # What is told of the record is the region, not the window.
    assert (chunk.rows[1].start, chunk.rows[1].end) == (0, 3)


def test_a_consensus_is_read_like_a_genome(store: TokenStore) -> None:
    regions = [region("a", 10, 13, "-"), region("a", 0, 3)]
    contigs = {name: len(bases) for name, bases in CONTIGS.items()}

    def consensus(interval: Interval) -> bytes:
        return CONTIGS[interval.chrom][interval.start : interval.end]

    (genome,) = region_chunks(store, regions, window=8, stranded=True)
    (reads,) = consensus_chunks(consensus, contigs, regions, window=8, stranded=True)
    expected = texts(genome.tokens, genome.starts, genome.lengths)
    assert texts(reads.tokens, reads.starts, reads.lengths) == expected
    assert reads.reverse.tolist() == genome.reverse.tolist()
    assert reads.centres.tolist() == genome.centres.tolist()


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), max_size=30), records=st.integers(1, 8), bases=st.integers(1, 100))
def test_chunks_hold_every_sequence_once_and_depend_on_the_records_alone(
    lengths: list[int], records: int, bases: int
) -> None:
    rng = np.random.default_rng(0)
    items = [
        (Row(None, 0, length, str(number), "."), bytes(rng.choice(np.frombuffer(b"ACGTN", np.uint8), length)))
        for number, length in enumerate(lengths)
    ]
    limits = ChunkLimits(records, bases)
    chunks = list(sequence_chunks(items, limits=limits))
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert [row for chunk in chunks for row in chunk.rows] == [row for row, _ in items]
    found = [text for chunk in chunks for text in texts(chunk.tokens, chunk.starts, chunk.lengths)]
    assert found == [sequence.decode() for _, sequence in items]
    for chunk in chunks:
        assert len(chunk.rows) <= records
        assert chunk.lengths.sum() <= bases or len(chunk.rows) == 1


def test_sequences_can_be_cut_around_their_centre() -> None:
    (chunk,) = sequence_chunks(
        [(Row(None, 0, 9, "s", "."), b"AACCGGTTA"), (Row(None, 0, 2, "t", "."), b"AC")], window=4
    )
    assert texts(chunk.tokens, chunk.starts, chunk.lengths) == ["CCGG", "AC"]


def test_an_empty_sequence_is_named() -> None:
    with pytest.raises(InputError, match="empty"):
        list(sequence_chunks([(Row(None, 0, 0, "nothing", "."), b"")]))
