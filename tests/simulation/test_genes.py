from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from Bio.Seq import Seq

from hyena_dna.genome.interval import Interval
from hyena_dna.genome.sequence import reverse_complement
from hyena_dna.simulation.assembly import Genome
from hyena_dna.simulation.genes import GenePlan, place_gene, plan_gene, write_gene
from hyena_dna.simulation.motifs import INITIATOR


def test_every_gene_translates_to_one_open_reading_frame(genome: Genome) -> None:
    contigs = {contig.name: contig for contig in genome.contigs}
    assert {gene.interval.strand for gene in genome.genes} == {"+", "-"}
    for gene in genome.genes:
        contig, strand = contigs[gene.interval.chrom], gene.interval.strand
        parts = []
        for exon in gene.exons:
            start, end = max(exon.start, gene.coding_start), min(exon.end, gene.coding_end)
            parts.append(contig.read(Interval(contig.name, start, end)).decode() if start < end else "")
        forward = "".join(parts).encode()
        coding = forward if strand == "+" else reverse_complement(forward)
        protein = str(Seq(coding).translate())  # type: ignore[no-untyped-call]
        assert len(coding) % 3 == 0
        assert protein[0] == "M"
        assert protein[-1] == "*"
        assert protein.count("*") == 1


def test_introns_begin_and_end_with_their_splice_sites(genome: Genome) -> None:
    contigs = {contig.name: contig for contig in genome.contigs}
    introns = 0
    for gene in genome.genes:
        for left, right in zip(gene.exons, gene.exons[1:], strict=False):
            intron = contigs[gene.interval.chrom].read(
                Interval(gene.interval.chrom, left.end, right.start, gene.interval.strand)
            )
            assert intron.startswith(b"GT")
            assert intron.endswith(b"AG")
            introns += 1
    assert introns > len(genome.genes) / 2


def test_transcripts_start_at_the_initiator_of_their_promoter(genome: Genome) -> None:
    contigs = {contig.name: contig for contig in genome.contigs}
    promoters = {element.gene: element for element in genome.elements if element.gene}
    assert len(promoters) == len(genome.genes)
    for gene in genome.genes:
        place, promoter = gene.interval, promoters[gene.name]
        tss = place.start if place.strand == "+" else place.end - 1
        assert tss == promoter.tss
        assert promoter.interval.strand == place.strand
        initiator = Interval(place.chrom, tss - 2, tss + 4, "+")
        if place.strand == "-":
            initiator = Interval(place.chrom, tss - 3, tss + 3, "-")
        assert not INITIATOR.mismatches(contigs[place.chrom].read(initiator))


def test_both_strands_give_mirrored_coordinates() -> None:
    plan = GenePlan(utr5=60, pieces=(100, 50), introns=(80,), utr3=90)
    forward = place_gene("f", plan, Interval("c", 1_000, 1_160, "+"), 1_150)
    backward = place_gene("b", plan, Interval("c", 1_000, 1_160, "-"), 1_009)
    assert forward.interval == Interval("c", 1_150, 1_160 + 380, "+")
    assert backward.interval == Interval("c", 1_000 - 380, 1_010, "-")
    assert [exon.length for exon in forward.exons] == [exon.length for exon in backward.exons][::-1]
    assert (forward.coding_start - 1_160, forward.coding_end - 1_160) == (60, 290)
    assert (1_000 - backward.coding_end, 1_000 - backward.coding_start) == (60, 290)


def test_codon_usage_is_biased_as_in_human_genes() -> None:
    rng = np.random.default_rng(0)
    plan = GenePlan(utr5=60, pieces=(30_000,), introns=(), utr3=80)
    body = write_gene(rng, plan, b"A" * plan.length)
    coding = body[60 : 60 + 30_000].decode()
    counts = Counter(coding[i : i + 3] for i in range(0, len(coding), 3))
    leucine = {codon: counts[codon] for codon in ("TTA", "TTG", "CTT", "CTC", "CTA", "CTG")}
    assert leucine["CTG"] / sum(leucine.values()) == pytest.approx(0.40, abs=0.06)
    assert leucine["CTA"] / sum(leucine.values()) == pytest.approx(0.07, abs=0.03)


def test_plans_add_up() -> None:
    rng = np.random.default_rng(4)
    for _ in range(100):
        plan = plan_gene(rng)
        assert sum(plan.pieces) % 3 == 0
        assert min(plan.pieces) >= 40
        assert plan.coding[-1][1] + plan.utr3 == plan.length
