"""Short reads of a sample's two haplotypes, with errors that fit their base qualities and the usual flags."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hyena_dna.genome.interval import Interval
from hyena_dna.genome.sequence import reverse_complement
from hyena_dna.simulation.alignment import HARD_CLIP, MATCH, SOFT_CLIP, align, cigar_text
from hyena_dna.simulation.haplotypes import Haplotype

__all__ = ["DEPTH", "KINDS", "READ_LENGTH", "Donor", "SimulatedRead", "simulate_reads"]

READ_LENGTH = 150
DEPTH = 10.0

UNMAPPED, REVERSE, SECONDARY, QC_FAIL, DUPLICATE, SUPPLEMENTARY = 0x4, 0x10, 0x100, 0x200, 0x400, 0x800

KINDS = {
    "plain": 0.895, "adapter": 0.02, "duplicate": 0.03, "qc_fail": 0.015, "secondary": 0.015, "chimeric": 0.01,
    "unmapped": 0.015,
}  # fmt: skip
"""What becomes of a fragment, with its probability."""

# Three quality bins, as sequencers report them; the lower two become more frequent towards the end of a read.
_QUALITIES = np.array([37, 25, 11], np.uint8)
_FIRST_CYCLE = np.array([0.93, 0.06, 0.01])
_LAST_CYCLE = np.array([0.83, 0.14, 0.03])

_ADAPTER = b"AGATCGGAAGAGCACACGTCTGAACTCCAGTCA"
_ADAPTER_LENGTH = (5, len(_ADAPTER))
_CHIMERIC_FIRST_PART = 90
_UNIQUE, _REPETITIVE = 60, 20


@dataclass(frozen=True)
class SimulatedRead:
    """An alignment record, as BAM keeps it.

    Args:
        name: read name.
        flag: SAM flags.
        start: first aligned reference base, 0-based; -1 for an unmapped read.
        mapping_quality: phred-scaled.
        cigar: operations as (code, length).
        sequence: bases on the reference's forward strand; empty for a secondary alignment.
        qualities: phred base qualities in the order of `sequence`.
        haplotype: 1 or 2, the haplotype it was read from; 0 for an unmapped read.
        origin: 0-based offset on that haplotype of its first aligned base; -1 for an unmapped read.
        errors: number of sequencing errors among the bases that are not clipped.
        edit_distance: differences from the reference among those bases, inserted and deleted bases included.
        other_part: place of the other part of a chimeric read, as in the tag SA.
    """

    name: str
    flag: int
    start: int = -1
    mapping_quality: int = 0
    cigar: tuple[tuple[int, int], ...] = ()
    sequence: bytes = b""
    qualities: bytes = b""
    haplotype: int = 0
    origin: int = -1
    errors: int = 0
    edit_distance: int = 0
    other_part: str | None = None


@dataclass(frozen=True)
class Donor:
    """What reads are drawn from.

    Args:
        reference: upper-case bases of the contig, (length,) uint8.
        soft: whether a base lies in a repeat, where mapping qualities are low, (length,) bool.
        region: where on the reference reads start.
        haplotypes: the sample's two chromosomes.
    """

    reference: NDArray[np.uint8]
    soft: NDArray[np.bool_]
    region: Interval
    haplotypes: tuple[Haplotype, Haplotype]

    @cached_property
    def origins(self) -> tuple[tuple[int, int], ...]:
        """First and last offset on each haplotype at which a read may start."""
        start, end = self.region.start, self.region.end
        inside = [np.flatnonzero((h.reference >= start) & (h.reference < end)) for h in self.haplotypes]
        return tuple((int(offsets[0]), int(offsets[-1])) for offsets in inside)


def simulate_reads(rng: np.random.Generator, donor: Donor) -> list[SimulatedRead]:
    """Simulate single-end reads of 150 bp at a depth of about 10.

    Args:
        rng: source of randomness.
        donor: what they are read from.

    Returns:
        Records in coordinate order, unmapped reads last. Nothing is read from gaps.
    """
    fragments = round(donor.region.length * DEPTH / READ_LENGTH)
    kinds = rng.choice(list(KINDS), fragments, p=list(KINDS.values())).tolist()
    reads = [read for i, kind in enumerate(kinds) for read in _fragment(rng, donor, f"sim{i + 1:06d}", kind)]
    return sorted(reads, key=lambda read: (bool(read.flag & UNMAPPED), read.start, read.name, read.flag))


def _fragment(rng: np.random.Generator, donor: Donor, name: str, kind: str) -> list[SimulatedRead]:
    if kind == "unmapped":
        bases, qualities, _ = _sequenced(rng, rng.choice(np.frombuffer(b"ACGT", np.uint8), READ_LENGTH))
        return [SimulatedRead(name, UNMAPPED, sequence=bases, qualities=qualities)]
    adapter = int(rng.integers(_ADAPTER_LENGTH[0], _ADAPTER_LENGTH[1] + 1)) if kind == "adapter" else 0
    which = int(rng.integers(2))
    origin, reverse = _origin(rng, donor, which), bool(rng.random() < 0.5)
    if origin is None:
        return []
    read = _read(rng, donor, name, which, origin, READ_LENGTH, reverse=reverse, adapter=adapter)
    match kind:
        case "duplicate":
            copy = _read(rng, donor, f"{name}d", which, origin, READ_LENGTH, reverse=reverse)
            return [read, replace(copy, flag=copy.flag | DUPLICATE)]
        case "qc_fail":
            return [replace(read, flag=read.flag | QC_FAIL)]
        case "secondary":
            return [read, _secondary(rng, donor, read)]
        case "chimeric":
            return _chimera(rng, donor, name)
    return [read]


def _origin(rng: np.random.Generator, donor: Donor, which: int) -> int | None:
    """A random offset on a haplotype where a read may start, or None where it would reach into a gap."""
    haplotype = donor.haplotypes[which]
    first, last = donor.origins[which]
    origin = int(rng.integers(first, last + 1))
    bases = haplotype.bases[origin : origin + READ_LENGTH]
    return origin if len(bases) == READ_LENGTH and not (bases == ord("N")).any() else None


def _sequenced(rng: np.random.Generator, template: NDArray[np.uint8]) -> tuple[bytes, bytes, NDArray[np.bool_]]:
    """Read a template in sequencing order: bases, qualities, and where the errors are."""
    cycles = np.linspace(0, 1, len(template))[:, None]
    bins = (_FIRST_CYCLE + cycles * (_LAST_CYCLE - _FIRST_CYCLE)).cumsum(1)
    qualities = _QUALITIES[(rng.random(len(template))[:, None] > bins[:, :2]).sum(1)]
    wrong = rng.random(len(template)) < 10.0 ** (qualities.astype(np.float64) / -10.0)
    codes = np.searchsorted(np.frombuffer(b"ACGT", np.uint8), template)
    shifted = np.frombuffer(b"ACGT", np.uint8)[(codes + rng.integers(1, 4, len(template))) % 4]
    return np.where(wrong, shifted, template).astype(np.uint8).tobytes(), qualities.tobytes(), wrong


def _read(
    rng: np.random.Generator, donor: Donor, name: str, which: int, origin: int, length: int, *, reverse: bool,
    adapter: int = 0,
) -> SimulatedRead:  # fmt: skip
    """Read `length` bases, the last `adapter` of which, in sequencing order, are adapter and soft-clipped."""
    haplotype = donor.haplotypes[which]
    end = origin + length - adapter
    template = haplotype.bases[origin:end].tobytes()
    template = (reverse_complement(template) if reverse else template) + _ADAPTER[:adapter]
    sequence, qualities, wrong = _sequenced(rng, np.frombuffer(template, np.uint8))
    if reverse:
        sequence, qualities, wrong = reverse_complement(sequence), qualities[::-1], wrong[::-1]
    alignment = align(haplotype, origin, end)
    ahead = adapter if reverse else 0
    bases = np.frombuffer(sequence, np.uint8)[ahead : ahead + end - origin]
    placed = alignment.places >= 0
    left, right = alignment.clipped
    kept = slice(ahead + left, ahead + end - origin - right)
    mismatches = int((bases[placed] != donor.reference[alignment.places[placed]]).sum())
    soft = donor.soft[alignment.places[placed]].mean() >= 0.5
    return SimulatedRead(
        name=name,
        flag=REVERSE if reverse else 0,
        start=alignment.start,
        mapping_quality=int(rng.integers(_REPETITIVE + 1)) if soft else _UNIQUE,
        cigar=_clip(alignment.cigar, SOFT_CLIP, ahead, adapter - ahead),
        sequence=sequence,
        qualities=qualities,
        haplotype=which + 1,
        origin=origin + left,
        errors=int(wrong[kept].sum()),
        edit_distance=mismatches + alignment.gap_bases,
    )


def _clip(cigar: tuple[tuple[int, int], ...], code: int, left: int, right: int) -> tuple[tuple[int, int], ...]:
    """Add clipped bases at the ends; soft clips that are there already grow."""
    operations = list(cigar)
    for at, count in ((0, left), (-1, right)):
        if count and operations[at][0] == code:
            operations[at] = (code, operations[at][1] + count)
        elif count:
            operations.insert(0 if at == 0 else len(operations), (code, count))
    return tuple(operations)


def _secondary(rng: np.random.Generator, donor: Donor, read: SimulatedRead) -> SimulatedRead:
    """A wrong place for the read, somewhere else in the region; like most secondary records it carries no sequence."""
    start = int(rng.integers(donor.region.start, donor.region.end - READ_LENGTH))
    there = donor.reference[start : start + READ_LENGTH]
    return SimulatedRead(
        read.name,
        read.flag | SECONDARY,
        start,
        cigar=((MATCH, READ_LENGTH),),
        haplotype=read.haplotype,
        origin=read.origin,
        errors=read.errors,
        edit_distance=int((np.frombuffer(read.sequence, np.uint8) != there).sum()),
    )


def _chimera(rng: np.random.Generator, donor: Donor, name: str) -> list[SimulatedRead]:
    """A read whose two parts come from different places: a primary record, soft-clipped, and a supplementary one."""
    second_part = READ_LENGTH - _CHIMERIC_FIRST_PART
    parts = []
    for length in (_CHIMERIC_FIRST_PART, second_part):
        which = int(rng.integers(2))
        origin = _origin(rng, donor, which)
        if origin is None:
            return []
        parts.append(_read(rng, donor, name, which, origin, length, reverse=False))
    first, second = parts
    primary = replace(
        first,
        cigar=_clip(first.cigar, SOFT_CLIP, 0, second_part),
        sequence=first.sequence + second.sequence,
        qualities=first.qualities + second.qualities,
    )
    supplementary = replace(second, flag=SUPPLEMENTARY, cigar=_clip(second.cigar, HARD_CLIP, _CHIMERIC_FIRST_PART, 0))
    return [
        replace(primary, other_part=_place(donor, supplementary)),
        replace(supplementary, other_part=_place(donor, primary)),
    ]


def _place(donor: Donor, read: SimulatedRead) -> str:
    text = cigar_text(read.cigar)
    return f"{donor.region.chrom},{read.start + 1},+,{text},{read.mapping_quality},{read.edit_distance};"
