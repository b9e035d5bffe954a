"""Bits per base on sequence that the bundled models never saw, beside Markov models and by length of context."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hyena_dna.baselines.markov import MAX_ORDER, MarkovModel
from hyena_dna.config import find_config, load_yaml
from hyena_dna.errors import InputError
from hyena_dna.model.model import HyenaDNA
from hyena_dna.reproduction.table import Table, data_file
from hyena_dna.training.config import PretrainConfig
from hyena_dna.training.corpus import Corpus
from hyena_dna.training.sources import open_corpus
from hyena_dna.training.validation import validate

__all__ = ["CONTEXTS", "context_table", "markov_table", "release_corpus", "shorter_windows"]

CONTEXTS = (128, 1024, 8192, 32768)
"""Windows of the context table, in bp."""

_GENOMES = {
    "ce10": ("ce10/ce10.fa.gz", "ce10.fa.gz"),
    "sacCer3": ("sacCer3/sacCer3.fa.gz", "sacCer3.fa.gz"),
    "human_contigs": ("human/human_contigs.fa.gz", "human_contigs.fa.gz"),
}
_RELEASE = "release-tiny"


def release_corpus(folder: str) -> Corpus:
    """The genomes of a data folder with the splits that the bundled models were trained on.

    Raises:
        InputError: a genome is not there.
    """
    path = find_config(_RELEASE, "pretrain")
    config = load_yaml(path, PretrainConfig)
    assert config.data.folds is not None
    changes = {
        "genomes": tuple(data_file(folder, names) for names in _GENOMES.values()),
        "folds": str(path.parent / config.data.folds),
    }
    return open_corpus(config.model_copy(update={"data": config.data.model_copy(update=changes)}))


def markov_table(model: HyenaDNA, folder: str, *, most_bases: int, window: int) -> Table:
    """Bits per base of the model and of Markov models of order 0 to 12, on the test pieces of every genome.

    Each genome has Markov models of its own, fitted on both strands of its training segments (`MarkovModel`), and
    scored on the same bases of the same windows as the network.

    Args:
        model: the model, on its device.
        folder: holds the genomes.
        most_bases: bases to score of each genome, evenly spread over its test pieces.
        window: bp that the model sees at once.

    Raises:
        InputError: a genome is not there, or the window is longer than the model.
    """
    _check(model, window)
    corpus = release_corpus(folder)
    rows = _test_windows(corpus, window, most_bases)
    columns = ("genome", "network", *(f"order {order}" for order in range(MAX_ORDER + 1)))
    table = Table(f"Bits per base on test pieces, windows of {window:,} bp", columns)
    for source, windows in zip(corpus.sources, rows, strict=True):
        bits = validate(model, windows).bits_per_base
        orders = MarkovModel.fit(source.train_sequences()).bits_per_base(windows).tolist()
        table.rows.append((source.name, bits, *orders))
        table.numbers[f"bits per base, {source.name}, {window} bp"] = bits
        best = int(np.argmin(orders))
        table.numbers[f"bits per base, {source.name}, best Markov model (order {best})"] = orders[best]
    return table


def context_table(model: HyenaDNA, folder: str, *, most_bases: int, contexts: Sequence[int] = CONTEXTS) -> Table:
    """Bits per base as a function of the window, always on the same stretches of the test pieces.

    In a window of n bp a base has between 1 and n bases before it, so short windows also count more first bases.

    Args:
        model: the model, on its device.
        folder: holds the genomes.
        most_bases: bases to score of each genome.
        contexts: windows, each of which divides the longest; those longer than the model are left out.

    Raises:
        InputError: a genome is not there, or every window is longer than the model.
    """
    fitting = sorted(context for context in contexts if context <= model.config.max_length)
    if not fitting:
        raise InputError(f"the model reads {model.config.max_length:,} bp, less than any window of the table")
    corpus = release_corpus(folder)
    rows = _test_windows(corpus, fitting[-1], most_bases)
    table = Table(
        "Bits per base by window, same stretches of the test pieces",
        ("genome", *(f"{context:,} bp" for context in fitting)),
    )
    for source, windows in zip(corpus.sources, rows, strict=True):
        found = [validate(model, shorter_windows(windows, context)).bits_per_base for context in fitting]
        table.rows.append((source.name, *found))
        table.numbers.update(
            {
                f"bits per base, {source.name}, windows of {context} bp": bits
                for context, bits in zip(fitting, found, strict=True)
            }
        )
    return table


def shorter_windows(windows: NDArray[np.uint8], length: int) -> NDArray[np.uint8]:
    """Cut windows into shorter ones, of which each overlaps the next by one base, so that the targets stay the same.

    Args:
        windows: (n, k * length + 1) token ids.
        length: inputs of a shorter window.

    Returns:
        (n * k, length + 1).
    """
    inputs = windows.shape[1] - 1
    assert inputs % length == 0, "shorter windows fill a longer one"
    starts = np.arange(0, inputs, length)
    pieces: NDArray[np.uint8] = windows[:, starts[:, None] + np.arange(length + 1)]
    return pieces.reshape(-1, length + 1)


def _test_windows(corpus: Corpus, window: int, most_bases: int) -> tuple[NDArray[np.uint8], ...]:
    count = max(1, most_bases // window) * len(corpus.sources)
    return corpus.validation_windows(window, count, "test")


def _check(model: HyenaDNA, window: int) -> None:
    if window > model.config.max_length:
        raise InputError(f"a window of {window:,} bp is longer than the model's {model.config.max_length:,}")
