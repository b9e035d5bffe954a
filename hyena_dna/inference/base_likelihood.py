"""Log-probability of every base given what stands before it, and how sure the model was, on one strand or both."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dna.errors import InputError
from hyena_dna.inference.inputs import Chunk, ChunkLimits, Row, numbered, sequence_chunks
from hyena_dna.inference.likelihood import high_precision, next_token_log_probs, pick_tokens
from hyena_dna.inference.runtime import batch_tokens, run_batches
from hyena_dna.inference.tile_batches import TileBatch, batch_tiles, mark, to_pinned
from hyena_dna.inference.tiling import Tiles, tile_chunk
from hyena_dna.inference.windows import check_overlap, longest_window
from hyena_dna.model.model import HyenaDNA
from hyena_dna.tokenizer import A, T

__all__ = [
    "BaseLikelihood",
    "BaseScorer",
    "BaseStrands",
    "ChunkScores",
    "RunningScores",
    "default_context",
    "per_base_likelihood",
    "piece_limits",
]

BaseStrands = Literal["fwd", "rev", "both"]

# The same on every device, so that numbers are; enough for most of what a longer one adds, and cheap for short regions.
_CONTEXT = 256

# Long records are computed, written and resumed in pieces of about this many bp.
_PIECE = 1 << 20
# Log-softmax and entropy are taken of this many positions at once: their temporaries are wider than hidden states.
_POSITIONS = 1 << 16


class BaseLikelihood(NamedTuple):
    """The scores of one sequence, in the coordinates of its forward strand; NaN where a base has none.

    Attributes:
        log_prob: (strands, length) float32, nats: log P(base | the bases before it on that strand).
        entropy: (strands, length) float32, nats: of the model's prediction for that place among A, C, G and T.
    """

    log_prob: NDArray[np.float32]
    entropy: NDArray[np.float32]


@dataclass(frozen=True)
class PlannedScores:
    """A chunk with its tiles cut and batched for every strand, ready for the device."""

    chunk: Chunk
    tiles: Tiles
    low: NDArray[np.int64]
    batches: list[TileBatch]


@dataclass(frozen=True)
class RunningScores:
    """A chunk that the device works on."""

    plan: PlannedScores
    parts: list[tuple[NDArray[np.int64], torch.Tensor]]
    ready: torch.cuda.Event | None


@dataclass(frozen=True)
class ChunkScores:
    """The scores of a chunk.

    Attributes:
        chunk: its pieces.
        values: (strands, 2, bases of all pieces without context) float32: log-probability and entropy in nats, NaN
            where a base has no score.
    """

    chunk: Chunk
    values: NDArray[np.float32]


def default_context(window: int) -> int:
    """Bases that every base has before it at least, unless its contig or sequence begins nearer."""
    return min(_CONTEXT, window // 2)


def piece_limits(window: int, context: int) -> ChunkLimits:
    """Chunks of pieces that fill windows: a piece with its context before it is a whole number of tiles."""
    step = window - context
    return ChunkLimits(piece=step * max(1, _PIECE // step), context=context)


class BaseScorer:
    """Scores every base of chunks in three steps, which a pipeline can overlap: plan, launch, finish.

    A strand is read in tiles of `window` bp that overlap by `context` bp; the bases of a tile after those shared with
    the tile before are scored in it. So each base is predicted from at least `context` bases before it, and from fewer
    than `window`, or from all where its contig or sequence begins nearer; the first base of a strand, which nothing
    stands before, has no score. Neither have N. Log-probabilities are those of the model's 12 tokens.

    Attributes:
        window: length of tiles in bp.
        context: least bases before a scored one.
        strands: strands that are read.
        batch_tokens: tokens of a batch.

    Args:
        model: a float32 model in evaluation mode, on the device.
        strands: `fwd`, `rev` or `both`; forward scores come first.
        window: tile length in bp; None for the model's longest.
        context: `max` for half a window, None for `default_context`.
        batch_size: windows per batch; None for as many as are fast on the device.

    Raises:
        InputError: the window does not fit the model, or the context not the window.
    """

    def __init__(
        self,
        model: HyenaDNA,
        strands: BaseStrands = "both",
        *,
        window: int | Literal["max"] | None = None,
        context: int | Literal["max"] | None = None,
        batch_size: int | None = None,
    ) -> None:
        longest = longest_window(model.config)
        self.model = model
        self.window: int = longest if window is None or window == "max" else window
        if self.window > longest:
            raise InputError(f"a window of {self.window:,} bp is longer than the model's {longest:,}")
        if context is None:
            context = default_context(self.window)
        self.context: int = self.window // 2 if context == "max" else context
        try:
            check_overlap(self.window, self.context)
        except InputError:
            reason = f"a context of {self.context:,} bp does not fit windows of {self.window:,} bp"
            raise InputError(reason, remedy="give a smaller --context") from None
        self.strands = strands
        self.device = model.lm_head.weight.device
        self._batch_size = batch_size
        self.batch_tokens = (
            batch_tokens(self.device, model.config.d_model) if batch_size is None else self.window * batch_size
        )

    @property
    def signs(self) -> tuple[str, ...]:
        """Names of the strands in the order of the scores: `fwd`, `rev`."""
        return ("fwd", "rev") if self.strands == "both" else (self.strands,)

    def limits(self) -> ChunkLimits:
        """How chunks for this scorer are to be cut."""
        return piece_limits(self.window, self.context)

    def tokens(self, chunk: Chunk) -> int:
        """Tokens that the model reads for a chunk, on all strands."""
        return int(self._tiles(chunk)[0].lengths.sum())

    def trial(self) -> float:
        """Tokens per second on random bases, in a batch of common size."""
        count = max(1, self.batch_tokens // self.window)
        bases = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), (count, self.window))
        rows = [(Row(None, 0, self.window, "", "."), row.tobytes()) for row in bases]
        (chunk,) = sequence_chunks(rows, limits=ChunkLimits(count, count * self.window, self.window))
        self.score(chunk)
        began = time.perf_counter()
        self.score(chunk)
        return self.tokens(chunk) / (time.perf_counter() - began)

    def score(self, chunk: Chunk) -> ChunkScores:
        """Score one chunk, one step after the other."""
        return self.finish(self.launch(self.plan(chunk)))

    def _tiles(self, chunk: Chunk) -> tuple[Tiles, NDArray[np.int64]]:
        """Tiles of every strand, and the first position in each that it scores, counted in reading direction."""
        left = np.array([piece.left for piece in chunk.pieces], np.int64)
        right = np.array([piece.right for piece in chunk.pieces], np.int64)
        found, lows = [], []
        for number, sign in enumerate(self.signs):
            # A strand needs the context before it alone.
            reverse = sign == "rev"
            ahead, behind = (right, left) if reverse else (left, right)
            part = replace(
                chunk,
                starts=chunk.starts + (left if reverse else 0),
                lengths=chunk.lengths - behind,
                reverse=np.full(len(left), reverse),
            )
            tiles = tile_chunk(part, self.window, self.context, strands=1)
            low = np.maximum(tiles.spoken, ahead[tiles.record])
            kept = low < tiles.end
            columns = {name: column[kept] for name, column in vars(tiles).items()}
            found.append(Tiles(**columns | {"passes": np.full(kept.sum(), number)}))
            lows.append(low[kept])
        joined = {name: np.concatenate([vars(tiles)[name] for tiles in found]) for name in vars(found[0])}
        return Tiles(**joined), np.concatenate(lows)

    def plan(self, chunk: Chunk) -> PlannedScores:
        """Cut the windows of a chunk and batch them."""
        tiles, low = self._tiles(chunk)
        batches = batch_tiles(
            chunk,
            tiles,
            np.arange(len(tiles)),
            self.batch_tokens,
            self.window,
            max_rows=self._batch_size,
            device=self.device,
        )
        return PlannedScores(chunk, tiles, low, batches)

    def launch(self, plan: PlannedScores) -> RunningScores:
        """Start the device on a chunk.

        Raises:
            RunError: the device has too little memory for a single window.
        """
        parts: list[tuple[NDArray[np.int64], torch.Tensor]] = []
        with high_precision(self.device):
            for batch in plan.batches:

                def compute(rows: NDArray[np.int64], batch: TileBatch = batch) -> torch.Tensor:
                    return self._compute(batch, rows)

                for rows, values in run_batches(compute, [np.arange(len(batch.tiles))]):
                    parts.append((batch.tiles[rows], values))
        return RunningScores(plan, parts, mark(self.device))

    def _compute(self, batch: TileBatch, rows: NDArray[np.int64]) -> torch.Tensor:
        """(2, rows, width) float32, on the host or on its way there."""
        ids = batch.ids[rows[0] : rows[-1] + 1].to(self.device, non_blocking=True).long()
        sizes = batch.lengths[rows]
        padded = bool((sizes < ids.shape[1]).any())
        hidden = self.model.hidden(ids, lengths=torch.from_numpy(sizes).to(self.device) if padded else None)
        found = torch.full((2, *ids.shape), torch.nan, dtype=torch.float32, device=self.device)
        step = max(1, _POSITIONS // len(rows))
        for first in range(1, ids.shape[1], step):
            part = slice(first, min(first + step, ids.shape[1]))
            log_probs = next_token_log_probs(self.model, hidden[:, part.start - 1 : part.stop - 1])
            targets = ids[:, part]
            known = (targets >= A) & (targets <= T)
            bases = log_probs[..., A : T + 1].log_softmax(-1)
            for values, scores in zip(
                found, (pick_tokens(log_probs, targets).float(), -(bases.exp() * bases).sum(-1)), strict=True
            ):
                # What is no number is told from what has no score.
                values[:, part] = torch.where(known, scores.nan_to_num(nan=torch.inf, neginf=torch.inf), torch.nan)
        return to_pinned(found) if self.device.type == "cuda" else found

    def finish(self, running: RunningScores) -> ChunkScores:
        """Wait for the device and put the scores of a chunk in order.

        Raises:
            InputError: a score is not finite; the model is at fault.
        """
        if running.ready is not None:
            running.ready.synchronize()
        plan, tiles = running.plan, running.plan.tiles
        sizes = np.array([piece.length for piece in plan.chunk.pieces], np.int64)
        before = np.cumsum(sizes) - sizes
        values = np.full((len(self.signs), 2, int(sizes.sum())), np.nan, np.float32)
        pieces = plan.chunk.pieces
        for numbers, part in running.parts:
            found = part.numpy()
            for row, tile in enumerate(numbers.tolist()):
                start, low, end = int(tiles.start[tile]), int(plan.low[tile]), int(tiles.end[tile])
                record, strand = int(tiles.record[tile]), int(tiles.passes[tile])
                scored = found[:, row, low - start : end - start]
                if tiles.reverse[tile]:
                    # Back into the direction of the forward strand; context on the right is read first.
                    first = int(sizes[record]) + pieces[record].right - end
                    scored = scored[:, ::-1]
                else:
                    first = low - pieces[record].left
                at = int(before[record]) + first
                values[strand, :, at : at + end - low] = scored
        if np.isinf(values).any():
            at = int(np.isinf(values).any((0, 1)).argmax())
            name = plan.chunk.rows[int(np.searchsorted(before, at, "right")) - 1].name
            raise InputError(f"the model gives no finite likelihood of {name!r}", remedy="check its weights")
        return ChunkScores(plan.chunk, values)


def per_base_likelihood(
    model: HyenaDNA,
    sequences: Sequence[str | bytes],
    *,
    strands: BaseStrands = "both",
    window: int | None = None,
    context: int | Literal["max"] | None = None,
    batch_size: int | None = None,
) -> list[BaseLikelihood]:
    """Log-probability and entropy of every base of sequences of any length.

    Example:
        >>> scores = per_base_likelihood(model, ["ACGTTGCA"])
        >>> scores[0].log_prob.shape  # forward and reverse strand
        (2, 8)

    Args:
        model: a float32 model in evaluation mode.
        sequences: DNA; longer ones than the model reads at once are tiled, see `BaseScorer`.
        strands: `fwd`, `rev` (predicted from the reverse complement) or `both`.
        window: length of tiles in bp; None for the model's longest.
        context: least bases before a scored one in a tile that is not the first; `max` for half a window, None for 256
            or, in shorter windows, half of them.
        batch_size: windows per batch; None for as many as are fast on the device.

    Returns:
        One entry per sequence. The nansum of `log_prob[0]` is `log_likelihood(model, [sequence])`, rounding apart, for
        a sequence without N that the model reads at once.

    Raises:
        InputError: a sequence is empty or not DNA, or window and context do not fit.
    """
    scorer = BaseScorer(model, strands, window=window, context=context, batch_size=batch_size)
    values: list[list[NDArray[np.float32]]] = [[] for _ in sequences]
    for chunk in sequence_chunks(numbered(sequences), limits=scorer.limits()):
        found = scorer.score(chunk).values
        done = 0
        for piece in chunk.pieces:
            values[piece.record].append(found[..., done : done + piece.length])
            done += piece.length
    joined = [np.concatenate(pieces, -1) for pieces in values]
    return [BaseLikelihood(found[:, 0].copy(), found[:, 1].copy()) for found in joined]
