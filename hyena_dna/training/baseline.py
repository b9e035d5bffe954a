"""Markov models beside the network: fitted once per run, on the same training segments, scored on the same windows.

Where there are several genomes, each has its own models: a model of all of them together would be a weaker opponent.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyena_dna.baselines.markov import MarkovModel
from hyena_dna.files import atomic_open
from hyena_dna.training.corpus import Corpus
from hyena_dna.training.progress import format_seconds
from hyena_dna.training.run_folder import RunFolder

__all__ = ["MarkovTable", "best_order", "markov_table"]

_log = logging.getLogger(__name__)


def best_order(bits_per_base: Sequence[float]) -> int:
    """The order that predicts best."""
    return int(np.argmin(bits_per_base))


@dataclass(frozen=True)
class MarkovTable:
    """Bits per base of Markov models.

    Attributes:
        bits_per_base: one value for each order, from 0, over the windows of all genomes.
        seconds: time that fitting and scoring took.
        genomes: the same values for each genome by name, where there are several.
    """

    bits_per_base: list[float]
    seconds: float
    genomes: dict[str, list[float]]

    @property
    def best_order(self) -> int:
        """The order that predicts best over all."""
        return best_order(self.bits_per_base)


def markov_table(corpus: Corpus, windows: Sequence[NDArray[np.uint8]], folder: RunFolder) -> MarkovTable:
    """Fit and score Markov models, or read the table that this run made before from the same data.

    Args:
        corpus: the training segments of each genome are fitted.
        windows: for each genome (windows, window + 1) token ids to score; the first base of each is context only.
        folder: of the run; keeps the table.
    """
    digest = hashlib.sha256()
    for rows in windows:
        digest.update(rows.tobytes())
    key = {**corpus.fingerprints(), "windows": digest.hexdigest()}
    if folder.markov.exists():
        saved = json.loads(folder.markov.read_text("utf-8"))
        if saved["data"] == key:
            return MarkovTable(saved["bits_per_base"], saved["seconds"], saved["genomes"])
    _log.info("fitting Markov models of order 0 to 12 on %s training bases", f"{corpus.train_bases:,}")
    began = time.perf_counter()
    scores = [
        MarkovModel.fit(source.train_sequences()).score(rows)
        for source, rows in zip(corpus.sources, windows, strict=True)
    ]
    bits = np.sum([score.bits for score in scores], axis=0) / max(1, sum(score.bases for score in scores))
    genomes = {
        name: (score.bits / max(1, score.bases)).tolist()
        for name, score in zip(corpus.names, scores if corpus.names else (), strict=True)
    }
    table = MarkovTable(bits.tolist(), time.perf_counter() - began, genomes)
    _log.info("Markov models took %s", format_seconds(table.seconds))
    with atomic_open(folder.markov, "w") as handle:
        content = {"bits_per_base": table.bits_per_base, "seconds": table.seconds, "genomes": genomes, "data": key}
        json.dump(content, handle, indent=1)
    return table
