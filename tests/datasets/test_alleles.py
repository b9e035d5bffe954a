"""Risks: an alternative sequence that is not the variant's, windows that shift, strands that disagree."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyfaidx
import pysam
import pysam.bcftools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dna.datasets.alleles import AlleleWindows, Fetch, Position, WindowSpec, allele_windows
from hyena_dna.datasets.token_tiles import TokenTiles
from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.sequence import reverse_complement
from hyena_dna.genome.variants import Trimmed, trim
from hyena_dna.output.bgzf_blocks import BGZF_EOF, compress_blocks
from hyena_dna.tokenizer import N, Tokenizer

LENGTH = 3000
SEQUENCE = bytes(random.Random(5).choices(b"ACGT", k=LENGTH))
TOKENIZER = Tokenizer()


def fetcher(sequence: bytes) -> Fetch:
    def fetch(interval: Interval) -> bytes:
        return bytes(
            sequence[at] if 0 <= at < len(sequence) else ord("N") for at in range(interval.start, interval.end)
        )

    return fetch


def random_changes(count: int, seed: int, length: int = LENGTH) -> Iterator[tuple[int, str, str]]:
    """SNVs, MNVs, insertions, deletions and delins with VCF's anchors: 0-based start, REF, ALT."""
    rng = random.Random(seed)
    made = 0
    while made < count:
        start, size = rng.randrange(1, length - 40), rng.choice([1, 1, 1, 2, 3, 12])
        ref = SEQUENCE[start : start + size].decode()
        alt = "".join(rng.choices("ACGT", k=rng.choice([1, 1, 1, 2, 3, 12])))
        if rng.random() < 0.5:
            alt = ref[0] + alt[1:]
        if ref != alt:
            made += 1
            yield start, ref, alt


def consensus_windows(folder: Path, count: int, seed: int) -> int:
    """Compare alternative sequences with `bcftools consensus`, one variant at a time; gives the number compared."""
    fasta = folder / "genome.fa"
    fasta.write_bytes(b">c\n" + SEQUENCE + b"\n")
    spec = WindowSpec.make(256)
    tiles = TokenTiles(fetcher(SEQUENCE), {"c": LENGTH}, spec)
    head = f"##fileformat=VCFv4.2\n##contig=<ID=c,length={LENGTH}>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    compared = 0
    for start, ref, alt in random_changes(count, seed):
        vcf = folder / "one.vcf.gz"
        with open(vcf, "wb") as handle:
            handle.write(compress_blocks(f"{head}c\t{start + 1}\t.\t{ref}\t{alt}\t.\t.\t.\n".encode()) + BGZF_EOF)
        pysam.tabix_index(str(vcf), preset="vcf", force=True)
        text = str(pysam.bcftools.consensus("-f", str(fasta), str(vcf)))
        changed = "".join(text.split("\n")[1:]).encode()
        assert len(changed) == LENGTH + len(alt) - len(ref)
        padded = fetcher(changed)
        windows = tiles.windows("c", trim(start, ref, alt))
        forward, reverse = windows.forward, windows.reverse
        # Forward, what lies before the variant stays in place; reverse, what lies behind it.
        first = forward.key[1]
        assert TOKENIZER.decode(forward.alt_ids).encode() == padded(Interval("c", first, first + 256))
        last = reverse.key[1] + 256 + len(changed) - LENGTH
        assert TOKENIZER.decode(reverse.alt_ids).encode() == reverse_complement(padded(Interval("c", last - 256, last)))
        compared += 1
    return compared


def test_alternatives_equal_bcftools_consensus(tmp_path: Path) -> None:
    assert consensus_windows(tmp_path, 200, seed=1) == 200


@pytest.mark.slow
def test_ten_thousand_alternatives_equal_bcftools_consensus(tmp_path: Path) -> None:
    assert consensus_windows(tmp_path, 10_000, seed=2) == 10_000


def same(one: AlleleWindows, two: AlleleWindows) -> bool:
    return (one.edge_padded, one.n_fraction) == (two.edge_padded, two.n_fraction) and all(
        a.key == b.key
        and a[3:] == b[3:]
        and np.array_equal(a.ref_ids, b.ref_ids)
        and np.array_equal(a.alt_ids, b.alt_ids)
        for a, b in ((one.forward, two.forward), (one.reverse, two.reverse))
    )


@pytest.mark.parametrize("position", ["center", "left", "right"])
@pytest.mark.parametrize(("window", "grid"), [(128, 1), (256, 32), (1000, 7)])
def test_tiles_give_what_reading_afresh_gives(window: int, grid: int, position: Position) -> None:
    spec = WindowSpec.make(window, position, grid)
    fetch = fetcher(SEQUENCE[:1500] + b"N" * 300 + SEQUENCE[1800:])
    tiles = TokenTiles(fetch, {"c": LENGTH}, spec)
    changes = [trim(start, ref, alt) for start, ref, alt in random_changes(150, seed=window)]
    for start in (0, 1, 70, 1490, 1800, LENGTH - 70, LENGTH - 1):
        base = chr(SEQUENCE[start])
        changes.append(Trimmed(start, base, "C" if base != "C" else "G"))
    for change, made in zip(changes, tiles.windows_of([("c", change) for change in changes]), strict=True):
        assert same(made, tiles.windows("c", change))
        assert same(made, allele_windows(fetch, LENGTH, change, spec, chrom="c"))
        for strand in (made.forward, made.reverse):
            assert len(strand.ref_ids) == len(strand.alt_ids) == window
            assert spec.offset <= strand.changed < spec.offset + grid
            assert strand.changed >= window // 8
            assert np.array_equal(strand.ref_ids[: strand.changed], strand.alt_ids[: strand.changed])
            assert strand.alt_ids[strand.changed] != strand.ref_ids[strand.changed] or not (change.ref and change.alt)


@given(st.integers(0, LENGTH - 20), st.integers(0, 9), st.text("ACGT", max_size=9), st.sampled_from([1, 5, 32]))
@settings(max_examples=150, deadline=None)
def test_the_reverse_complement_of_a_genome_swaps_the_strands(start: int, size: int, alt: str, grid: int) -> None:
    change = trim(start, SEQUENCE[start : start + size].decode(), alt)
    if not change.ref and not change.alt:
        return
    spec = WindowSpec.make(256, "left", grid)
    one = allele_windows(fetcher(SEQUENCE), LENGTH, change, spec, chrom="c")
    mirrored = Trimmed(
        LENGTH - change.end, *(reverse_complement(a.encode()).decode() for a in (change.ref, change.alt))
    )
    two = allele_windows(fetcher(reverse_complement(SEQUENCE)), LENGTH, mirrored, spec, chrom="c")
    for a, b in ((one.forward, two.reverse), (one.reverse, two.forward)):
        assert a[3:] == b[3:]
        assert np.array_equal(a.ref_ids, b.ref_ids)
        assert np.array_equal(a.alt_ids, b.alt_ids)


def test_windows_depend_on_the_place_alone() -> None:
    spec = WindowSpec.make(1024, grid=128)
    changes = [trim(start, ref, alt) for start, ref, alt in random_changes(60, seed=3)]
    tiles = TokenTiles(fetcher(SEQUENCE), {"c": LENGTH}, spec)
    together = [tiles.windows("c", change) for change in changes]
    for change, made in zip(reversed(changes), reversed(together), strict=True):
        assert same(made, TokenTiles(fetcher(SEQUENCE), {"c": LENGTH}, spec).windows("c", change))
    # Equal keys share one array; that is what lets a scorer run each reference window once.
    by_key: dict[tuple[str, int, str], int] = {}
    for made in together:
        for strand in (made.forward, made.reverse):
            assert by_key.setdefault(strand.key, id(strand.ref_ids)) == id(strand.ref_ids)
    assert len(by_key) < 60


def test_windows_at_the_edges_are_padded_where_a_naive_slice_fails(tmp_path: Path) -> None:
    path = tmp_path / "c.fa"
    path.write_bytes(b">c\n" + SEQUENCE[:300] + b"\n")
    with pyfaidx.Fasta(str(path)) as naive:
        # A negative start means "from the end" to a slice: nothing, or the wrong bases.
        assert str(naive["c"][2 - 64 : 2 + 64]) != SEQUENCE[: 2 + 64].decode()
    spec = WindowSpec.make(128)
    made = allele_windows(fetcher(SEQUENCE[:300]), 300, Trimmed(2, "A", "C"), spec, chrom="c")
    assert made.edge_padded
    assert made.n_fraction == 0.0
    assert made.forward.changed == 64
    assert made.forward.key == ("c", -62, "+")
    assert (made.forward.ref_ids[:62] == N).all()
    assert TOKENIZER.decode(made.forward.ref_ids[62:]).encode() == SEQUENCE[:66]
    inside = allele_windows(fetcher(SEQUENCE[:300]), 300, Trimmed(150, "A", "C"), spec, chrom="c")
    assert not inside.edge_padded


def test_n_counts_inside_the_contig_alone() -> None:
    sequence = b"N" * 20 + SEQUENCE[:280]
    made = allele_windows(fetcher(sequence), 300, Trimmed(30, "A", "C"), WindowSpec.make(128), chrom="c")
    assert made.edge_padded
    assert made.n_fraction == pytest.approx(20 / (30 + 64), abs=0.01)


def test_equal_variants_written_with_more_bases_get_equal_windows() -> None:
    spec = WindowSpec.make(128)
    base = chr(SEQUENCE[500])
    other = "A" if base != "A" else "C"
    spellings = [
        trim(500, base, other),
        trim(498, SEQUENCE[498:501].decode(), SEQUENCE[498:500].decode() + other),
        trim(499, SEQUENCE[499:503].decode(), chr(SEQUENCE[499]) + other + SEQUENCE[501:503].decode()),
    ]
    made = [allele_windows(fetcher(SEQUENCE), LENGTH, one, spec, chrom="c") for one in spellings]
    assert same(made[0], made[1])
    assert same(made[0], made[2])


def test_the_longest_allele_fits_wherever_the_grid_puts_it() -> None:
    positions: tuple[Position, ...] = ("center", "left", "right")
    for position in positions:
        spec = WindowSpec.make(256, position, 32)
        for start in range(600, 640):
            made = allele_windows(fetcher(SEQUENCE), LENGTH, Trimmed(start, "", "A" * spec.room), spec, chrom="c")
            assert (made.forward.alt_ids[made.forward.changed :][: spec.room] == 7).all()
    assert WindowSpec.make(1000).room == 500


def test_the_default_grid_is_exact_up_to_8_kb() -> None:
    assert [WindowSpec.make(w).grid for w in (1024, 8192, 32000)] == [1, 1, 4000]


@pytest.mark.parametrize(("window", "grid"), [(4, None), (128, 0), (128, 17)])
def test_impossible_windows_are_refused(window: int, grid: int | None) -> None:
    with pytest.raises(InputError):
        WindowSpec.make(window, grid=grid)
