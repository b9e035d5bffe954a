"""Embeddings: a model's hidden states of records, pooled, on one strand or both."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dna.errors import InputError
from hyena_dna.inference.inputs import Chunk, ChunkLimits, Row, numbered, sequence_chunks
from hyena_dna.inference.layers import Layers, hidden_states, parse_layers
from hyena_dna.inference.pooling import Pieces, Pool, combine, cut_pieces, parse_pool, pool_tiles
from hyena_dna.inference.runtime import autocast, batch_tokens, run_batches, select_precision
from hyena_dna.inference.tile_batches import TileBatch, batch_tiles, mark, to_pinned
from hyena_dna.inference.tiling import Tiles, tile_chunk
from hyena_dna.inference.windows import check_overlap, longest_window
from hyena_dna.model.embedding_defaults import EmbeddingDefaults
from hyena_dna.model.model import HyenaDNA

__all__ = ["Embedder", "Embedding", "EmbeddingSpec", "PlannedChunk", "RunningChunk", "Strands", "check_finite",
           "embed_sequences"]  # fmt: skip

Strands = Literal["mean", "concat", "fwd"]


@dataclass(frozen=True)
class EmbeddingSpec:
    """What an embedding is.

    Attributes:
        layers: the hidden states to take.
        pool: how positions are combined.
        strands: the mean over the record and its reverse complement, both side by side, or the record alone.
        overlap: bp that tiles share, where a record is longer than the model.
    """

    layers: Layers
    pool: Pool
    strands: Strands = "mean"
    overlap: int = 0

    @property
    def passes(self) -> int:
        """Strands that are read."""
        return 1 if self.strands == "fwd" else 2

    def width(self, d_model: int) -> int:
        """Numbers per record, or per base for pool `none`.

        Vectors lie side by side: by bin, in each by strand, in each by statistic, in each by layer.
        """
        strands = 2 if self.strands == "concat" else 1
        return self.pool.vectors * strands * self.pool.width(self.layers.count * d_model)


@dataclass(frozen=True)
class PlannedChunk:
    """A chunk with its tiles cut and batched, ready for the device."""

    chunk: Chunk
    tiles: Tiles
    pieces: Pieces
    batches: list[TileBatch]


@dataclass(frozen=True)
class RunningChunk:
    """A chunk that the device works on."""

    plan: PlannedChunk
    parts: list[tuple[NDArray[np.int64], torch.Tensor]]
    ready: torch.cuda.Event | None


@dataclass(frozen=True)
class Embedding:
    """The embedding of a chunk.

    Attributes:
        chunk: its records.
        vectors: (records, width) float32; for pool `none` (bases of all records, width).
        counts: (records,) vectors of each record: 1, or its bases for pool `none`.
    """

    chunk: Chunk
    vectors: NDArray[np.float32]
    counts: NDArray[np.int64]


class Embedder:
    """Embeds chunks in three steps, which a pipeline can overlap: plan (host), launch (device), finish (host).

    Attributes:
        window: longest tile in bp.
        batch_tokens: tokens of a batch.

    Args:
        model: in evaluation mode, on the device.
        spec: what an embedding is.
        precision: dtype of the linear layers.
        batch_size: windows per batch; None for as many as are fast on the device.

    Raises:
        InputError: the tiles of this model cannot overlap so far.
    """

    def __init__(
        self,
        model: HyenaDNA,
        spec: EmbeddingSpec,
        *,
        precision: torch.dtype = torch.float32,
        batch_size: int | None = None,
    ) -> None:
        self.model = model
        self.spec = spec
        self.device = model.lm_head.weight.device
        self._precision = precision
        self._batch_size = batch_size
        self.window = longest_window(model.config)
        check_overlap(self.window, spec.overlap)
        fitting = batch_tokens(self.device, model.config.d_model)
        self.batch_tokens = fitting if batch_size is None else self.window * batch_size

    @property
    def width(self) -> int:
        """Numbers per vector."""
        return self.spec.width(self.model.config.d_model)

    def embed(self, chunk: Chunk) -> Embedding:
        """Embed one chunk, one step after the other."""
        return self.finish(self.launch(self.plan(chunk)))

    def tokens(self, chunk: Chunk) -> int:
        """Tokens that the model reads for a chunk, on all strands, overlaps counted as often as they are read."""
        tiles = tile_chunk(chunk, self.window, self.spec.overlap, strands=self.spec.passes)
        used = np.unique(cut_pieces(self.spec.pool, chunk, tiles).tile)
        return int(tiles.lengths[used].sum())

    def trial(self, rng: np.random.Generator, length: int) -> float:
        """Tokens per second on random records of `length` bp, in a batch of common size."""
        count = max(1, self.batch_tokens // length)
        bases = rng.choice(np.frombuffer(b"ACGT", np.uint8), (count, length))
        rows = ((Row(None, 0, length, "", "."), row.tobytes()) for row in bases)
        (chunk,) = sequence_chunks(rows, limits=ChunkLimits(count, count * length))
        self.embed(chunk)
        began = time.perf_counter()
        self.embed(chunk)
        return self.tokens(chunk) / (time.perf_counter() - began)

    def plan(self, chunk: Chunk) -> PlannedChunk:
        """Cut the windows of a chunk and batch them."""
        tiles = tile_chunk(chunk, self.window, self.spec.overlap, strands=self.spec.passes)
        pieces = cut_pieces(self.spec.pool, chunk, tiles)
        used = np.unique(pieces.tile)
        batches = batch_tiles(
            chunk, tiles, used, self.batch_tokens, self.window, max_rows=self._batch_size, device=self.device
        )
        return PlannedChunk(chunk, tiles, pieces, batches)

    def launch(self, plan: PlannedChunk) -> RunningChunk:
        """Start the device on a chunk; on a GPU this returns before it is done.

        Raises:
            RunError: the device has too little memory for a single window.
        """
        parts: list[tuple[NDArray[np.int64], torch.Tensor]] = []
        by_tile = np.argsort(plan.pieces.tile, kind="stable")
        tile_of = plan.pieces.tile[by_tile]
        for batch in plan.batches:

            def compute(
                rows: NDArray[np.int64], batch: TileBatch = batch
            ) -> list[tuple[NDArray[np.int64], torch.Tensor]]:
                low = np.searchsorted(tile_of, batch.tiles[rows], "left")
                counts = np.searchsorted(tile_of, batch.tiles[rows], "right") - low
                row = np.repeat(np.arange(len(rows)), counts)
                numbers = by_tile[np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts - low, counts)]
                return [(numbers, self._compute(batch, rows, row, plan.pieces, numbers))]

            for _, found in run_batches(compute, [np.arange(len(batch.tiles))]):
                parts = self._gather(parts, found, len(tile_of))
        if self.device.type == "cuda":
            parts = [(numbers, to_pinned(values)) for numbers, values in parts]
        return RunningChunk(plan, parts, mark(self.device))

    def _gather(
        self,
        parts: list[tuple[NDArray[np.int64], torch.Tensor]],
        found: list[tuple[NDArray[np.int64], torch.Tensor]],
        pieces: int,
    ) -> list[tuple[NDArray[np.int64], torch.Tensor]]:
        """Add results of a batch to those of the chunk, on a CPU in one array for all of its pieces.

        Small blocks that stay would lie between the activations of batches, which differ in length: next to nothing
        fits into the holes that these leave, and the heap grows from chunk to chunk.
        """
        if self.device.type == "cuda" or self.spec.pool.kind == "none":
            return parts + found
        for numbers, values in found:
            if not parts:
                parts = [(np.arange(pieces), values.new_empty(pieces, values.shape[1]))]
            parts[0][1][torch.from_numpy(numbers)] = values
        return parts

    @torch.inference_mode()
    def _compute(
        self,
        batch: TileBatch,
        rows: NDArray[np.int64],
        row: NDArray[np.int64],
        pieces: Pieces,
        numbers: NDArray[np.int64],
    ) -> torch.Tensor:
        whole = len(rows) == len(batch.ids)
        ids = (batch.ids if whole else batch.ids[rows[0] : rows[-1] + 1]).to(self.device, non_blocking=True)
        sizes = batch.lengths[rows]
        padded = bool((sizes < ids.shape[1]).any())
        lengths = self._send(sizes) if padded else None
        with autocast(self.device, self._precision):
            hidden = hidden_states(self.model, ids, lengths, self.spec.layers)
        where = [self._send(values) for values in (row, pieces.low[numbers], pieces.high[numbers])]
        return pool_tiles(self.spec.pool, hidden, *where, single=pieces.single, layers=self.spec.layers.count)

    def _send(self, values: NDArray[np.int64]) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def finish(self, running: RunningChunk) -> Embedding:
        """Wait for the device and put the vectors of a chunk together."""
        if running.ready is not None:
            running.ready.synchronize()
        plan, pool = running.plan, self.spec.pool
        channels = self.spec.layers.count * self.model.config.d_model
        if pool.kind == "none":
            return self._finish_bases(running, channels)
        width = pool.width(channels)
        # A piece may need more numbers than what becomes of it.
        first = running.parts[0][1].shape[1] if running.parts else width
        values = np.empty((len(plan.pieces.tile), first), np.float32)
        for numbers, part in running.parts:
            values[numbers] = part.numpy()
        records = len(plan.chunk.rows)
        found = combine(pool, plan.pieces, values, self.spec.passes * records * pool.vectors)
        strands = found.reshape(self.spec.passes, records, pool.vectors, width)
        return Embedding(plan.chunk, self._join(strands).reshape(records, self.width), np.ones(records, np.int64))

    def _finish_bases(self, running: RunningChunk, width: int) -> Embedding:
        chunk, tiles, pieces = running.plan.chunk, running.plan.tiles, running.plan.pieces
        before = np.cumsum(chunk.lengths) - chunk.lengths
        values = np.empty((self.spec.passes, int(chunk.lengths.sum()), width), np.float32)
        for numbers, part in running.parts:
            rows = part.numpy()
            done = 0
            for number in numbers:
                tile, count = pieces.tile[number], pieces.high[number] - pieces.low[number]
                record, first = tiles.record[tile], tiles.start[tile] + pieces.low[number]
                stretch = rows[done : done + count]
                if tiles.passes[tile] == 1:
                    # Back into the direction of the record.
                    stretch, first = stretch[::-1], chunk.lengths[record] - first - count
                values[tiles.passes[tile], before[record] + first : before[record] + first + count] = stretch
                done += count
        return Embedding(chunk, self._join(values), chunk.lengths)

    def _join(self, strands: NDArray[np.float32]) -> NDArray[np.float32]:
        """(passes, ..., width) -> (..., width or 2 * width)."""
        if self.spec.strands == "concat":
            return np.concatenate([strands[0], strands[1]], -1)
        first: NDArray[np.float32] = strands[0]
        return (first + strands[1]) * np.float32(0.5) if self.spec.strands == "mean" else first


def embed_sequences(
    model: HyenaDNA,
    sequences: Sequence[str | bytes],
    *,
    layer: str | None = None,
    pool: str | None = None,
    strands: Strands | None = None,
    overlap: int = 0,
    precision: str = "auto",
    batch_size: int | None = None,
) -> NDArray[np.float32] | list[NDArray[np.float32]]:
    """Embed sequences of any lengths, as `hyena-dna embed` does.

    Layers, pooling and strands are by default those of `model.embedding`, which a model's files may say, and otherwise
    `last`, `mean`, `mean`.

    Example:
        >>> embed_sequences(model, ["ACGTTGCA", "ACG"], layer="last", pool="mean").shape
        (2, 128)

    Args:
        model: a model in evaluation mode.
        sequences: DNA; longer ones than the model reads at once are tiled.
        layer: `last` (after the final norm), block `K` or blocks `K,L` side by side, counted from 1, or `mean:K`, the
            mean of the last K blocks.
        pool: `mean`, `max`, `last`, `mean+max`, `mean+std`, `moments:N`, `center:N`,
            `bins:N`, or `none` for a vector of every base.
        strands: `mean` of a sequence and its reverse complement, `concat` both, or `fwd`.
        overlap: bp that tiles share.
        precision: `auto`, `fp32`, `bf16` or `fp16`, of the linear layers.
        batch_size: windows per batch; None for as many as are fast on the device.

    Returns:
        (sequences, width) float32; for pool `none` a list with (length, width) for each sequence.

    Raises:
        InputError: a sequence is empty or not DNA, an argument is not as said above, or a vector is not finite.
    """
    device = model.lm_head.weight.device
    defaults = model.embedding or EmbeddingDefaults()
    layers, pooling = parse_layers(layer or defaults.layer, model.config.n_layer), parse_pool(pool or defaults.pool)
    spec = EmbeddingSpec(layers, pooling, strands or defaults.strands, overlap)
    embedder = Embedder(model, spec, precision=select_precision(precision, device), batch_size=batch_size)
    found: list[NDArray[np.float32]] = []
    for chunk in sequence_chunks(numbered(sequences)):
        embedding = embedder.embed(chunk)
        check_finite(embedding)
        if spec.pool.kind == "none":
            found += np.split(embedding.vectors, np.cumsum(embedding.counts)[:-1])
        else:
            found.append(embedding.vectors)
    if spec.pool.kind == "none":
        return found
    return np.concatenate(found) if found else np.empty((0, embedder.width), np.float32)


def check_finite(embedding: Embedding) -> None:
    """Refuse vectors that are not numbers.

    Raises:
        InputError: a record has NaN or infinity; the model is at fault.
    """
    bad = ~np.isfinite(embedding.vectors).all(1)
    if bad.any():
        row = embedding.chunk.rows[int(np.repeat(np.arange(len(embedding.counts)), embedding.counts)[bad.argmax()])]
        raise InputError(f"the model gives no finite embedding of {row.name!r}", remedy="try --precision fp32")
