"""In-silico saturation mutagenesis: what every single substitution of a region does to a model's opinion of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hyena_dna.datasets.alleles import Ids, WindowSpec
from hyena_dna.datasets.token_tiles import TokenTiles
from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.reference import Reference
from hyena_dna.genome.regions import Region
from hyena_dna.genome.variants import Variant
from hyena_dna.inference.embed_run import Progress
from hyena_dna.inference.extra_scores import delta_names, predict_rows, rows_at_once
from hyena_dna.inference.variant_effects import score_batch
from hyena_dna.inference.variant_scorer import VariantScorer
from hyena_dna.model.classifier import SequenceClassifier
from hyena_dna.output.mutagenesis_files import BASES, write_mutagenesis_part
from hyena_dna.output.parts import Parts
from hyena_dna.tokenizer import BASE_IDS, Tokenizer

__all__ = ["ClassEffects", "Effects", "LikelihoodEffects", "MutagenesisPiece", "cut_regions", "mutate"]

# Positions computed at once, which share reference windows, and of one part, which an interruption can cost.
_PIECE = 256
_CHUNK = 1024


class Effects(NamedTuple):
    """The effects of all substitutions of an interval.

    Attributes:
        bases: reference bases.
        values: (length, 4, fields), by position, alternative base A, C, G, T, and score; NaN for the reference base
            and where there is no score.
        statuses: of each position: `ok` with flags, or why it has no score, see `hyena_dna.genome.variants.STATUSES`.
    """

    bases: str
    values: NDArray[np.float64]
    statuses: list[str]


class EffectScorer(Protocol):
    """What scores substitutions."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the scores."""

    def effects(self, region: Interval, piece: Interval) -> Effects:
        """Score all substitutions of a piece of a region."""


class LikelihoodEffects:
    """Log-likelihood ratios: those of `hyena_dna.score_variants` for the same substitutions.

    Args:
        scorer: scores windows.
        reference: the genome.
        spec: where the window of each substitution lies.
        max_n_fraction: largest share of N in a window; above it the status is `n_fraction`.
    """

    fields = ("llr", "llr_fwd", "llr_rev", "dist")

    def __init__(
        self, scorer: VariantScorer, reference: Reference, spec: WindowSpec, *, max_n_fraction: float = 0.1
    ) -> None:
        self._scorer = scorer
        self._reference = reference
        self._tiles = TokenTiles(reference.fetch, reference.contigs, spec)
        self._max_n_fraction = max_n_fraction

    def effects(self, region: Interval, piece: Interval) -> Effects:
        """Score all substitutions of a piece; the region does not matter."""
        bases = self._reference.fetch(piece).decode("ascii")
        variants, places = [], []
        for offset, base in enumerate(bases):
            for number, alt in enumerate(BASES):
                if base in BASES and alt != base:
                    variants.append(Variant(piece.chrom, piece.start + offset + 1, base, alt))
                    places.append((offset, number))
        values = np.full((len(bases), len(BASES), len(self.fields)), np.nan)
        statuses = ["ref_not_acgt"] * len(bases)
        scores = score_batch(self._scorer, self._tiles, variants, self._max_n_fraction) if variants else []
        for (offset, number), score in zip(places, scores, strict=True):
            values[offset, number] = [getattr(score, name) for name in self.fields]
            statuses[offset] = score.status
        return Effects(bases, values, statuses)


class ClassEffects:
    """What a fine-tuned model predicts for a region with a substitution minus what it predicts without, as logits.

    The region is read in the window that the model was fine-tuned with, centred on the region's centre, as
    `hyena-dna predict` does; without such a window, the region alone is read.

    Args:
        classifier: in evaluation mode, float32 or float64.
        reference: the genome.
        batch_size: windows at once; None for as many as suit the device.
    """

    def __init__(self, classifier: SequenceClassifier, reference: Reference, *, batch_size: int | None = None) -> None:
        self._classifier = classifier
        self._reference = reference
        self._batch_size = batch_size
        self.fields = tuple(f"delta_{name}" for name in delta_names(classifier.task))

    def check(self, region: Region) -> None:
        """Check that a region can be read.

        Raises:
            InputError: it is longer than the window.
        """
        window = self._classifier.task.window or self._classifier.model.config.max_length
        if region.interval.length > window:
            raise InputError(
                f"region {region.name!r} has {region.interval.length:,} bp; the model reads {window:,}",
                remedy="give shorter regions",
            )

    def effects(self, region: Interval, piece: Interval) -> Effects:
        """Score all substitutions of a piece of a region."""
        place = region.resize(self._classifier.task.window or region.length)
        reference: Ids = Tokenizer().encode(self._reference.fetch(Interval(place.chrom, place.start, place.end)))
        bases = self._reference.fetch(piece).decode("ascii")
        rows, places = [reference], []
        for offset, base in enumerate(bases):
            for number, token in enumerate(BASE_IDS):
                if base in BASES and BASES[number] != base:
                    row = reference.copy()
                    row[piece.start + offset - place.start] = token
                    rows.append(row)
                    places.append((offset, number))
        logits = predict_rows(
            self._classifier, rows, self._batch_size or rows_at_once(self._classifier, len(reference))
        )
        values = np.full((len(bases), len(BASES), len(self.fields)), np.nan)
        for at, found in zip(places, logits[1:] - logits[0], strict=True):
            values[at] = found
        return Effects(bases, values, ["ok" if base in BASES else "ref_not_acgt" for base in bases])


class MutagenesisPiece(NamedTuple):
    """A stretch of a region that is computed at once."""

    number: int
    """Number of the region."""
    interval: Interval
    """Where it lies, on the forward strand."""


def cut_regions(regions: Sequence[Region]) -> Iterator[list[MutagenesisPiece]]:
    """Cut regions into pieces and gather these into chunks, which depend on the regions alone."""
    chunk: list[MutagenesisPiece] = []
    size = 0
    for number, region in enumerate(regions):
        place = region.interval
        for start in range(place.start, place.end, _PIECE):
            piece = Interval(place.chrom, start, min(start + _PIECE, place.end))
            if chunk and size + piece.length > _CHUNK:
                yield chunk
                chunk, size = [], 0
            chunk.append(MutagenesisPiece(number, piece))
            size += piece.length
    if chunk:
        yield chunk


def mutate(scorer: EffectScorer, regions: Sequence[Region], parts: Parts) -> int:
    """Score every substitution of every region into parts; those that are finished already are left alone.

    Args:
        scorer: scores substitutions.
        regions: inside their contigs.
        parts: the run's folder.

    Returns:
        Number of parts.

    Raises:
        InputError: a part cannot be written.
        RunError: the device has too little memory, or a score is not finite.
    """
    progress = Progress(bases=sum(region.interval.length for region in regions))
    done = computed = count = 0
    for count, chunk in enumerate(cut_regions(regions), 1):
        size = sum(piece.interval.length for piece in chunk)
        if not parts.done(count - 1):
            found = [scorer.effects(regions[piece.number].interval, piece.interval) for piece in chunk]
            write_mutagenesis_part(
                parts,
                count - 1,
                [(piece.number, piece.interval.start) for piece in chunk],
                [one.bases for one in found],
                np.concatenate([one.values for one in found]),
                [status for one in found for status in one.statuses],
            )
            computed += size
        done += size
        progress.show(count, done, computed)
    return count
