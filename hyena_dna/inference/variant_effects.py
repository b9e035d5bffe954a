"""Zero-shot effects of variants: how much less, or more, likely the model finds the alternative allele."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hyena_dna.datasets.alleles import Position, WindowSpec
from hyena_dna.datasets.token_tiles import TokenTiles
from hyena_dna.errors import InputError
from hyena_dna.genome.reference import Reference
from hyena_dna.genome.variants import Variant, classify
from hyena_dna.inference.variant_scorer import DEFAULT_SPAN, Method, VariantScorer
from hyena_dna.model.model import HyenaDNA

__all__ = ["VariantScore", "VariantScorer", "score_batch", "score_variants"]

_VARIANTS_AT_ONCE = 512
_MAX_N_FRACTION = 0.1


class VariantScore(NamedTuple):
    """The scores of one variant; NaN where it has none.

    Attributes:
        llr: nats, mean of both strands: log P(alternative) - log P(reference) over the scored span.
        llr_fwd: the same of the forward strand.
        llr_rev: the same of the reverse strand.
        llr_norm: nats per base, mean of both strands: each allele divided by its number of scored bases.
        dist: L2 distance between the mean last-layer hidden states, mean of both strands.
        status: `ok`, or why there is no score; flags follow after `|`, as in `ok|edge_padded`.
    """

    llr: float
    llr_fwd: float
    llr_rev: float
    llr_norm: float
    dist: float
    status: str


def score_variants(
    model: HyenaDNA,
    reference: Reference,
    variants: Sequence[Variant],
    *,
    window: int,
    position: Position = "center",
    grid: int | None = None,
    span: int = DEFAULT_SPAN,
    batch_size: int | None = None,
    method: Method = "delta",
    max_n_fraction: float = _MAX_N_FRACTION,
) -> list[VariantScore]:
    """Score variants of a genome on both strands.

    Example:
        >>> score_variants(model, Reference("hg38.fa"), [Variant("chr17", 43_044_295, "T", "C")], window=1024)
        [VariantScore(llr=-1.7, ..., status='ok')]

    Args:
        model: a float32 model in evaluation mode.
        reference: the genome.
        variants: positions are 1-based, as in VCF.
        window: context in bp, at most the model's.
        position: place of the variant in the window, in the direction of each strand.
        grid: windows start at multiples of this many bp; by default 1 up to 8,192 bp and an eighth of the window above.
        span: most tokens scored from the first changed base on, in bp.
        batch_size: variants computed at once; by default as many as suit the device.
        method: `delta`, or the slow and straightforward `two_pass`.
        max_n_fraction: largest share of N in a reference window; above it the status is `n_fraction`.

    Returns:
        One entry for each variant, in their order. A variant that cannot be scored has a status that says why.

    Raises:
        InputError: the window does not fit the model or the grid, or the genome cannot be read.
    """
    spec = WindowSpec.make(window, position, grid)
    if window > model.config.max_length:
        raise InputError(f"a window of {window:,} bp is longer than the model's {model.config.max_length:,}")
    scorer = VariantScorer(model, span=span, batch_size=batch_size, method=method)
    tiles = TokenTiles(reference.fetch, reference.contigs, spec)
    results: list[VariantScore] = []
    for start in range(0, len(variants), _VARIANTS_AT_ONCE):
        results += score_batch(scorer, tiles, variants[start : start + _VARIANTS_AT_ONCE], max_n_fraction)
    return results


def score_batch(
    scorer: VariantScorer, tiles: TokenTiles, variants: Sequence[Variant], max_n_fraction: float
) -> list[VariantScore]:
    """The scores of a few variants, by a scorer and over tiles that are kept between calls."""
    statuses, forward, reverse = [], [], []
    for variant in variants:
        status = _status(tiles, variant)
        if status == "ok":
            windows = tiles.windows(variant.chrom, variant.trimmed())
            if windows.n_fraction > max_n_fraction:
                status = "n_fraction"
            else:
                forward.append(windows.forward)
                reverse.append(windows.reverse)
                status += "|edge_padded" * windows.edge_padded
        statuses.append(status)
    scores = scorer.score([*forward, *reverse])
    pairs = np.stack(scores).reshape(3, 2, -1)
    rows = iter(zip(*pairs[0].tolist(), *pairs.mean(axis=1).tolist(), strict=True))
    results = []
    for status in statuses:
        if status.startswith("ok"):
            llr_fwd, llr_rev, llr, llr_norm, dist = next(rows)
            results.append(VariantScore(llr, llr_fwd, llr_rev, llr_norm, dist, status))
        else:
            results.append(VariantScore(*(math.nan,) * 5, status=status))
    return results


def _status(tiles: TokenTiles, variant: Variant) -> str:
    """Whether a variant can be scored: `ok`, or one of `hyena_dna.genome.variants.STATUSES`."""
    status = classify(variant.ref, variant.alt)
    if status != "ok":
        return status
    if variant.chrom not in tiles.contigs:
        return "contig_unknown"
    if variant.start < 0 or variant.end > tiles.contigs[variant.chrom]:
        return "out_of_range"
    genome = tiles.bases(variant.chrom, variant.start, variant.end)
    if b"N" in genome:
        return "ref_not_acgt"
    if genome != variant.ref.encode("ascii"):
        return "ref_mismatch"
    trimmed = variant.trimmed()
    return "too_long" if max(len(trimmed.ref), len(trimmed.alt)) > tiles.spec.room else "ok"
