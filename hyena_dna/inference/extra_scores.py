"""Scores that only some runs have: corrected for mutation context, and the change of a classifier's logits."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dna.datasets.alleles import AlleleWindows, Ids, WindowSpec
from hyena_dna.datasets.token_tiles import TokenTiles
from hyena_dna.errors import RunError
from hyena_dna.genome.variants import Trimmed
from hyena_dna.inference.background import Background
from hyena_dna.inference.likelihood import high_precision
from hyena_dna.inference.runtime import batch_tokens, run_batches
from hyena_dna.model.classifier import SequenceClassifier, TaskConfig
from hyena_dna.output.score_fields import ScoreField

__all__ = [
    "ClassDeltas",
    "ContextCorrection",
    "ExtraScores",
    "ScoredAllele",
    "WindowBuilder",
    "delta_names",
    "predict_rows",
    "rows_at_once",
]

WindowBuilder = Callable[[Sequence[tuple[str, Trimmed]]], list[AlleleWindows]]
"""Windows of many variants, each given by contig and change."""

_NOT_IN_A_KEY = re.compile(r"[^0-9A-Za-z_.]")


class ScoredAllele(NamedTuple):
    """An allele that has been scored.

    Attributes:
        contig: the genome's name.
        change: what it replaces, trimmed.
        llr: nats, mean of both strands.
    """

    contig: str
    change: Trimmed
    llr: float


class ExtraScores(Protocol):
    """Computes further scores, which change their sign where the alleles change places."""

    @property
    def fields(self) -> Sequence[ScoreField]:
        """What they are called."""

    def values(self, alleles: Sequence[ScoredAllele]) -> NDArray[np.float64]:
        """(alleles, fields); NaN where an allele has no such score."""


class ContextCorrection:
    """The log-likelihood ratio minus the mean of the same trinucleotide change elsewhere in the genome.

    Args:
        background: these means.
        tiles: the genome.
    """

    fields = (
        ScoreField(
            "HYENA_LLR_CORRECTED",
            "llr_corrected",
            "HYENA_LLR minus the mean score of the same change of the middle base of a trinucleotide at random sites "
            "of the genome, nats; substitutions of one base only",
        ),
    )

    def __init__(self, background: Background, tiles: TokenTiles) -> None:
        self._background = background
        self._tiles = tiles

    def values(self, alleles: Sequence[ScoredAllele]) -> NDArray[np.float64]:
        """(alleles, 1); NaN for all but substitutions of one base between known ones."""
        return np.array([[allele.llr - self._mean(allele)] for allele in alleles])

    def _mean(self, allele: ScoredAllele) -> float:
        start, ref, alt = allele.change
        if len(ref) != 1 or len(alt) != 1 or start < 1 or start + 1 >= self._tiles.contigs[allele.contig]:
            return float("nan")
        around = self._tiles.bases(allele.contig, start - 1, start + 2).decode("ascii")
        return self._background.of(around[0], ref, around[2], alt)


class ClassDeltas:
    """What a fine-tuned model predicts for the alternative minus what it predicts for the reference, as logits.

    Both alleles are read in windows as long as those that the model was fine-tuned with, centred on the variant; what
    each is predicted is what `hyena-dna predict` says of that sequence.

    Args:
        classifier: in evaluation mode, float32 or float64.
        spec: where its windows lie.
        windows: builds them.
        batch_size: windows at once; by default as many as suit the device.
    """

    def __init__(
        self, classifier: SequenceClassifier, spec: WindowSpec, windows: WindowBuilder, batch_size: int | None = None
    ) -> None:
        self._classifier = classifier
        self._room = spec.room
        self._windows = windows
        self._size = batch_size or rows_at_once(classifier, spec.window)
        task = classifier.task
        unit = "predicted number" if task.kind == "regression" else "logit"
        names = delta_names(task)
        self.fields = tuple(
            ScoreField(f"HYENA_DELTA_{name}", f"delta_{name}", f"{unit} of {_plain(label)}: alt minus ref")
            for name, label in zip(names, task.output_labels, strict=True)
        )

    def values(self, alleles: Sequence[ScoredAllele]) -> NDArray[np.float64]:
        """(alleles, labels); NaN for alleles longer than half of the classifier's window.

        Raises:
            RunError: a logit is not finite.
        """
        found = np.full((len(alleles), len(self.fields)), np.nan)
        fitting = [
            index for index, one in enumerate(alleles) if max(len(one.change.ref), len(one.change.alt)) <= self._room
        ]
        windows = self._windows([(alleles[index].contig, alleles[index].change) for index in fitting])
        rows: list[Ids] = []
        places: dict[tuple[str, int, str], int] = {}
        pairs = []
        for one in windows:
            if one.forward.key not in places:
                places[one.forward.key] = len(rows)
                rows.append(one.forward.ref_ids)
            pairs.append((len(rows), places[one.forward.key]))
            rows.append(one.forward.alt_ids)
        if rows:
            logits = predict_rows(self._classifier, rows, self._size)
            alternative, reference = np.array(pairs).T
            found[fitting] = logits[alternative] - logits[reference]
        return found


def delta_names(task: TaskConfig) -> list[str]:
    """The outputs of a task as parts of names that every format allows."""
    names = [_NOT_IN_A_KEY.sub("_", label) for label in task.output_labels]
    # Labels that differ in forbidden letters alone would share a key.
    return [name if names.count(name) == 1 else f"{name}_{index}" for index, name in enumerate(names, 1)]


def rows_at_once(classifier: SequenceClassifier, window: int) -> int:
    """Windows of one batch that suit the device."""
    device = classifier.model.lm_head.weight.device
    return max(1, batch_tokens(device, classifier.model.config.d_model) // window)


def predict_rows(classifier: SequenceClassifier, rows: Sequence[Ids], size: int) -> NDArray[np.float64]:
    """Logits of windows of one length, in batches of `size`, in the precision of the weights.

    Raises:
        RunError: a logit is not finite.
    """
    device = classifier.model.lm_head.weight.device

    def compute(batch: NDArray[np.int64]) -> NDArray[np.float64]:
        ids = torch.from_numpy(np.stack([rows[row] for row in batch]))
        values: NDArray[np.float64] = classifier.predict(ids.to(device)).double().cpu().numpy()
        return values

    # Windows of one reference follow it, so that both alleles are computed in like batches.
    batches = (np.arange(start, min(start + size, len(rows))) for start in range(0, len(rows), size))
    with high_precision(device):
        logits = np.concatenate([values for _, values in run_batches(compute, batches)])
    if not np.isfinite(logits).all():
        raise RunError("the model predicts numbers that are not finite")
    return logits


def _plain(label: str) -> str:
    """A label as a description in a VCF header can hold it."""
    return re.sub(r'[\\"<>\x00-\x1f]', " ", label)
