from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from hyena_dna.genome.interval import Interval
from hyena_dna.genome.sequence import reverse_complement
from hyena_dna.simulation.assembly import Genome
from hyena_dna.simulation.cohort import plan_variants
from hyena_dna.simulation.element_variants import pairs_with
from hyena_dna.simulation.variants import APART, EFFECTS, Plan, Variant, allele_type


def test_every_type_and_effect_is_there(variants: list[Variant]) -> None:
    assert {effect for variant in variants for effect in variant.effects} == set(EFFECTS)
    kinds = {kind for variant in variants for kind in variant.types}
    assert kinds == {"snv", "mnv", "insertion", "deletion", "delins"}
    assert any(len(set(variant.types)) == 2 for variant in variants)
    assert any(len(set(variant.effects)) == 2 for variant in variants)


def test_references_match_and_alleles_are_plain_and_distinct(genome: Genome, variants: list[Variant]) -> None:
    bases = {contig.name: contig.bases.tobytes().decode() for contig in genome.contigs}
    for variant in variants:
        assert bases[variant.chrom][variant.start : variant.end] == variant.ref
        assert len({variant.ref, *variant.alts}) == 1 + len(variant.alts)
        assert set("".join((variant.ref, *variant.alts))) <= set("ACGT")
        assert len(variant.effects) == len(variant.alts)


def test_alleles_are_parsimonious_and_left_aligned(variants: list[Variant]) -> None:
    for variant in variants:
        alleles = (variant.ref, *variant.alts)
        assert len({allele[-1] for allele in alleles}) > 1
        assert min(map(len, alleles)) == 1 or len({allele[0] for allele in alleles}) > 1


def test_variants_keep_apart_and_share_no_element(variants: list[Variant]) -> None:
    for a, b in pairwise(variants):
        assert a.chrom != b.chrom or b.start - a.end >= APART
    elements = [variant.element for variant in variants if variant.element]
    assert len(elements) == len(set(elements))
    assert len({variant.name for variant in variants}) == len(variants)


def test_the_grammar_agrees_with_every_planted_effect(genome: Genome, variants: list[Variant]) -> None:
    contigs = {contig.name: contig for contig in genome.contigs}
    elements = {element.name: element for element in genome.elements}
    change = {"neutral": 0, "motif_preserving": 0, "motif_breaking": -1, "motif_making": 1, "spacing_breaking": -1}
    seen: Counter[str] = Counter()
    for variant in variants:
        if variant.element is None:
            assert set(variant.effects) == {"neutral"}
            contig = contigs[variant.chrom]
            assert contig.spacer[variant.start - APART : variant.end + APART].all()
            continue
        element, contig = elements[variant.element], contigs[variant.chrom]
        assert element.interval.start <= variant.start < variant.end <= element.interval.end
        before = pairs_with(contig, element)
        for allele, effect in enumerate(variant.effects):
            assert pairs_with(contig, element, variant, allele) - before == change[effect]
            seen[effect] += 1
    assert min(seen[effect] for effect in change) > 5


def test_only_breaking_and_preserving_variants_touch_motifs(genome: Genome, variants: list[Variant]) -> None:
    elements = {element.name: element for element in genome.elements}
    for variant in variants:
        if variant.element is None:
            continue
        element = elements[variant.element]
        # The anchor base of an indel stays.
        first = variant.start if variant.types[0] in ("snv", "mnv") else variant.start + 1
        motifs = [element.motif_interval(placement) for placement in element.placements]
        touches = any(max(first, motif.start) < min(max(variant.end, first + 1), motif.end) for motif in motifs)
        assert touches is ("motif_breaking" in variant.effects) or variant.types == ("insertion",)


def test_breaking_indels_leave_one_motif_fewer_and_spacing_indels_keep_all(
    genome: Genome, variants: list[Variant]
) -> None:
    contigs = {contig.name: contig for contig in genome.contigs}
    elements = {element.name: element for element in genome.elements}
    seen: Counter[str] = Counter()
    for variant in variants:
        if variant.element is None or not {"insertion", "deletion"} & set(variant.types):
            continue
        element, contig = elements[variant.element], contigs[variant.chrom]
        place = element.interval
        before = contig.read(Interval(place.chrom, place.start, place.end)).decode()
        at = variant.start - place.start
        after = before[:at] + variant.alts[0] + before[at + len(variant.ref) :]
        own = [text.encode() if place.strand == "+" else reverse_complement(text.encode()) for text in (before, after)]
        motifs = [motif for pair in element.grammar.pairs for motif in (pair.first, pair.second)]
        lost = any(len(motif.starts(own[1])) < len(motif.starts(own[0])) for motif in motifs)
        assert lost is (variant.effects == ("motif_breaking",))
        seen[variant.effects[0]] += 1
    assert set(seen) == {"motif_breaking", "spacing_breaking"}


def test_controls_have_the_same_change_in_the_same_trinucleotide(genome: Genome, variants: list[Variant]) -> None:
    bases = {contig.name: contig.bases.tobytes() for contig in genome.contigs}
    named = {variant.name: variant for variant in variants}
    effective = [v for v in variants if v.types == ("snv",) and v.effects[0] in ("motif_breaking", "motif_making")]
    assert len(effective) > 50
    assert sum(variant.match is not None for variant in effective) > 0.95 * len(effective)
    for variant in effective:
        if variant.match is None:
            continue
        control = named[variant.match]
        assert control.match == variant.name
        assert control.effects == ("neutral",)
        assert control.alts == variant.alts
        around = [bases[v.chrom][v.start - 1 : v.start + 2] for v in (variant, control)]
        assert around[0] == around[1]


def test_genotypes_are_phased_alleles_of_the_record(variants: list[Variant]) -> None:
    alleles = Counter(allele for v in variants for genotype in v.genotypes for allele in genotype)
    for variant in variants:
        assert len(variant.genotypes) == 2
        assert all(0 <= allele <= len(variant.alts) for genotype in variant.genotypes for allele in genotype)
    assert alleles[0] / sum(alleles.values()) == pytest.approx(0.5, abs=0.05)
    assert alleles[2] > 0


def test_genotypes_do_not_depend_on_other_parts(genome: Genome, variants: list[Variant]) -> None:
    assert plan_variants(5, genome) == variants


@pytest.mark.parametrize(
    ("ref", "alt", "kind"),
    [
        ("A", "G", "snv"),
        ("AC", "GT", "mnv"),
        ("A", "AT", "insertion"),
        ("AT", "A", "deletion"),
        ("AC", "GTT", "delins"),
        ("AG", "AT", "snv"),
        ("AGT", "ACT", "snv"),
    ],
)
def test_allele_types_are_judged_after_trimming(ref: str, alt: str, kind: str) -> None:
    assert allele_type(ref, alt) == kind


def test_a_plan_refuses_neighbours(genome: Genome) -> None:
    plan = Plan(genome.contigs[0])
    spot = int(np.flatnonzero(genome.contigs[0].spacer)[0])
    assert plan.add(plan.variant(spot, 1, ("A",), ("neutral",)))
    assert not plan.add(plan.variant(spot + APART, 1, ("A",), ("neutral",)))
    assert plan.add(plan.variant(spot + APART + 1, 1, ("A",), ("neutral",)))
