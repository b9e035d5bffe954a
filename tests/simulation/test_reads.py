"""Reads as they stand in the BAM file, against haplotypes that bcftools makes from the VCF."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pysam
import pysam.bcftools
import pytest

from hyena_dna.genome.sequence import reverse_complement
from hyena_dna.simulation.reads import KINDS, READ_LENGTH
from hyena_dna.simulation.simulate import Simulation

_HIDDEN = 0xF04
_QUERY_AND_REFERENCE, _QUERY_ONLY = (0, 7, 8), (1, 4)


@pytest.fixture(scope="module")
def records(example: Simulation) -> list[pysam.AlignedSegment]:
    with pysam.AlignmentFile(str(example.output / "reads.bam")) as handle:
        return list(handle.fetch(until_eof=True))


@pytest.fixture(scope="module")
def contig(example: Simulation) -> str:
    with pysam.FastaFile(str(example.output / "genome.fa.gz")) as handle:
        return str(handle.fetch(example.read_region.chrom)).upper()


@pytest.fixture(scope="module")
def haplotypes(example: Simulation, tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    made = {}
    for haplotype in (1, 2):
        path = tmp_path_factory.mktemp("consensus") / "haplotype.fa"
        pysam.bcftools.consensus(
            "-s", "SIM1", "-H", str(haplotype), "-f", str(example.output / "genome.fa.gz"), "-o", str(path),
            str(example.output / "variants.vcf.gz"), catch_stdout=False,
        )  # fmt: skip
        with pysam.FastaFile(str(path)) as handle:
            made[haplotype] = str(handle.fetch(example.read_region.chrom)).upper()
    return made


def _primary(records: list[pysam.AlignedSegment]) -> list[pysam.AlignedSegment]:
    return [record for record in records if not record.flag & (0x4 | 0x100)]


def test_reads_equal_their_haplotype_but_for_the_counted_errors(
    records: list[pysam.AlignedSegment], haplotypes: dict[int, str], contig: str
) -> None:
    assert haplotypes[1] != haplotypes[2] != contig
    errors = bases = differs = 0
    for record in _primary(records):
        haplotype, origin = int(record.get_tag("HP")), int(record.get_tag("ZO"))
        sequence = record.query_alignment_sequence
        assert sequence is not None
        expected = haplotypes[haplotype][origin : origin + len(sequence)]
        wrong = sum(a != b for a, b in zip(sequence, expected, strict=True))
        assert wrong == record.get_tag("ZE")
        errors, bases = errors + wrong, bases + len(sequence)
        differs += expected not in contig
    assert 0.001 < errors / bases < 0.005
    assert differs > 20


def test_cigars_place_every_base_on_the_reference(records: list[pysam.AlignedSegment], contig: str) -> None:
    operations = set()
    for record in _primary(records):
        assert record.cigartuples
        operations |= {operation for operation, _ in record.cigartuples}
        sequence = record.query_sequence
        assert sequence
        read_bases = sum(n for operation, n in record.cigartuples if operation in (*_QUERY_AND_REFERENCE, *_QUERY_ONLY))
        assert read_bases == len(sequence)
        pairs = record.get_aligned_pairs(matches_only=True)
        mismatches = sum(sequence[query] != contig[place] for query, place in pairs)
        gaps = sum(n for operation, n in record.cigartuples if operation in (1, 2))
        assert record.get_tag("NM") == mismatches + gaps
    assert operations == {0, 1, 2, 4, 5}


def test_reads_carry_the_phased_alleles_of_their_haplotype(
    records: list[pysam.AlignedSegment], example: Simulation
) -> None:
    agree = disagree = 0
    with pysam.VariantFile(str(example.output / "variants.vcf.gz")) as handle:
        snvs = [record for record in handle.fetch(example.read_region.chrom) if len(record.ref or "") == 1]
    snvs = [record for record in snvs if all(len(alt) == 1 for alt in record.alts or ())]
    for record in _primary(records):
        at = {place: query for query, place in record.get_aligned_pairs(matches_only=True)}
        for variant in snvs:
            if variant.start in at and record.query_sequence:
                genotype = variant.samples["SIM1"]["GT"]
                wanted = (variant.alleles or ())[genotype[int(record.get_tag("HP")) - 1] or 0]
                seen = record.query_sequence[at[variant.start]]
                agree, disagree = agree + (seen == wanted), disagree + (seen != wanted)
    assert agree > 100
    assert disagree < 0.02 * agree


def test_flags_are_all_there_and_most_reads_pass(records: list[pysam.AlignedSegment]) -> None:
    for flag in (0x4, 0x10, 0x100, 0x200, 0x400, 0x800):
        assert any(record.flag & flag for record in records)
    passing = [record for record in records if not record.flag & _HIDDEN]
    assert len(passing) > 0.9 * len(records)
    assert 0.4 < sum(record.is_reverse for record in passing) / len(passing) < 0.6
    assert abs(sum(record.get_tag("HP") == 1 for record in passing) / len(passing) - 0.5) < 0.1
    assert all(record.query_sequence is None for record in records if record.is_secondary)
    supplementary = [record for record in records if record.is_supplementary]
    assert all(record.has_tag("SA") and record.cigartuples[0][0] == 5 for record in supplementary if record.cigartuples)
    assert sum(KINDS.values()) == pytest.approx(1)


def test_adapters_are_soft_clipped_at_the_end_of_the_read(records: list[pysam.AlignedSegment]) -> None:
    found = {True: 0, False: 0}
    for record in _primary(records):
        sequence, cigar = record.query_sequence, record.cigartuples
        if not sequence or not cigar or record.has_tag("SA"):
            continue
        operation, clipped = cigar[0] if record.is_reverse else cigar[-1]
        if operation == 4 and clipped >= 12:
            as_read = reverse_complement(sequence.encode()) if record.is_reverse else sequence.encode()
            tail = as_read[-clipped:]
            same = sum(a == b for a, b in zip(tail, b"AGATCGGAAGAGCACACGTCTGAACTCCAGTCA", strict=False))
            assert same >= len(tail) - 3
            found[record.is_reverse] += 1
    assert min(found.values()) > 0


def test_qualities_say_how_often_a_base_is_wrong(
    records: list[pysam.AlignedSegment], haplotypes: dict[int, str]
) -> None:
    wrong: dict[int, list[bool]] = {37: [], 25: [], 11: []}
    for record in _primary(records):
        origin, sequence = int(record.get_tag("ZO")), record.query_alignment_sequence
        assert sequence is not None
        expected = haplotypes[int(record.get_tag("HP"))][origin : origin + len(sequence)]
        for quality, a, b in zip(record.query_alignment_qualities or (), sequence, expected, strict=True):
            wrong[quality].append(a != b)
    rates = {quality: float(np.mean(errors)) for quality, errors in wrong.items()}
    assert rates[11] == pytest.approx(10**-1.1, rel=0.2)
    assert rates[25] == pytest.approx(10**-2.5, rel=0.4)
    assert rates[37] < 0.001


def test_reads_of_the_region_are_sorted_and_reach_the_depth(
    records: list[pysam.AlignedSegment], example: Simulation, contig: str
) -> None:
    starts = [record.reference_start for record in records if record.reference_id >= 0]
    assert starts == sorted(starts)
    assert all(record.reference_id < 0 for record in records[len(starts) :])
    region = example.read_region
    readable = region.length - contig[region.start : region.end].count("N")
    depth = sum(record.query_alignment_length for record in _primary(records)) / readable
    assert 8 < depth < 12
    assert max(record.query_length for record in records) == READ_LENGTH


def test_header_has_the_md5_of_every_contig(example: Simulation) -> None:
    with pysam.AlignmentFile(str(example.output / "reads.bam")) as handle:
        header = handle.header.to_dict()
        assert handle.has_index()
    assert header["HD"]["SO"] == "coordinate"
    with pysam.FastaFile(str(example.output / "genome.fa.gz")) as fasta:
        for line in header["SQ"]:
            sequence = fasta.fetch(line["SN"]).upper().encode()
            assert line["LN"] == len(sequence)
            assert line["M5"] == hashlib.md5(sequence).hexdigest()


def test_htslib_finds_nothing_wrong(example: Simulation, tmp_path: Path) -> None:
    again = tmp_path / "again.bam"
    pysam.samtools.calmd("-b", str(example.output / "reads.bam"), str(example.output / "genome.fa.gz"),
                         save_stdout=str(again))  # fmt: skip
    with pysam.AlignmentFile(str(example.output / "reads.bam")) as ours, pysam.AlignmentFile(str(again)) as theirs:
        for mine, other in zip(ours.fetch(until_eof=True), theirs.fetch(until_eof=True), strict=True):
            if not mine.is_unmapped and not mine.is_secondary:
                assert mine.get_tag("NM") == other.get_tag("NM")
