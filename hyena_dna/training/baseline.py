"""Markov models beside the network: fitted once per run, on the same training segments, scored on the same windows."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyena_dna.baselines.markov import MarkovModel
from hyena_dna.files import atomic_open
from hyena_dna.training.corpus import Corpus
from hyena_dna.training.progress import format_seconds
from hyena_dna.training.run_folder import RunFolder

__all__ = ["MarkovTable", "markov_table"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MarkovTable:
    """Bits per base of Markov models.

    Attributes:
        bits_per_base: one value for each order, from 0.
        seconds: time that fitting and scoring took.
    """

    bits_per_base: list[float]
    seconds: float

    @property
    def best_order(self) -> int:
        """The order that predicts best."""
        return int(np.argmin(self.bits_per_base))


def markov_table(corpus: Corpus, windows: NDArray[np.uint8], folder: RunFolder) -> MarkovTable:
    """Fit and score Markov models, or read the table that this run made before from the same data.

    Args:
        corpus: its training segments are fitted.
        windows: (windows, window + 1) token ids to score; the first base of each is context only.
        folder: of the run; keeps the table.
    """
    key = {**corpus.fingerprints(), "windows": hashlib.sha256(windows.tobytes()).hexdigest()}
    if folder.markov.exists():
        saved = json.loads(folder.markov.read_text("utf-8"))
        if saved["data"] == key:
            return MarkovTable(saved["bits_per_base"], saved["seconds"])
    _log.info("fitting Markov models of order 0 to 12 on %s training bases", f"{corpus.train_bases:,}")
    began = time.perf_counter()
    model = MarkovModel.fit(corpus.train_sequences())
    bits = [float(value) for value in model.bits_per_base(windows)]
    table = MarkovTable(bits, time.perf_counter() - began)
    _log.info("Markov models took %s", format_seconds(table.seconds))
    with atomic_open(folder.markov, "w") as handle:
        json.dump({"bits_per_base": bits, "seconds": table.seconds, "data": key}, handle, indent=1)
    return table
