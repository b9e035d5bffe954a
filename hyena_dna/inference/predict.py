"""Predictions of a fine-tuned model for chunks of records: probabilities by label, or numbers."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dna.datasets.cut import cut_windows
from hyena_dna.errors import InputError
from hyena_dna.inference.embed_run import RunTotals, run_chunks
from hyena_dna.inference.inputs import Chunk, ChunkLimits, Row, sequence_chunks
from hyena_dna.inference.runtime import autocast, batch_tokens, run_batches
from hyena_dna.inference.windows import batches_by_length
from hyena_dna.model.classifier import SequenceClassifier
from hyena_dna.output.embedding_parts import write_part
from hyena_dna.output.parts import Parts
from hyena_dna.tokenizer import PAD, N, complement_ids

__all__ = ["MOST_N", "PredictedChunk", "Predictor", "predict_chunks"]

MOST_N = 0.1
"""Share of N in a record above which nothing is predicted of it."""


@dataclass(frozen=True)
class _Batch:
    rows: NDArray[np.int64]
    ids: torch.Tensor
    lengths: NDArray[np.int64]


@dataclass(frozen=True)
class PlannedPrediction:
    """A chunk with its windows cut and batched, ready for the device."""

    chunk: Chunk
    batches: list[_Batch]


@dataclass(frozen=True)
class RunningPrediction:
    """A chunk that the device works on."""

    chunk: Chunk
    parts: list[tuple[NDArray[np.int64], torch.Tensor]]


@dataclass(frozen=True)
class PredictedChunk:
    """Predictions of a chunk.

    Attributes:
        chunk: its records.
        scores: (records, outputs) float32 calibrated probabilities, or numbers; NaN where a record has too many N.
    """

    chunk: Chunk
    scores: NDArray[np.float32]


class Predictor:
    """Predicts chunks in three steps, which a pipeline can overlap: plan (host), launch (device), finish (host).

    Records are read as in fine-tuning: a window that reaches beyond its contig is filled with N, a sequence that is
    shorter than the window is padded. What is filled in does not count as N of the record.

    Attributes:
        classifier: the model.
        window: bp around the centre of each record; None for records as long as they are.
        batch_tokens: tokens of a batch.
        passes: strands that are read.

    Args:
        classifier: in evaluation mode, on the device.
        window: as above.
        precision: dtype of the linear layers.
        batch_size: windows per batch; None for as many as are fast on the device.
        most_n: share of N above which nothing is predicted.

    Raises:
        InputError: the window is longer than the model reads.
    """

    def __init__(
        self,
        classifier: SequenceClassifier,
        *,
        window: int | None,
        precision: torch.dtype = torch.float32,
        batch_size: int | None = None,
        most_n: float = MOST_N,
    ) -> None:
        self.classifier = classifier
        self.task = classifier.task
        self.device = classifier.model.lm_head.weight.device
        self.window = window
        self.longest = classifier.model.config.max_length
        if window is not None and window > self.longest:
            raise InputError(f"windows of {window:,} bp are longer than the model reads, {self.longest:,} tokens")
        self._precision = precision
        self._batch_size = batch_size
        self._most_n = most_n
        self.passes = 1 + (self.task.average_strands or self.task.both_strands)
        fitting = batch_tokens(self.device, classifier.model.config.d_model)
        self.batch_tokens = fitting if batch_size is None else (window or self.longest) * batch_size

    def predict(self, chunk: Chunk) -> PredictedChunk:
        """Predict one chunk, one step after the other."""
        return self.finish(self.launch(self.plan(chunk)))

    def tokens(self, chunk: Chunk) -> int:
        """Tokens that the model reads for a chunk, on both strands where it reads both."""
        return self.passes * int(self._frame(chunk)[1].sum())

    def trial(self, rng: np.random.Generator, length: int) -> float:
        """Tokens per second on random records of `length` bp, in a batch of common size."""
        count = max(1, self.batch_tokens // length)
        bases = rng.choice(np.frombuffer(b"ACGT", np.uint8), (count, length))
        rows = ((Row(None, 0, length, "", "."), row.tobytes()) for row in bases)
        (chunk,) = sequence_chunks(rows, limits=ChunkLimits(count, count * length))
        self.predict(chunk)
        began = time.perf_counter()
        self.predict(chunk)
        return self.tokens(chunk) / (time.perf_counter() - began)

    def _frame(self, chunk: Chunk) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Bases that are missing on the left of each record, and its length with all that is missing."""
        placed = np.array([row.chrom is not None for row in chunk.rows])
        if self.window is None or not placed.any():
            return np.zeros_like(chunk.lengths), chunk.lengths
        left = np.where(placed, self.window // 2 - chunk.centres, 0)
        return left, np.where(placed, self.window, chunk.lengths)

    def plan(self, chunk: Chunk) -> PlannedPrediction:
        """Cut the windows of a chunk and batch them; records of too many N are left out.

        Raises:
            InputError: a record is longer than the model reads.
        """
        left, lengths = self._frame(chunk)
        if (lengths > self.longest).any():
            row = chunk.rows[int((lengths > self.longest).argmax())]
            raise InputError(
                f"{row.name!r} has {row.end - row.start:,} bp, more than the model reads ({self.longest:,} tokens)",
                remedy="read a part of it with --window, or give --tile",
            )
        known = np.flatnonzero(self._n_shares(chunk) <= self._most_n)
        groups = batches_by_length(lengths[known], self.batch_tokens, max_rows=self._batch_size)
        return PlannedPrediction(chunk, [self._cut(chunk, known[group], left, lengths) for group in groups])

    def _n_shares(self, chunk: Chunk) -> NDArray[np.float64]:
        """Share of N among the bases of each record, (records,)."""
        shares = np.empty(len(chunk.rows))
        for row, (start, length) in enumerate(zip(chunk.starts.tolist(), chunk.lengths.tolist(), strict=True)):
            piece = chunk.tokens[start : start + length]
            # The soft-mask bit lies above all ids.
            shares[row] = np.count_nonzero((piece & np.uint8(0x7F)) == N) / max(1, length)
        return shares

    def _cut(
        self, chunk: Chunk, rows: NDArray[np.int64], left: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> _Batch:
        width = int(lengths[rows].max())
        sizes = chunk.lengths[rows]
        full = lengths[rows] == sizes
        reverse = chunk.reverse[rows] & full
        ids = cut_windows(chunk.tokens, chunk.starts[rows], sizes, width, reverse).ids
        for at in np.flatnonzero(~full).tolist():
            number = rows[at]
            piece = np.full(lengths[number], N, np.uint8)
            piece[left[number] : left[number] + sizes[at]] = ids[at, : sizes[at]]
            if chunk.reverse[number]:
                piece = complement_ids(np.ascontiguousarray(piece[::-1]))
            ids[at] = PAD
            ids[at, : len(piece)] = piece
        tensor = torch.from_numpy(ids)
        return _Batch(rows, tensor.pin_memory() if self.device.type == "cuda" else tensor, lengths[rows])

    def launch(self, plan: PlannedPrediction) -> RunningPrediction:
        """Start the device on a chunk; on a GPU this returns before it is done.

        Raises:
            RunError: the device has too little memory for a single window.
        """
        parts: list[tuple[NDArray[np.int64], torch.Tensor]] = []
        for batch in plan.batches:

            def compute(rows: NDArray[np.int64], batch: _Batch = batch) -> torch.Tensor:
                return self._compute(batch.ids[rows[0] : rows[-1] + 1], batch.lengths[rows])

            for rows, scores in run_batches(compute, [np.arange(len(batch.rows))]):
                parts.append((batch.rows[rows], scores))
        return RunningPrediction(plan.chunk, parts)

    @torch.inference_mode()
    def _compute(self, ids: torch.Tensor, lengths: NDArray[np.int64]) -> torch.Tensor:
        padding = None
        if (lengths < ids.shape[1]).any():
            ends = torch.from_numpy(lengths).to(self.device, non_blocking=True)
            padding = torch.arange(ids.shape[1], device=self.device) >= ends[:, None]
        with autocast(self.device, self._precision):
            logits = self.classifier.predict(ids.to(self.device, non_blocking=True), padding)
        return self.task.probabilities(logits)

    def finish(self, running: RunningPrediction) -> PredictedChunk:
        """Wait for the device and put the predictions of a chunk together.

        Raises:
            InputError: the model gives something that is no number.
        """
        scores = np.full((len(running.chunk.rows), self.task.n_outputs), np.nan, np.float32)
        for rows, part in running.parts:
            found = part.cpu().numpy()
            if not np.isfinite(found).all():
                name = running.chunk.rows[int(rows[(~np.isfinite(found)).any(1).argmax()])].name
                raise InputError(f"the model gives no finite prediction of {name!r}", remedy="try --precision fp32")
            scores[rows] = found
        return PredictedChunk(running.chunk, scores)


def predict_chunks(
    predictor: Predictor, chunks: Iterable[Chunk], parts: Parts, *, total_records: int | None = None
) -> RunTotals:
    """Predict chunks into parts; those that are finished already are left alone.

    Args:
        predictor: computes.
        chunks: from the first on, in order.
        parts: the run's folder.
        total_records: for the time left in messages, where it is known.

    Raises:
        InputError: there are no records, one is too long, or a part cannot be written.
        RunError: the device has too little memory.
    """

    def store(running: RunningPrediction) -> None:
        found = predictor.finish(running)
        rows = found.chunk.rows
        columns = dict(zip(Row._fields, zip(*rows, strict=True), strict=True))
        write_part(parts, found.chunk.index, columns, np.ones(len(rows), np.int64), found.scores)

    return run_chunks(predictor, store, chunks, parts, total_records=total_records)
