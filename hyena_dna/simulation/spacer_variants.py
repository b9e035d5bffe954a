"""Neutral variants of every type, away from all features."""

from __future__ import annotations

import numpy as np

from hyena_dna.simulation.variants import APART, Plan, Variant

__all__ = ["DENSITIES", "plan_in_spacers"]

# Variants per Mb.
DENSITIES = {
    "snv": 150, "insertion": 40, "deletion": 40, "mnv": 25, "delins": 25, "multiallelic": 25, "mixed_multiallelic": 25,
}  # fmt: skip
_LONGEST_INDEL = 8
_TRANSITION = {"A": "G", "G": "A", "C": "T", "T": "C"}
# Transitions are about twice as common as transversions.
_TRANSITION_SHARE = 2 / 3
_NEUTRAL = ("neutral",)


def plan_in_spacers(rng: np.random.Generator, plan: Plan) -> None:
    """Add neutral variants between features, at least 10 bp from any of them."""
    spacers = np.flatnonzero(plan.contig.spacer)
    for kind, propose in _PROPOSALS.items():
        wanted = round(DENSITIES[kind] * plan.contig.length / 1e6)
        while wanted:
            variant = propose(rng, plan, int(rng.choice(spacers)))
            if variant and plan.contig.spacer[variant.start - APART : variant.end + APART].all():
                wanted -= plan.add(variant)


def _random_bases(rng: np.random.Generator, size: int) -> str:
    return "".join("ACGT"[i] for i in rng.integers(0, 4, size).tolist())


def _other(rng: np.random.Generator, base: str) -> str:
    # A spacer's neighbour may be a gap; such a proposal is refused by its place.
    transition = _TRANSITION.get(base, "A")
    transversions = [other for other in "ACGT" if other not in (base, transition)]
    return transition if rng.random() < _TRANSITION_SHARE else transversions[int(rng.integers(2))]


def _snv(rng: np.random.Generator, plan: Plan, start: int) -> Variant | None:
    return plan.variant(start, 1, (_other(rng, plan.bases(start, start + 1)),), _NEUTRAL)


def _insertion(rng: np.random.Generator, plan: Plan, start: int) -> Variant | None:
    base = plan.bases(start, start + 1)
    inserted = _random_bases(rng, int(rng.integers(1, _LONGEST_INDEL + 1)))
    # Otherwise the same insertion could be written further left.
    return plan.variant(start, 1, (base + inserted,), _NEUTRAL) if inserted[-1] != base else None


def _deletion(rng: np.random.Generator, plan: Plan, start: int) -> Variant | None:
    size = int(rng.integers(1, _LONGEST_INDEL + 1))
    variant = plan.variant(start, 1 + size, (plan.bases(start, start + 1),), _NEUTRAL)
    return variant if variant.ref[-1] != variant.alts[0] else None


def _mnv(rng: np.random.Generator, plan: Plan, start: int) -> Variant | None:
    size = int(rng.integers(2, 4))
    alt = "".join(_other(rng, base) for base in plan.bases(start, start + size))
    return plan.variant(start, size, (alt,), _NEUTRAL)


def _delins(rng: np.random.Generator, plan: Plan, start: int) -> Variant | None:
    ref, alt = rng.permutation(np.arange(2, 6))[:2].tolist()
    variant = plan.variant(start, ref, (_random_bases(rng, alt),), _NEUTRAL)
    trimmed = variant.ref[0] != variant.alts[0][0] and variant.ref[-1] != variant.alts[0][-1]
    return variant if trimmed else None


def _multiallelic(rng: np.random.Generator, plan: Plan, start: int) -> Variant | None:
    others = [base for base in "ACGT" if base != plan.bases(start, start + 1)]
    first, second = rng.permutation(len(others))[:2].tolist()
    return plan.variant(start, 1, (others[first], others[second]), _NEUTRAL * 2)


def _mixed_multiallelic(rng: np.random.Generator, plan: Plan, start: int) -> Variant | None:
    """A deletion of a base and a substitution of it, in one record."""
    anchor, base = plan.bases(start, start + 1), plan.bases(start + 1, start + 2)
    return plan.variant(start, 2, (anchor, anchor + _other(rng, base)), _NEUTRAL * 2) if anchor != base else None


_PROPOSALS = {
    "snv": _snv,
    "insertion": _insertion,
    "deletion": _deletion,
    "mnv": _mnv,
    "delins": _delins,
    "multiallelic": _multiallelic,
    "mixed_multiallelic": _mixed_multiallelic,
}
