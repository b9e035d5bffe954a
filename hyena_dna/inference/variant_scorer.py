"""`VariantScorer`: orders the work of scoring windows so that reference passes and batches are shared."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dna.datasets.alleles import EXACT_LIMIT, StrandWindow
from hyena_dna.errors import InputError
from hyena_dna.inference.allele_summary import StrandScores, Tails, window_tails
from hyena_dna.inference.delta import MOST_LOCAL, DeltaScorer
from hyena_dna.inference.likelihood import high_precision
from hyena_dna.inference.reference_cache import Key, ReferenceCache
from hyena_dna.inference.reference_pass import ReferenceTail, Stretch, halo, reference_pass, runs_fused
from hyena_dna.inference.two_pass import two_pass_scores
from hyena_dna.model.model import HyenaDNA
from hyena_dna.ops.heap import trim_heap
from hyena_dna.tokenizer import PAD

__all__ = ["DEFAULT_SPAN", "Method", "VariantScorer"]

_log = logging.getLogger("hyena_dna")

DEFAULT_SPAN = 4096
"""Tokens scored from the first changed one on, in bp, unless said otherwise."""

Method = Literal["delta", "two_pass"]

# Positions of one batch times d_model. CPU: temporaries stay in the caches, a fifth faster than in memory.
_BATCH_VALUES = {"cpu": 1 << 18, "cuda": 1 << 26}
_KEPT_BYTES = {"cpu": 1 << 30, "cuda": 24 << 30}


class VariantScorer:
    """Scores the two alleles of windows.

    The delta method runs the model once over each reference window and then computes, for every variant, only the
    scored positions (`hyena_dna.inference.delta`). Passes over the most recent long reference windows are kept between
    calls. Everything is computed in the dtype of the weights, without autocast, and summed in float64; products are
    float32's own or, in the fused kernels of a GPU, three products of split operands that are as accurate. Batches
    and order change scores by rounding only.

    Args:
        model: a float32 or float64 model in evaluation mode; its weights must not change while this is in use.
        span: most tokens scored from the first changed one on, in bp.
        batch_size: variants computed at once; by default as many as suit the device.
        method: `delta`, or `two_pass`, the straightforward definition. Models with attention have no local form and
            take two passes whatever is said here, which is logged.

    Raises:
        InputError: the model is in training mode or in half precision, or a number is not positive.
    """

    def __init__(
        self,
        model: HyenaDNA,
        *,
        span: int = DEFAULT_SPAN,
        batch_size: int | None = None,
        method: Method = "delta",
    ) -> None:
        if model.training:
            raise InputError("a model in training mode cannot score variants", remedy="call model.eval() first")
        if model.lm_head.weight.dtype not in (torch.float32, torch.float64):
            raise InputError(
                f"scores need float32 weights, not {model.lm_head.weight.dtype}", remedy="call model.float()"
            )
        if span < 1 or (batch_size is not None and batch_size < 1):
            raise InputError("the scored span and the batch size must be at least 1")
        if method not in ("delta", "two_pass"):
            raise InputError(f"method is delta or two_pass, not {method!r}")
        self.model = model
        self.span = span
        self.batch_size = batch_size
        self.method = method
        if method == "delta" and model.config.mixer != "hyena":
            _log.info("attention has no local form: every variant is scored by two whole passes")
            self.method = "two_pass"
        self._device = model.lm_head.weight.device
        self._delta = _delta_scorer(model) if self.method == "delta" else None
        self._cache = ReferenceCache(_KEPT_BYTES.get(self._device.type, _KEPT_BYTES["cuda"]))
        self._halo = halo(model)

    def score(self, windows: Sequence[StrandWindow]) -> StrandScores:
        """Score windows, each on its own strand.

        Args:
            windows: all of one length, at most the model's context.

        Returns:
            Scores in the order given.

        Raises:
            InputError: windows differ in length, or are longer than the model's context.
        """
        if not windows:
            return StrandScores(*np.empty((3, 0)))
        self._check(windows)
        with high_precision(self._device):
            if self._delta is None:
                size = self.batch_size or self._most(len(windows[0].ref_ids))
                scores = two_pass_scores(self.model, windows, self.span, size)
            else:
                scores = self._by_delta(self._delta, windows)
        if self._device.type == "cpu":
            # Reference passes that are kept leave holes behind when they go.
            trim_heap()
        return StrandScores(*scores.cpu().numpy().T.copy())

    def _check(self, windows: Sequence[StrandWindow]) -> None:
        length = len(windows[0].ref_ids)
        for window in windows:
            if len(window.ref_ids) != length or len(window.alt_ids) != length:
                raise InputError("windows scored together must be of one length")
            assert 0 <= window.changed < length
        if length > self.model.config.max_length:
            raise InputError(
                f"windows of {length:,} bp do not fit the model, which takes at most {self.model.config.max_length:,}",
                remedy="give a shorter --window",
            )

    def _most(self, length: int) -> int:
        """Rows of this many positions to compute at once."""
        values = _BATCH_VALUES.get(self._device.type, _BATCH_VALUES["cuda"])
        return max(1, values // (self.model.config.d_model * length))

    def _by_delta(self, delta: DeltaScorer, windows: Sequence[StrandWindow]) -> torch.Tensor:
        tails = window_tails(windows, self.span)
        scores = torch.empty(len(windows), 3, dtype=torch.float64, device=self._device)
        for passes, rows, members in self._references(windows, tails):
            which = np.array([rows[windows[i].key] for i in members])
            for chosen, columns, local, alleles in self._batches(tails, members, which):
                batch = members[chosen]
                part = tails.take(batch)
                ids = torch.from_numpy(self._alternatives([windows[i] for i in batch], part, columns))
                own = torch.from_numpy(which[chosen]).to(self._device)
                found = delta.score(passes, own, ids.to(self._device), part, local=local, alleles=alleles)
                scores[torch.from_numpy(batch).to(self._device)] = found
        # Inference tensors stay behind.
        return scores.clone()

    def _references(
        self, windows: Sequence[StrandWindow], tails: Tails
    ) -> Iterator[tuple[ReferenceTail, dict[Key, int], NDArray[np.int64]]]:
        """Reference passes, kept or new, with the row of each key in them and the windows that belong to them."""
        members: dict[Key, list[int]] = {}
        for index, window in enumerate(windows):
            members.setdefault(window.key, []).append(index)
        needed = {key: self._stretch(tails.take(np.array(own))) for key, own in members.items()}
        known, missing = self._cache.find(needed)
        for passes, rows in known:
            yield passes, rows, np.array([index for key in rows for index in members[key]])
        length = len(windows[0].ref_ids)
        count = self._most(length)
        for start in range(0, len(missing), count):
            keys = missing[start : start + count]
            stretch = self._with_reserve(
                Stretch(min(needed[key].start for key in keys), max(needed[key].end for key in keys)), length
            )
            ids = torch.from_numpy(np.stack([windows[members[key][0]].ref_ids for key in keys]))
            passes = reference_pass(self.model, ids.to(self._device), stretch)
            if length > EXACT_LIMIT:
                self._cache.keep(passes, keys)
            rows = {key: row for row, key in enumerate(keys)}
            yield passes, rows, np.array([index for key in keys for index in members[key]])

    def _stretch(self, tails: Tails) -> Stretch:
        end = (tails.changed + np.array([_round_up(int(length), self.span) for length in tails.lengths])).max()
        return Stretch(int(tails.changed.min()) - self._halo, int(end))

    def _with_reserve(self, stretch: Stretch, length: int) -> Stretch:
        """Room for variants that later calls may have in the same windows, where windows are long enough to be shared.

        Records come sorted, a few at a time, and their windows start at multiples of an eighth of the window.
        """
        if length <= EXACT_LIMIT:
            return stretch
        low, high = max(-self._halo, stretch.start - length // 8), min(length, stretch.end + length // 8)
        return Stretch(min(stretch.start, low), max(stretch.end, high))

    def _batches(
        self, tails: Tails, members: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], int, bool, int]]:
        """Windows of similar work together, as indices of `members`, those at one place after each other.

        With the number of positions to compute, whether all are local, and how many there are at every place.
        """
        columns = np.array([_round_up(int(length), self.span) for length in tails.lengths[members]])
        local = tails.different[members] <= MOST_LOCAL
        kinds = np.where(local, tails.different[members], MOST_LOCAL + 1)
        work = np.stack([kinds, columns, rows, tails.changed[members]])
        _, place, counts = np.unique(work, axis=1, return_inverse=True, return_counts=True)
        alleles = counts[place]
        order = np.lexsort((members, place, alleles, columns, kinds))
        work = np.stack([kinds, columns, alleles])[:, order]
        start = 0
        while start < len(order):
            first = order[start]
            alike = (work[:, start:] == work[:, start, None]).all(axis=0)
            run = len(alike) if alike.all() else int(alike.argmin())
            size, together = self.batch_size or self._most(int(columns[first])), int(alleles[first])
            if size < together:
                together = 1
            size = min(run, size // together * together)
            yield order[start : start + size], int(columns[first]), bool(local[first]), together
            start += size

    def _alternatives(self, windows: Sequence[StrandWindow], tails: Tails, columns: int) -> NDArray[np.uint8]:
        """(n, past + columns) alternative tokens from the short convolution's past on, PAD outside the window."""
        past = self.model.config.short_filter_length - 1
        ids = np.full((len(windows), past + columns), PAD, np.uint8)
        for row, window, changed in zip(ids, windows, tails.changed.tolist(), strict=True):
            low, high = max(0, changed - past), min(len(window.alt_ids), changed + columns)
            row[low - changed + past : high - changed + past] = window.alt_ids[low:high]
        return ids


def _round_up(length: int, span: int) -> int:
    """Positions computed for a scored length: a sixteenth of its power of two at most is added, so that few differ."""
    step = max(16, 1 << max(0, length.bit_length() - 5))
    return length if length == span else -(-length // step) * step


def _delta_scorer(model: HyenaDNA) -> DeltaScorer:
    if not runs_fused(model):
        return DeltaScorer(model)
    # Triton is there on GPUs only.
    from hyena_dna.inference.fused_delta import FusedDeltaScorer

    return FusedDeltaScorer(model)
