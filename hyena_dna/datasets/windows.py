"""Which windows a step of training sees: a pure function of the seed and the step.

There is no iterator, no epoch and no state, so nothing can be repeated or lost when a run is resumed, or when several
workers or processes take part: the batch of a step is the same whoever asks for it.

A window of `window` bp has `window` inputs and as many targets, each the base after its input, so it spans
`window + 1` bases, all inside one segment. A segment shorter than that gives one window, padded on the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hyena_dna.datasets.segments import NCounter, Segment
from hyena_dna.errors import InputError

__all__ = ["WindowBatch", "WindowSampler", "WindowSource", "tile_windows"]


class _HasNRuns(Protocol):
    @property
    def n_runs(self) -> NDArray[np.int64]:
        """Runs of N in store coordinates, `(k, 2)`, sorted, half-open."""


@dataclass(frozen=True, slots=True)
class WindowSource:
    """Segments of one store, and how often windows come from them.

    Attributes:
        store: the token store; only its runs of N are read here.
        segments: where windows may lie; disjoint.
        weight: share of the windows relative to other sources; by default the number of places a window can start at,
            so that every window of every source is equally likely. Give a weight to all sources or to none.
    """

    store: _HasNRuns
    segments: Sequence[Segment]
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """Where the windows of a batch lie. All arrays are `(batch,)`.

    Attributes:
        source: index of the source, or of its store.
        start: first base, in store coordinates.
        length: number of bases, inputs and last target together; at most `window + 1`.
        reverse: whether the window is read on the reverse strand.
    """

    source: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    reverse: NDArray[np.bool_]

    def __len__(self) -> int:
        return int(self.start.size)

    def __getitem__(self, rows: slice) -> WindowBatch:
        return WindowBatch(self.source[rows], self.start[rows], self.length[rows], self.reverse[rows])

    @classmethod
    def concatenate(cls, batches: Sequence[WindowBatch]) -> WindowBatch:
        """The windows of several batches, in order."""
        return cls(
            np.concatenate([batch.source for batch in batches]),
            np.concatenate([batch.start for batch in batches]),
            np.concatenate([batch.length for batch in batches]),
            np.concatenate([batch.reverse for batch in batches]),
        )


class WindowSampler:
    """Draws windows uniformly over every place where one may start.

    A window may start wherever it lies inside a segment and holds no more than `max_n_fraction` of N. How many N a
    window holds changes by at most one from one start to the next, and only where one of its ends passes a run of N, so
    the allowed starts are computed exactly, as ranges, from the runs alone. Drawing needs no rejection.

    Args:
        sources: segments to draw from.
        window: inputs of a window in bp; its span is one base longer.
        seed: 0..2^64-1.
        max_n_fraction: largest allowed share of N among the bases of a window.
        reverse_complement: read each window on the reverse strand with probability one half.

    Raises:
        InputError: an argument is out of range, or a source has no place for a window.
    """

    def __init__(
        self,
        sources: Sequence[WindowSource],
        *,
        window: int,
        seed: int,
        max_n_fraction: float = 0.05,
        reverse_complement: bool = True,
    ) -> None:
        if not 0 <= seed < 2**64:
            raise InputError(f"the seed must lie in 0..2^64-1, got {seed}")
        if not sources:
            raise InputError("there is no sequence to draw windows from")
        self.window = window
        self.seed = seed
        self._reverse_complement = reverse_complement
        ranges = []
        for i, source in enumerate(sources):
            ranges.append(_allowed_starts(source.segments, source.store.n_runs, window, max_n_fraction))
            if ranges[-1].number.size == 0:
                reason = (
                    f"source {i + 1} has no place for a window of {window:,} bp with at most {max_n_fraction:.3g} N"
                )
                raise InputError(reason, remedy="allow more N, or use shorter windows or other contigs")
        self.sizes = np.array([places.number.sum() for places in ranges], dtype=np.int64)
        self.weights = _weights(sources, self.sizes)
        self._start, self._count, self._length = (np.concatenate(arrays) for arrays in zip(*ranges, strict=True))
        self._index = _running_total(self._count)

    def sample(self, step: int, batch_size: int) -> WindowBatch:
        """The windows of one step.

        Args:
            step: step number, from 0.
            batch_size: number of windows.

        Raises:
            InputError: the step is negative.
        """
        if step < 0:
            raise InputError(f"the step must not be negative, got {step}")
        # Seed and window length are the key, the step is the high word of the counter: no two steps share random
        # numbers, and a stage of shorter windows does not walk through the places of another stage.
        key, counter = np.array([self.seed, self.window], np.uint64), np.array([0, 0, 0, step], np.uint64)
        rng = np.random.Generator(np.random.Philox(key=key, counter=counter))
        source = np.searchsorted(np.cumsum(self.weights)[:-1], rng.random(batch_size), side="right").astype(np.int64)
        place = _running_total(self.sizes)[source] + rng.integers(0, self.sizes[source])
        coin = rng.integers(0, 2, batch_size, dtype=np.bool_)
        reverse = coin if self._reverse_complement else np.zeros(batch_size, dtype=np.bool_)
        piece = np.searchsorted(self._index, place, side="right") - 1
        return WindowBatch(source, self._start[piece] + place - self._index[piece], self._length[piece], reverse)


def tile_windows(
    segments: Sequence[Segment],
    window: int,
    max_windows: int,
    *,
    source: int = 0,
    n_runs: NDArray[np.int64] | None = None,
    max_n_fraction: float = 0.05,
) -> WindowBatch:
    """A fixed set of windows for validation: side by side, on the forward strand, evenly thinned to a cap.

    Windows of a segment follow each other so that every base but the segment's first is the target of at most one; the
    last target of one window is the first input of the next. What is left at the end of a segment is dropped; a segment
    with no room for one window gives a single padded one.

    Args:
        segments: where windows may lie.
        window: inputs of a window in bp; its span is one base longer.
        max_windows: cap on the number of windows.
        source: index to give to all of them.
        n_runs: runs of N of the store, `(k, 2)`; where given, windows with too many N are left out before thinning.
        max_n_fraction: largest allowed share of N.

    Raises:
        InputError: an argument is out of range, or no window is left.
    """
    _check(window, max_n_fraction)
    if max_windows < 1:
        raise InputError(f"at least one window is needed, got a cap of {max_windows}")
    seg_start, seg_length = _usable(segments)
    tiles = np.maximum((seg_length - 1) // window, 1)
    rank = np.arange(int(tiles.sum())) - np.repeat(_running_total(tiles), tiles)
    start = np.repeat(seg_start, tiles) + rank * window
    length = np.repeat(np.minimum(seg_length, window + 1), tiles)
    if n_runs is not None:
        keep = NCounter(n_runs).count(start, start + length) <= _most_n(length, max_n_fraction)
        start, length = start[keep], length[keep]
    if start.size == 0:
        raise InputError(f"there is no place for a window of {window:,} bp", remedy="use other contigs or allow more N")
    number = min(max_windows, start.size)
    thinned = np.arange(number) * start.size // number
    return WindowBatch(
        np.full(number, source, dtype=np.int64), start[thinned], length[thinned], np.zeros(number, dtype=np.bool_)
    )


class _Places(NamedTuple):
    """Ranges of allowed starts: the first start, the number of starts, and the span of the windows there."""

    start: NDArray[np.int64]
    number: NDArray[np.int64]
    length: NDArray[np.int64]


def _allowed_starts(
    segments: Sequence[Segment], n_runs: NDArray[np.int64], window: int, max_n_fraction: float
) -> _Places:
    """Every start whose window lies in one segment and has few enough N."""
    _check(window, max_n_fraction)
    start, length = _usable(segments)
    span = window + 1
    counter = NCounter(n_runs)

    is_short = length < span
    short_start, short_length = start[is_short], length[is_short]
    few = counter.count(short_start, short_start + short_length) <= _most_n(short_length, max_n_fraction)

    low = start[~is_short]
    high = low + length[~is_short] - window
    # Between two of these borders, moving a window by one base changes its number of N always by the same -1, 0 or 1.
    borders = np.unique(np.concatenate((low, high, n_runs.ravel(), n_runs.ravel() - span)))
    a, b = borders[:-1], borders[1:]
    segment = np.searchsorted(low, a, side="right") - 1
    inside = (segment >= 0) & (a < high[segment]) if low.size else np.zeros(a.size, dtype=np.bool_)
    a, b = a[inside], b[inside]
    most = int(_most_n(np.array([span]), max_n_fraction)[0])
    room_first = most - counter.count(a, a + span)
    room_last = most - counter.count(b - 1, b - 1 + span)
    # The room for more N is linear from the first start of a stretch to its last, so the starts with room are at one
    # end of the stretch, as many as there is room for and one more.
    count = np.where(room_first >= 0, np.where(room_last >= 0, b - a, room_first + 1), np.maximum(room_last + 1, 0))
    first = np.where(room_first >= 0, a, b - count)
    first, count = first[count > 0], count[count > 0]
    return _Places(
        np.concatenate((first, short_start[few])),
        np.concatenate((count, np.ones(np.count_nonzero(few), dtype=np.int64))),
        np.concatenate((np.full(first.size, span, dtype=np.int64), short_length[few])),
    )


def _usable(segments: Sequence[Segment]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and lengths of the segments that hold an input and a target, sorted."""
    ordered = sorted(segment for segment in segments if segment.length > 1)
    start = np.array([segment.start for segment in ordered], dtype=np.int64)
    length = np.array([segment.length for segment in ordered], dtype=np.int64)
    assert (start[1:] >= (start + length)[:-1]).all(), "segments overlap"
    return start, length


def _most_n(length: NDArray[np.int64], max_n_fraction: float) -> NDArray[np.int64]:
    """Largest number of N among `length` bases; 0.29 of 100 is 29, whatever the binary fraction says."""
    most: NDArray[np.int64] = np.floor(max_n_fraction * length + 1e-6).astype(np.int64)
    return most


def _running_total(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum of all counts before each."""
    total: NDArray[np.int64] = np.cumsum(counts) - counts
    return total


def _weights(sources: Sequence[WindowSource], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Probability of each source."""
    given = [source.weight for source in sources if source.weight is not None]
    if given and len(given) < len(sources):
        raise InputError("some sources have a weight and some have none", remedy="give a weight to all or to none")
    weights = np.array(given, dtype=np.float64) if given else sizes.astype(np.float64)
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        raise InputError(f"weights of sources must be positive numbers, got {given}")
    weights /= weights.sum()
    return weights


def _check(window: int, max_n_fraction: float) -> None:
    if window < 1:
        raise InputError(f"a window needs at least 1 bp, got {window}")
    if not 0 <= max_n_fraction <= 1:
        raise InputError(f"the largest share of N must lie in 0..1, got {max_n_fraction}")
