"""Variants that make or lose a pair of motifs, and neutral controls with the same change in the same context."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hyena_dna.genome.sequence import reverse_complement
from hyena_dna.simulation.assembly import Contig, Element
from hyena_dna.simulation.grammar import Placement, satisfied
from hyena_dna.simulation.layout import FLANK
from hyena_dna.simulation.variants import Plan, Variant

__all__ = ["DENSITIES", "pairs_with", "plan_in_elements"]

# Variants per Mb; matched neutral controls come on top of the substitutions with one alternative.
DENSITIES = {
    "making_snv": 60, "breaking_snv": 200, "breaking_indel": 30, "spacing_indel": 40, "motif_multiallelic": 30,
}  # fmt: skip
_BREAKING_INDEL = (1, 3)
_SPACING_INDEL = (5, 7)

_Proposal: TypeAlias = Callable[[np.random.Generator, Plan, Element], Variant | None]


def plan_in_elements(rng: np.random.Generator, plan: Plan) -> None:
    """Add the variants that lie in elements and decoys.

    A proposal is kept only where the grammar, read on the changed sequence, says that the effect is there.
    """
    obeying = [element for element in plan.contig.elements if element.obeys]
    decoys = [element for element in plan.contig.elements if not element.obeys]
    # Pairs that one substitution can make are rare, so those choose first.
    _choose(rng, plan, "making_snv", decoys, _making_snv)
    _choose(rng, plan, "breaking_snv", obeying, _breaking_snv)
    _choose(rng, plan, "breaking_indel", obeying, _breaking_indel)
    _choose(rng, plan, "spacing_indel", obeying, _spacing_indel)
    _choose(rng, plan, "motif_multiallelic", obeying, _motif_multiallelic)
    _add_controls(rng, plan)


def pairs_with(contig: Contig, element: Element, variant: Variant | None = None, allele: int = 0) -> int:
    """How many motif pairs an element and its flanks satisfy, with one alternative allele or as the reference is.

    Args:
        contig: the element's contig.
        element: the element or decoy.
        variant: a variant inside the element; the reference where absent.
        allele: index of the alternative allele.
    """
    return satisfied(_own_strand(contig, element, variant, allele), element.grammar)


def _own_strand(contig: Contig, element: Element, variant: Variant | None = None, allele: int = 0) -> bytes:
    """An element with its flanks on its own strand, with one alternative allele or as the reference is."""
    start, end = element.interval.start - FLANK, element.interval.end + FLANK
    sequence = contig.bases[start:end].tobytes()
    if variant:
        alt = variant.alts[allele].encode()
        sequence = sequence[: variant.start - start] + alt + sequence[variant.end - start :]
    return reverse_complement(sequence) if element.interval.strand == "-" else sequence


def _choose(rng: np.random.Generator, plan: Plan, kind: str, elements: list[Element], propose: _Proposal) -> None:
    wanted = round(DENSITIES[kind] * plan.contig.length / 1e6)
    for i in rng.permutation(len(elements)).tolist():
        if not wanted:
            return
        if elements[i].name not in plan.used:
            variant = propose(rng, plan, elements[i])
            wanted -= variant is not None and plan.add(variant)


def _loses_pair(plan: Plan, element: Element, variant: Variant) -> bool:
    # The last allele is the one that breaks.
    last = len(variant.alts) - 1
    return pairs_with(plan.contig, element, variant, last) < pairs_with(plan.contig, element)


def _pair_motif(rng: np.random.Generator, element: Element) -> tuple[int, Placement]:
    """A random motif of the element that belongs to a pair, and where it starts in the genome."""
    accessory = element.grammar.accessory
    motifs = [placement for placement in element.placements if placement.motif not in accessory]
    placement = motifs[int(rng.integers(len(motifs)))]
    return element.motif_interval(placement).start, placement


def _allowed(element: Element, placement: Placement, offset: int) -> str:
    """Forward-strand bases that keep a motif, at an offset from its start on the forward strand."""
    if element.interval.strand == "+":
        return placement.motif.allowed(offset)
    return reverse_complement(placement.motif.allowed(placement.motif.length - 1 - offset).encode()).decode()


def _breaking_snv(rng: np.random.Generator, plan: Plan, element: Element) -> Variant | None:
    start, placement = _pair_motif(rng, element)
    offset = int(rng.integers(placement.motif.length))
    forbidden = [base for base in "ACGT" if base not in _allowed(element, placement, offset)]
    if not forbidden:
        return None
    alt = forbidden[int(rng.integers(len(forbidden)))]
    variant = plan.variant(start + offset, 1, (alt,), ("motif_breaking",), element)
    return variant if _loses_pair(plan, element, variant) else None


def _motif_multiallelic(rng: np.random.Generator, plan: Plan, element: Element) -> Variant | None:
    start, placement = _pair_motif(rng, element)
    either = [i for i in range(placement.motif.length) if len(_allowed(element, placement, i)) == 2]
    if not either:
        return None
    offset = either[int(rng.integers(len(either)))]
    allowed = _allowed(element, placement, offset)
    preserving = allowed.replace(plan.bases(start + offset, start + offset + 1), "")
    breaking = [base for base in "ACGT" if base not in allowed][int(rng.integers(2))]
    effects = ("motif_preserving", "motif_breaking")
    variant = plan.variant(start + offset, 1, (preserving, breaking), effects, element)
    return variant if _loses_pair(plan, element, variant) else None


def _breaking_indel(rng: np.random.Generator, plan: Plan, element: Element) -> Variant | None:
    start, placement = _pair_motif(rng, element)
    size = int(rng.integers(_BREAKING_INDEL[0], _BREAKING_INDEL[1] + 1))
    # The anchor and all that follows it in the alleles lie inside the motif.
    anchor = start + int(rng.integers(placement.motif.length - size))
    variant = _indel(rng, plan, anchor, size, "motif_breaking", element)
    if variant is None or not _loses_pair(plan, element, variant):
        return None
    # The bases around may restore the motif a little further on; then only the distance has changed.
    before, after = _own_strand(plan.contig, element), _own_strand(plan.contig, element, variant)
    return variant if len(placement.motif.starts(after)) < len(placement.motif.starts(before)) else None


def _spacing_indel(rng: np.random.Generator, plan: Plan, element: Element) -> Variant | None:
    pair = element.grammar.pairs[int(rng.integers(len(element.grammar.pairs)))]
    left, right = sorted(
        element.motif_interval(placement)
        for placement in element.placements
        if placement.motif in (pair.first, pair.second)
    )
    size = int(rng.integers(_SPACING_INDEL[0], _SPACING_INDEL[1] + 1))
    anchor = int(rng.integers(left.end, right.start))
    if anchor + 1 + size > right.start:
        return None
    variant = _indel(rng, plan, anchor, size, "spacing_breaking", element)
    return variant if variant and _loses_pair(plan, element, variant) else None


def _indel(
    rng: np.random.Generator, plan: Plan, anchor: int, size: int, effect: str, element: Element
) -> Variant | None:
    """An insertion or deletion after an anchor base, or None where its left-aligned place would be another."""
    base = plan.bases(anchor, anchor + 1)
    if rng.random() < 0.5:
        inserted = "".join("ACGT"[i] for i in rng.integers(0, 4, size).tolist())
        variant = plan.variant(anchor, 1, (base + inserted,), (effect,), element)
    else:
        variant = plan.variant(anchor, size + 1, (base,), (effect,), element)
    return None if variant.ref[-1] == variant.alts[0][-1] else variant


def _making_snv(rng: np.random.Generator, plan: Plan, element: Element) -> Variant | None:
    candidates = list(_completions(plan.contig, element))
    if not candidates:
        return None
    start, alt = candidates[int(rng.integers(len(candidates)))]
    variant = plan.variant(start, 1, (alt,), ("motif_making",), element)
    more = pairs_with(plan.contig, element, variant) > pairs_with(plan.contig, element)
    return variant if more else None


def _completions(contig: Contig, element: Element) -> Iterator[tuple[int, str]]:
    """Substitutions, as start and base, that complete a motif at an allowed distance from its partner.

    Bases of planted motifs are left alone.
    """
    interval = element.interval
    own = contig.read(interval)
    covered = {i for placement in element.placements for i in range(placement.offset, placement.end)}
    for pair in element.grammar.pairs:
        for distance in range(pair.nearest, pair.farthest + 1):
            sites = [(at + distance, pair.second) for at in pair.first.starts(own)]
            sites += [(at - distance, pair.first) for at in pair.second.starts(own)]
            for at, motif in sites:
                if at < 0 or at + motif.length > len(own):
                    continue
                wrong = motif.mismatches(own[at : at + motif.length])
                if len(wrong) != 1 or at + wrong[0] in covered:
                    continue
                base = motif.allowed(wrong[0])[0]
                if interval.strand == "+":
                    yield interval.start + at + wrong[0], base
                else:
                    yield interval.end - 1 - at - wrong[0], reverse_complement(base.encode()).decode()


def _add_controls(rng: np.random.Generator, plan: Plan) -> None:
    """For each substitution with an effect, the same change in the same trinucleotide, outside every motif."""
    filler = _filler(plan.contig)
    codes = _trinucleotides(plan.contig.bases)
    starts = np.array([element.interval.start for element in plan.contig.elements])
    for i, variant in enumerate(list(plan.planned)):
        if variant.types != ("snv",):
            continue
        for place in rng.permutation(np.flatnonzero(filler & (codes == codes[variant.start]))).tolist():
            element = plan.contig.elements[int(np.searchsorted(starts, place, "right")) - 1]
            if element.name in plan.used:
                continue
            control = plan.variant(place, 1, variant.alts, ("neutral",), element)
            unchanged = pairs_with(plan.contig, element, control) == pairs_with(plan.contig, element)
            if unchanged and plan.add(control):
                plan.match(i, len(plan.planned) - 1)
                break


def _filler(contig: Contig) -> NDArray[np.bool_]:
    """Bases inside elements and decoys that no motif covers."""
    filler = np.zeros(contig.length, np.bool_)
    for element in contig.elements:
        filler[element.interval.start : element.interval.end] = True
        for placement in element.placements:
            motif = element.motif_interval(placement)
            filler[motif.start : motif.end] = False
    return filler


def _trinucleotides(bases: NDArray[np.uint8]) -> NDArray[np.int64]:
    """One number for the base at each position with its two neighbours; the ends get -1."""
    codes = np.full(len(bases), -1, np.int64)
    wide = bases.astype(np.int64)
    codes[1:-1] = wide[:-2] << 16 | wide[1:-1] << 8 | wide[2:]
    return codes
