"""The scores of one allele, and what they are called in files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["FIELD_PREFIX", "INFO_FIELDS", "AlleleScore", "ScoreField", "ScoredRecord", "info_header"]

FIELD_PREFIX = "HYENA_"
"""Begins the name of every INFO field that scoring writes; an input that has such fields was scored before."""

_NAN = math.nan


class ScoreField(NamedTuple):
    """A score beyond those that every run has.

    Attributes:
        info: its INFO key.
        column: its column in tables.
        text: what it is, for the VCF header.
    """

    info: str
    column: str
    text: str


class AlleleScore(NamedTuple):
    """Status and scores of one alternative allele; NaN where there is no score.

    Attributes:
        status: `ok` or why there is no score, and flags after `|`.
        llr: log P(alt) - log P(ref) from the first changed base on, nats, mean of both strands.
        llr_fwd: the same on the forward strand.
        llr_rev: the same on the reverse strand.
        llr_norm: difference of the log-likelihoods per base, both summed to the same last base, nats per base.
        dist: Euclidean distance of the mean hidden states over the scored span, mean of both strands.
        n_fraction: share of N in the reference window.
        extra: scores of the fields that this run has beyond these, none where the allele has no score.
    """

    status: str
    llr: float = _NAN
    llr_fwd: float = _NAN
    llr_rev: float = _NAN
    llr_norm: float = _NAN
    dist: float = _NAN
    n_fraction: float = _NAN
    extra: tuple[float, ...] = ()

    @property
    def scored(self) -> bool:
        """Whether the allele has scores."""
        return self.status.startswith("ok")


class ScoredRecord(NamedTuple):
    """One record of the input with the scores of its alleles.

    Attributes:
        line: line number in the input.
        fields: CHROM, POS, ID, REF, ALT, QUAL, FILTER, INFO and, where there is more, the rest, as in the input.
        alts: the entries of the ALT column.
        scores: one for each of them.
    """

    line: int
    fields: list[bytes]
    alts: list[str]
    scores: list[AlleleScore]


INFO_FIELDS = {
    "HYENA_LLR": (
        "Float",
        "log P(alt) - log P(ref) summed from the first changed base on, nats, mean of both strands; negative: the "
        "alternative is less likely",
    ),
    "HYENA_LLR_FWD": ("Float", "HYENA_LLR on the forward strand"),
    "HYENA_LLR_REV": ("Float", "HYENA_LLR on the reverse strand"),
    "HYENA_LLR_NORM": (
        "Float",
        "log-likelihood per base of alt minus that of ref, both summed to the same last base of the genome, nats per "
        "base, mean of both strands",
    ),
    "HYENA_DIST": (
        "Float",
        "Euclidean distance between the mean last-layer hidden states of alt and ref over the scored span, mean of "
        "both strands",
    ),
    "HYENA_STATUS": ("String", "ok, or why the allele has no scores; flags follow after |"),
}
"""Type and description of each INFO field; all have one value for each alternative allele."""


def info_header(extras: Sequence[ScoreField] = ()) -> list[bytes]:
    """The `##INFO` lines of all fields.

    Args:
        extras: fields that a run has beyond those that every run has.
    """
    fields = [(name, *of) for name, of in INFO_FIELDS.items()] + [(one.info, "Float", one.text) for one in extras]
    return [f'##INFO=<ID={name},Number=A,Type={kind},Description="{text}">'.encode() for name, kind, text in fields]
