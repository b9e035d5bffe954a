"""An embedding run: cut, compute and write at the same time, chunk by chunk, and take up where it stopped."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from hyena_dna.errors import InputError
from hyena_dna.inference.embedding import Embedder, PlannedChunk, RunningChunk, check_finite
from hyena_dna.inference.inputs import Chunk, Row
from hyena_dna.output.embedding_parts import write_part
from hyena_dna.output.parts import Parts

__all__ = ["RunTotals", "embed_chunks"]

_log = logging.getLogger("hyena_dna")

# Chunks that are cut ahead of the device, and chunks that wait for the writer: memory holds no more than these.
_AHEAD = 2
_BEHIND = 2
_PROGRESS_SECONDS = 10.0


class RunTotals(NamedTuple):
    """What a run did, parts of an earlier run included.

    Attributes:
        chunks: parts that are finished now.
        records: records in them.
        bases: bp of these records.
        computed: bp that this run computed; the rest was there already.
    """

    chunks: int
    records: int
    bases: int
    computed: int


def embed_chunks(
    embedder: Embedder, chunks: Iterable[Chunk], parts: Parts, *, total_records: int | None = None
) -> RunTotals:
    """Embed chunks into parts; those that are finished already are left alone.

    One thread cuts windows, one writes parts, this one drives the device.

    Args:
        embedder: computes.
        chunks: from the first on, in order.
        parts: the run's folder.
        total_records: for the time left in messages, where it is known.

    Raises:
        InputError: there are no records, a part cannot be written, or the model gives something that is no number.
        RunError: the device has too little memory.
    """
    progress = _Progress(total_records)
    chunk_count = records = bases = computed = 0

    def plans() -> Iterator[PlannedChunk | Chunk]:
        for chunk in chunks:
            yield chunk if parts.done(chunk.index) else embedder.plan(chunk)

    def store(running: RunningChunk) -> None:
        embedding = embedder.finish(running)
        check_finite(embedding)
        rows = embedding.chunk.rows
        columns = dict(zip(Row._fields, zip(*rows, strict=True), strict=True))
        write_part(parts, embedding.chunk.index, columns, embedding.counts, embedding.vectors)

    source = plans()
    ahead: deque[Future[PlannedChunk | Chunk | None]] = deque()
    behind: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1, "cut") as cutter, ThreadPoolExecutor(1, "write") as writer:
        try:
            ahead.extend(cutter.submit(next, source, None) for _ in range(_AHEAD))
            while (item := ahead.popleft().result()) is not None:
                ahead.append(cutter.submit(next, source, None))
                chunk = item if isinstance(item, Chunk) else item.chunk
                size = int(chunk.lengths.sum())
                if not isinstance(item, Chunk):
                    behind.append(writer.submit(store, embedder.launch(item)))
                    computed += size
                while len(behind) > _BEHIND:
                    behind.popleft().result()
                chunk_count, records, bases = chunk_count + 1, records + len(chunk.rows), bases + size
                progress.show(records, computed)
            while behind:
                behind.popleft().result()
        finally:
            for plan in ahead:
                plan.cancel()
            for part in behind:
                part.cancel()
    if not records:
        raise InputError("there are no records to embed")
    return RunTotals(chunk_count, records, bases, computed)


class _Progress:
    """A line with the rate and, where the total is known, the time left, every ten seconds."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._first: int | None = None
        self._began = self._shown = time.monotonic()

    def show(self, records: int, bases: int) -> None:
        if self._first is None and bases:
            self._first = records
        now = time.monotonic()
        if now - self._shown < _PROGRESS_SECONDS:
            return
        self._shown = now
        seconds = now - self._began
        of, left = "", ""
        if self._total:
            of = f" of {self._total:,}"
            rate = (records - (self._first or 0)) / seconds
            left = f", {(self._total - records) / rate:,.0f} s left" if rate else ""
        _log.info("%s%s records, %.2f Mbp/s%s", f"{records:,}", of, bases / seconds / 1e6, left)
