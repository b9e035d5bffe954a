from __future__ import annotations

import csv
from collections import Counter

import pysam
import pysam.bcftools

from hyena_dna.simulation.simulate import Simulation
from hyena_dna.simulation.variants import EFFECTS, Variant


def _rows(example: Simulation, name: str) -> list[list[str]]:
    return [line.split("\t") for line in (example.output / name).read_text().splitlines()]


def test_bed_tables_lie_on_their_contigs_in_order(example: Simulation) -> None:
    order = list(example.contigs)
    for name in ("elements.bed", "promoters.bed", "repeats.bed", "genes.bed"):
        rows = _rows(example, name)
        places = [(order.index(chrom), int(start), int(end)) for chrom, start, end, *_ in rows]
        assert places == sorted(places)
        assert all(0 <= start < end <= example.contigs[order[i]] for i, start, end in places)
        assert {row[5] for row in rows} <= {"+", "-"}


def test_labels_are_the_fourth_column(example: Simulation) -> None:
    assert Counter(row[3] for row in _rows(example, "elements.bed")) == example.elements
    task = Counter(row[3] for row in _rows(example, "promoters.bed"))
    assert set(task) == {"promoter", "background"}
    assert task["promoter"] == task["background"]


def test_the_element_table_agrees_with_the_bed_files(example: Simulation) -> None:
    with open(example.output / "elements.tsv") as handle:
        table = list(csv.DictReader(handle, delimiter="\t"))
    bed = [[row["chrom"], row["start"], row["end"], row["label"], "0", row["strand"]] for row in table]
    assert bed == _rows(example, "elements.bed")
    assert [b for b, row in zip(bed, table, strict=True) if row["grammar"] == "promoter"] == _rows(
        example, "promoters.bed"
    )
    assert {row["split"] for row in table} == {"train", "valid", "test"}
    assert all((row["tss"] != ".") is (row["label"] == "promoter") for row in table)
    assert sum(row["gene"] != "." for row in table) == example.genes


def test_motif_table_is_found_through_its_index(example: Simulation) -> None:
    first = _rows(example, "elements.bed")[0]
    with pysam.TabixFile(str(example.output / "motifs.bed.gz")) as handle:
        found = [row.split("\t") for row in handle.fetch(first[0], int(first[1]), int(first[2]))]
    assert len(found) >= 4
    assert len({row[3].split(":")[0] for row in found}) == 1


def test_genes_are_valid_bed12(example: Simulation) -> None:
    for row in _rows(example, "genes.bed"):
        start, end, thick_start, thick_end, blocks = (int(row[i]) for i in (1, 2, 6, 7, 9))
        sizes, starts = ([int(x) for x in row[i].split(",")] for i in (10, 11))
        assert len(row) == 12
        assert len(sizes) == len(starts) == blocks
        assert starts[0] == 0
        assert starts[-1] + sizes[-1] == end - start
        assert all(starts[i] + sizes[i] < starts[i + 1] for i in range(blocks - 1))
        assert start < thick_start < thick_end < end


def test_pysam_reads_the_vcf_and_every_reference_matches(example: Simulation, variants: list[Variant]) -> None:
    expected = {variant.name: variant for variant in variants}
    with (
        pysam.VariantFile(str(example.output / "variants.vcf.gz")) as handle,
        pysam.FastaFile(str(example.output / "genome.fa.gz")) as fasta,
    ):
        assert handle.header.version == "VCFv4.3"
        assert {name: contig.length for name, contig in handle.header.contigs.items()} == example.contigs
        assert list(handle.header.samples) == ["SIM1", "SIM2"]
        records = list(handle)
        for record in records:
            assert record.id
            assert record.ref
            variant = expected.pop(record.id)
            assert fasta.fetch(record.chrom, record.start, record.start + len(record.ref)).upper() == record.ref
            assert record.alts == variant.alts
            assert record.info["EFFECT"] == variant.effects
            assert set(record.info["EFFECT"]) <= set(EFFECTS)
            assert len(record.info["TYPE"]) == len(variant.alts)
            assert all(record.samples[name].phased for name in ("SIM1", "SIM2"))
            assert record.samples[1]["GT"] == variant.genotypes[1]
    assert not expected


def test_bcftools_norm_changes_nothing(example: Simulation) -> None:
    vcf, fasta = str(example.output / "variants.vcf.gz"), str(example.output / "genome.fa.gz")
    normalised = str(pysam.bcftools.norm("--check-ref", "e", "--no-version", "-f", fasta, vcf)).splitlines()
    plain = str(pysam.bcftools.view("--no-version", vcf)).splitlines()
    assert normalised[-example.records :] == plain[-example.records :]
