"""Risks: another haplotype's variants, the scored variant applied to its own reference, bases lost at indels."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hyena_dna.datasets.alleles import Fetch, WindowSpec
from hyena_dna.datasets.haplotypes import Carried, SampleHaplotypes, read_haplotypes
from hyena_dna.datasets.token_tiles import TokenTiles
from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.sequence import reverse_complement
from hyena_dna.genome.variants import Trimmed, trim
from hyena_dna.genome.vcf import open_variants
from hyena_dna.tokenizer import Tokenizer

LENGTH = 4000
SEQUENCE = "".join(random.Random(11).choices("ACGT", k=LENGTH))
SPEC = WindowSpec.make(256)


def fetcher(sequence: str) -> Fetch:
    def fetch(interval: Interval) -> bytes:
        return "".join(
            sequence[i] if 0 <= i < len(sequence) else "N" for i in range(interval.start, interval.end)
        ).encode()

    return fetch


def carried(count: int, seed: int) -> list[Carried]:
    """Variants that do not overlap, on either haplotype."""
    rng = random.Random(seed)
    made, at = [], 5
    for _ in range(count):
        at += rng.randrange(3, 60)
        ref = SEQUENCE[at : at + rng.choice([1, 1, 2, 5])]
        alt = "".join(rng.choices("ACGT", k=rng.choice([1, 1, 2, 5])))
        change = trim(at, ref, ref[0] + alt)
        if change.ref or change.alt:
            made.append(Carried(change, rng.choice([(True, False), (False, True), (True, True)]), None))
        at += len(ref)
        if at > LENGTH - 100:
            break
    return made


def applied(changes: list[Trimmed]) -> str:
    sequence = SEQUENCE
    for change in sorted(changes, reverse=True):
        sequence = sequence[: change.start] + change.alt + sequence[change.end :]
    return sequence


@pytest.mark.parametrize("seed", range(4))
def test_windows_are_cut_from_the_whole_haplotype(seed: int) -> None:
    alleles = carried(150, seed)
    tiles = TokenTiles(fetcher(SEQUENCE), {"c": LENGTH}, SPEC)
    haplotypes = SampleHaplotypes("S", {"c": alleles}, tiles.bases, {"c": LENGTH}, SPEC)
    for own in alleles:
        index = 0 if own.haplotypes[0] else 1
        others = [one.change for one in alleles if one is not own and one.haplotypes[index]]
        before = sum(len(one.alt) - len(one.ref) for one in others if one.end <= own.change.start)
        start = own.change.start + before
        made = haplotypes.windows("c", own.change)
        for ids, mine in ((made.forward.ref_ids, []), (made.forward.alt_ids, [own.change])):
            whole = fetcher(applied(others + mine))(Interval("c", start - 128, start + 128))
            assert Tokenizer().decode(ids).encode() == whole
        for ids, mine in ((made.reverse.ref_ids, []), (made.reverse.alt_ids, [own.change])):
            end = start + len(own.change.alt if mine else own.change.ref)
            whole = fetcher(applied(others + mine))(Interval("c", end - 128, end + 128))
            assert Tokenizer().decode(ids).encode() == reverse_complement(whole)


def test_without_neighbours_the_windows_are_those_of_the_genome() -> None:
    tiles = TokenTiles(fetcher(SEQUENCE), {"c": LENGTH}, SPEC)
    haplotypes = SampleHaplotypes("S", {}, tiles.bases, {"c": LENGTH}, SPEC)
    for change in (
        Trimmed(2000, SEQUENCE[2000:2003], "A"),
        Trimmed(10, "", "ACGT"),
        Trimmed(LENGTH - 3, SEQUENCE[-3], ""),
    ):
        one, two = haplotypes.windows("c", change), tiles.windows("c", change)
        assert one.edge_padded == two.edge_padded
        for a, b in ((one.forward, two.forward), (one.reverse, two.reverse)):
            assert a.key[1:] == b.key[1:]
            assert a[3:] == b[3:]
            assert (a.ref_ids == b.ref_ids).all()
            assert (a.alt_ids == b.alt_ids).all()


def test_other_phase_sets_and_overlaps_are_not_applied() -> None:
    snv = trim(2000, SEQUENCE[2000], "A" if SEQUENCE[2000] != "A" else "C")
    other = trim(2010, SEQUENCE[2010], "A" if SEQUENCE[2010] != "A" else "C")
    over = Trimmed(1999, SEQUENCE[1999:2002], "")
    tiles = TokenTiles(fetcher(SEQUENCE), {"c": LENGTH}, SPEC)

    def reference(*others: Carried) -> str:
        alleles = sorted([Carried(snv, (True, False), "1"), *others], key=lambda one: one.change)
        made = SampleHaplotypes("S", {"c": alleles}, tiles.bases, {"c": LENGTH}, SPEC).windows("c", snv)
        return Tokenizer().decode(made.forward.ref_ids)

    plain = SEQUENCE[2000 - 128 : 2000 + 128]
    assert reference(Carried(other, (True, False), "2")) == plain
    assert reference(Carried(other, (False, True), "1")) == plain
    assert reference(Carried(over, (True, False), "1")) == plain
    assert reference(Carried(other, (True, False), "1")) != plain
    assert reference(Carried(other, (True, True), None)) != plain


def test_genotypes_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "in.vcf"
    genotypes = ["0|1", "1|1", "1/1", "0/1", "2|0", "0|0", "./.", "1", ".|1"]
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tX\tS"]
    lines += [f"c\t{10 * i + 10}\t.\tA\tC,G\t.\t.\t.\tDP:GT:PS\t.:0|0:.\t3:{gt}:7" for i, gt in enumerate(genotypes)]
    path.write_text("\n".join(lines) + "\n")
    found = read_haplotypes(open_variants(path), "S", lambda name: "chrC" if name == "c" else None)
    assert [(one.change.start, one.change.alt, one.haplotypes, one.phase_set) for one in found["chrC"]] == [
        (9, "C", (False, True), "7"),
        (19, "C", (True, True), None),
        (29, "C", (True, True), None),
        (49, "G", (True, False), "7"),
        (79, "C", (True, True), None),
        (89, "C", (False, True), "7"),
    ]
    assert "1 unphased" in caplog.text
    with pytest.raises(InputError, match="no sample 'Z'"):
        read_haplotypes(open_variants(path), "Z", lambda name: name)
