from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np

from hyena_dna.genome.interval import Interval
from hyena_dna.genome.sequence import gc_fraction, reverse_complement
from hyena_dna.simulation.assembly import BACKGROUND, Contig, Element, Genome
from hyena_dna.simulation.grammar import ENHANCER, PROMOTER, satisfied
from hyena_dna.simulation.layout import ELEMENT_LENGTH, FLANK


def _windows(genome: Genome) -> list[tuple[Contig, Element, bytes]]:
    found = []
    for contig in genome.contigs:
        for element in contig.elements:
            place = element.interval
            window = Interval(place.chrom, place.start - FLANK, place.end + FLANK)
            found.append((contig, element, contig.read(window)))
    return found


def test_elements_satisfy_every_pair_and_decoys_none(genome: Genome) -> None:
    for _, element, window in _windows(genome):
        assert satisfied(window, element.grammar) == (len(element.grammar.pairs) if element.obeys else 0)
        assert element.label == (element.grammar.label if element.obeys else BACKGROUND)


def test_elements_do_not_overlap_nor_come_into_each_others_windows(genome: Genome) -> None:
    for contig in genome.contigs:
        assert all(b.interval.start - a.interval.end >= FLANK for a, b in pairwise(contig.elements))
        assert {element.interval.length for element in contig.elements} == {ELEMENT_LENGTH}


def test_motifs_stand_where_the_truth_says(genome: Genome) -> None:
    for contig, element, _ in _windows(genome):
        for placement in element.placements:
            assert not placement.motif.mismatches(contig.read(element.motif_interval(placement)))


def test_decoys_have_the_same_motifs_and_composition(genome: Genome) -> None:
    for grammar in (PROMOTER, ENHANCER):
        motifs, gc = {}, {}
        for obeys in (True, False):
            mine = [(e, w) for _, e, w in _windows(genome) if e.grammar is grammar and e.obeys is obeys]
            counts = Counter(placement.motif.name for element, _ in mine for placement in element.placements)
            motifs[obeys] = {name: count / len(mine) for name, count in counts.items()}
            gc[obeys] = float(np.mean([gc_fraction(window) for _, window in mine]))
        assert motifs[True] == motifs[False]
        assert abs(gc[True] - gc[False]) < 0.03


def test_repeats_are_soft_masked_and_nothing_else_is(genome: Genome) -> None:
    for contig in genome.contigs:
        masked = np.zeros(contig.length, np.bool_)
        for place, _ in contig.repeats:
            masked[place.start : place.end] = True
        assert (masked == contig.soft).all()
        assert 0.05 < masked.mean() < 0.15


def test_islands_keep_cpg_and_spacers_have_lost_it(genome: Genome) -> None:
    def ratio(sequence: bytes) -> float:
        return sequence.count(b"CG") * len(sequence) / (sequence.count(b"C") * sequence.count(b"G"))

    contig = genome.contigs[0]
    far = contig.spacer.copy()
    for element in contig.elements:
        far[element.interval.start - 200 : element.interval.end + 200] = False
    assert ratio(contig.bases[far].tobytes()) < 0.4
    islands = b"".join(window for _, _, window in _windows(genome) if gc_fraction(window) > 0.6)
    assert ratio(islands) > 0.75


def test_contigs_begin_and_end_in_gaps_and_hold_only_acgtn(genome: Genome) -> None:
    for contig in genome.contigs:
        assert set(contig.bases.tobytes()) == set(b"ACGTN")
        assert contig.bases[0] == contig.bases[-1] == ord("N")
        assert contig.bases.tobytes().count(b"N") < 0.1 * contig.length


def test_read_and_write_use_the_intervals_strand(genome: Genome) -> None:
    bases = np.frombuffer(b"AACGTTTT", np.uint8).copy()
    contig = Contig("c", bases, np.zeros(8, np.bool_), np.zeros(8, np.bool_))
    place = Interval("c", 1, 4, "-")
    assert contig.read(place) == reverse_complement(b"ACG")
    contig.write(place, b"GGA")
    assert contig.bases.tobytes() == b"ATCCTTTT"
    assert contig.read(place) == b"GGA"
