"""A likelihood run: cut, compute and write at the same time, chunk by chunk, and take up where it stopped."""

from __future__ import annotations

from collections.abc import Iterable

from hyena_dna.inference.base_likelihood import BaseScorer, RunningScores
from hyena_dna.inference.embed_run import RunTotals, run_chunks
from hyena_dna.inference.inputs import Chunk
from hyena_dna.output.likelihood_parts import write_likelihood_part
from hyena_dna.output.parts import Parts

__all__ = ["score_likelihoods"]


def score_likelihoods(
    scorer: BaseScorer,
    chunks: Iterable[Chunk],
    parts: Parts,
    *,
    keep_bases: bool,
    total_bases: int | None = None,
) -> RunTotals:
    """Score chunks into parts; those that are finished already are left alone.

    Args:
        scorer: computes.
        chunks: from the first on, in order, cut by the scorer's limits.
        parts: the run's folder.
        keep_bases: keep the scores of every base beside their sums.
        total_bases: for the time left in messages, where it is known.

    Raises:
        InputError: there are no records, a part cannot be written, or a score is not finite.
        RunError: the device has too little memory.
    """

    def store(running: RunningScores) -> None:
        found = scorer.finish(running)
        chunk = found.chunk
        pieces = [(piece.record, piece.first, piece.length) for piece in chunk.pieces]
        write_likelihood_part(parts, chunk.index, pieces, chunk.rows, found.values, keep_bases=keep_bases)

    return run_chunks(scorer, store, chunks, parts, total_bases=total_bases)
