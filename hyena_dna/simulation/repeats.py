"""Repeats: diverged copies of a few families dispersed over the genome, and tandem repeats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyena_dna.genome.sequence import reverse_complement

__all__ = ["Repeat", "RepeatFamily", "make_families", "tandem_repeat"]

_BASES = np.frombuffer(b"ACGT", np.uint8)
_DIVERGENCE = (0.02, 0.18)
_INDELS_PER_SUBSTITUTION = 0.08
_TANDEM_DIVERGENCE = 0.02


@dataclass(frozen=True)
class Repeat:
    """A repeat as it stands on the forward strand.

    Args:
        name: family, or the unit of a tandem repeat in brackets.
        strand: strand of the consensus.
        sequence: upper-case bases.
    """

    name: str
    strand: str
    sequence: bytes

    @property
    def length(self) -> int:
        """Length in bp."""
        return len(self.sequence)


@dataclass(frozen=True)
class RepeatFamily:
    """A family of dispersed repeats.

    Args:
        name: name of the family.
        consensus: the ancestral sequence.
        truncated: whether copies are cut at the 5' end, as those of LINE elements are.
        share: share of the copies that are of this family.
    """

    name: str
    consensus: bytes
    truncated: bool
    share: float

    def copy(self, rng: np.random.Generator) -> Repeat:
        """Draw a copy of some age: substitutions, short insertions and deletions, either strand."""
        start = int(rng.integers(len(self.consensus) * 3 // 4)) if self.truncated else 0
        divergence = rng.uniform(*_DIVERGENCE)
        sequence = _diverge(rng, np.frombuffer(self.consensus[start:], np.uint8), divergence)
        forward = rng.random() < 0.5
        return Repeat(self.name, "+" if forward else "-", sequence if forward else reverse_complement(sequence))


def make_families(rng: np.random.Generator) -> tuple[RepeatFamily, ...]:
    """Draw the consensus sequences of four families: SINE with A tail, LINE, DNA transposon, LTR."""
    terminal = _random(rng, 24, 0.45)
    return (
        RepeatFamily("simSINE", _random(rng, 240, 0.55) + b"A" * 18, False, 0.5),
        RepeatFamily("simLINE", _random(rng, 900, 0.42), True, 0.25),
        RepeatFamily("simDNA", terminal + _random(rng, 130, 0.40) + reverse_complement(terminal), False, 0.15),
        RepeatFamily("simLTR", b"TG" + _random(rng, 360, 0.46) + b"CA", False, 0.1),
    )


def tandem_repeat(rng: np.random.Generator) -> Repeat:
    """Draw a microsatellite or minisatellite: a unit of 1-6 or 12-24 bp repeated to 24-150 bp, with a few errors."""
    size = int(rng.integers(1, 7)) if rng.random() < 0.8 else int(rng.integers(12, 25))
    unit = _random(rng, size, 0.4)
    length = int(rng.integers(24, 61)) if size <= 6 else int(rng.integers(60, 151))
    copies = np.frombuffer((unit * length)[:length], np.uint8)
    return Repeat(f"({unit.decode()})n", "+", _diverge(rng, copies, _TANDEM_DIVERGENCE))


def _random(rng: np.random.Generator, length: int, gc: float) -> bytes:
    at = (1 - gc) / 2
    return rng.choice(_BASES, length, p=(at, gc / 2, gc / 2, at)).astype(np.uint8).tobytes()


def _diverge(rng: np.random.Generator, ancestor: NDArray[np.uint8], divergence: float) -> bytes:
    changed = rng.random(len(ancestor)) < divergence
    bases = np.where(changed, rng.choice(_BASES, len(ancestor)), ancestor).astype(np.uint8)
    indel = rng.random(len(bases))
    rate = divergence * _INDELS_PER_SUBSTITUTION / 2
    counts = np.where(indel < rate, 0, np.where(indel < 2 * rate, 2, 1))
    return np.repeat(bases, counts).astype(np.uint8).tobytes()
