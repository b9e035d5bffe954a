"""Transcription factor and core promoter motifs as published consensus sequences in IUPAC letters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = [
    "AP1",
    "CAAT_BOX",
    "CRE",
    "ETS",
    "E_BOX",
    "GC_BOX",
    "INITIATOR",
    "MOTIFS",
    "NF_KB",
    "TATA_BOX",
    "Motif",
]

IUPAC = {
    "A": "A", "C": "C", "G": "G", "T": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC",
    "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
}  # fmt: skip


@dataclass(frozen=True)
class Motif:
    """A binding site: every sequence that fits the consensus is an instance, and nothing else is.

    Args:
        name: the motif's usual name.
        consensus: IUPAC letters, 5' to 3'.
    """

    name: str
    consensus: str

    @property
    def length(self) -> int:
        """Length of an instance in bp."""
        return len(self.consensus)

    @cached_property
    def pattern(self) -> re.Pattern[bytes]:
        """Regular expression that matches, with width zero, wherever an instance starts."""
        return re.compile(b"(?=%s)" % "".join(f"[{IUPAC[letter]}]" for letter in self.consensus).encode())

    def instance(self, rng: np.random.Generator) -> bytes:
        """Draw an instance, uniform over the bases that the consensus allows at each position."""
        return "".join(IUPAC[letter][rng.integers(len(IUPAC[letter]))] for letter in self.consensus).encode()

    def starts(self, sequence: bytes) -> list[int]:
        """Start of every instance on the given strand of an upper-case sequence, overlapping ones included."""
        return [match.start() for match in self.pattern.finditer(sequence)]

    def mismatches(self, site: bytes) -> list[int]:
        """Offsets at which a site of the motif's length does not fit the consensus."""
        return [offset for offset, base in enumerate(site) if chr(base) not in self.allowed(offset)]

    def allowed(self, offset: int) -> str:
        """The bases that the consensus allows at an offset."""
        return IUPAC[self.consensus[offset]]


TATA_BOX = Motif("TATA-box", "TATAWAAR")
INITIATOR = Motif("Inr", "TCAKTY")
CAAT_BOX = Motif("CAAT-box", "RRCCAATSR")
GC_BOX = Motif("GC-box", "GGGGCGGGG")
AP1 = Motif("AP-1", "TGASTCA")
ETS = Motif("ETS", "RCCGGAAGY")
NF_KB = Motif("NF-kB", "GGGRNNYYCC")
CRE = Motif("CRE", "TGACGTCA")
E_BOX = Motif("E-box", "CACGTG")

MOTIFS = (TATA_BOX, INITIATOR, CAAT_BOX, GC_BOX, AP1, ETS, NF_KB, CRE, E_BOX)
