"""An embedding run: cut, compute and write at the same time, chunk by chunk, and take up where it stopped."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol, TypeVar

from hyena_dna.errors import InputError
from hyena_dna.inference.embedding import Embedder, RunningChunk, check_finite
from hyena_dna.inference.inputs import Chunk, Row
from hyena_dna.ops.heap import trim_heap
from hyena_dna.output.embedding_parts import write_part
from hyena_dna.output.parts import Parts

__all__ = ["Engine", "Progress", "RunTotals", "embed_chunks", "run_chunks"]

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

    Args:
        embedder: computes.
        chunks: from the first on, in order.
        parts: the run's folder.
        total_records: for the time left in messages, where it is known.

    Raises:
        InputError: there are no records, a part cannot be written, or the model gives something that is no number.
        RunError: the device has too little memory.
    """

    def store(running: RunningChunk) -> None:
        embedding = embedder.finish(running)
        check_finite(embedding)
        rows = embedding.chunk.rows
        columns = dict(zip(Row._fields, zip(*rows, strict=True), strict=True))
        write_part(parts, embedding.chunk.index, columns, embedding.counts, embedding.vectors)
        if embedder.device.type == "cpu":
            trim_heap()

    return run_chunks(embedder, store, chunks, parts, total_records=total_records)


class Planned(Protocol):
    """A chunk whose host work is done."""

    @property
    def chunk(self) -> Chunk:
        """The records."""


Plan = TypeVar("Plan", bound=Planned)
Running = TypeVar("Running")
Running_co = TypeVar("Running_co", covariant=True)


class Engine(Protocol[Plan, Running_co]):
    """What computes chunks in steps that can overlap."""

    def plan(self, chunk: Chunk) -> Plan:
        """Host work before the device starts."""

    def launch(self, plan: Plan) -> Running_co:
        """Start the device; on a GPU this returns before it is done."""


def run_chunks(
    engine: Engine[Plan, Running],
    store: Callable[[Running], None],
    chunks: Iterable[Chunk],
    parts: Parts,
    *,
    total_records: int | None = None,
    total_bases: int | None = None,
) -> RunTotals:
    """Take chunks through an engine into parts; those that are finished already are left alone.

    One thread cuts windows, one writes parts, this one drives the device.

    Args:
        engine: computes.
        store: waits for the device and writes the part of a chunk.
        chunks: from the first on, in order.
        parts: the run's folder.
        total_records: for the time left in messages, where it is known; or
        total_bases: the same in bp, where records are cut into pieces.

    Raises:
        InputError: there are no records, or as `store` and the engine.
    """
    progress = Progress(total_records, total_bases)
    chunk_count = records = bases = computed = 0

    def plans() -> Iterator[Plan | Chunk]:
        for chunk in chunks:
            yield chunk if parts.done(chunk.index) else engine.plan(chunk)

    source = plans()
    ahead: deque[Future[Plan | Chunk | None]] = deque()
    behind: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1, "cut") as cutter, ThreadPoolExecutor(1, "write") as writer:
        try:
            ahead.extend(cutter.submit(next, source, None) for _ in range(_AHEAD))
            while (item := ahead.popleft().result()) is not None:
                ahead.append(cutter.submit(next, source, None))
                chunk = item if isinstance(item, Chunk) else item.chunk
                size = sum(piece.length for piece in chunk.pieces) or int(chunk.lengths.sum())
                if not isinstance(item, Chunk):
                    behind.append(writer.submit(store, engine.launch(item)))
                    computed += size
                while len(behind) > _BEHIND:
                    behind.popleft().result()
                chunk_count, records, bases = chunk_count + 1, records + len(chunk.rows), bases + size
                progress.show(records, bases, computed)
            while behind:
                behind.popleft().result()
        finally:
            for plan in ahead:
                plan.cancel()
            for part in behind:
                part.cancel()
    if not records:
        raise InputError("there are no records")
    return RunTotals(chunk_count, records, bases, computed)


class Progress:
    """A line with the rate and, where the total is known, the time left, every ten seconds.

    Args:
        records: number of records, where it is known; or
        bases: number of bp.
    """

    def __init__(self, records: int | None = None, bases: int | None = None) -> None:
        self._records = records
        self._bases = bases
        self._first: int | None = None
        self._began = self._shown = time.monotonic()

    def show(self, records: int, bases: int, computed: int) -> None:
        """Say how far a run is.

        Args:
            records: records that are done.
            bases: bp of these.
            computed: bp that this run computed; the rest was there already.
        """
        done, total, unit = (bases, self._bases, "bp") if self._bases else (records, self._records, "records")
        if self._first is None and computed:
            self._first = done
        now = time.monotonic()
        if now - self._shown < _PROGRESS_SECONDS:
            return
        self._shown = now
        seconds = now - self._began
        of, left = "", ""
        if total:
            of = f" of {total:,}"
            rate = (done - (self._first or 0)) / seconds
            left = f", {(total - done) / rate:,.0f} s left" if rate else ""
        _log.info("%s%s %s, %.3g Mbp/s%s", f"{done:,}", of, unit, computed / seconds / 1e6, left)
