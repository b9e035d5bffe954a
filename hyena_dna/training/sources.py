"""Where the sequence of a run comes from: genomes, or aligned reads."""

from __future__ import annotations

import logging

from hyena_dna.errors import InputError
from hyena_dna.training.config import PretrainConfig
from hyena_dna.training.corpus import Corpus, genome_corpus
from hyena_dna.training.read_corpus import read_corpus

__all__ = ["open_corpus"]

_log = logging.getLogger(__name__)


def open_corpus(config: PretrainConfig) -> Corpus:
    """Open the sequence of a run.

    Raises:
        InputError: nothing is named, or it is not sound.
    """
    if config.data.bam:
        corpus = read_corpus(config.data)
    elif config.data.genomes:
        corpus = genome_corpus(config.data)
    else:
        raise InputError("no sequence to train on", remedy="name a FASTA with --genome")
    if corpus.dropped:
        shown = ", ".join(corpus.dropped[:8]) + (" ..." if len(corpus.dropped) > 8 else "")
        _log.info("contigs left out: %d (%s)", len(corpus.dropped), shown)
    _log.info("%s", corpus.rule)
    return corpus
