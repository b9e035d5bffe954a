"""Windows of many variants, cut out of tiles of the genome that are read and encoded once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from hyena_dna.datasets.alleles import AlleleWindows, Fetch, Ids, Strand, StrandWindow, WindowSpec, both_strands
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.variants import Trimmed
from hyena_dna.tokenizer import ENCODE, A, N, T, complement_ids

__all__ = ["TokenTiles"]

_TILE = 1 << 17
_TILE_BYTES = 48 << 20
_LETTERS = bytes(ord("ACGTN"[token - A]) if A <= token <= N else 0 for token in range(256))
_KEPT_WINDOWS = 64


class _Tile(NamedTuple):
    start: int
    end: int
    forward: Ids
    reverse: Ids
    n_free: bool


class TokenTiles:
    """Tiles of a genome's tokens, the most recently used ones kept, and the windows in them.

    A window is a view of a tile wherever it does not change, on the reverse strand too, so that building the windows
    of an SNV costs microseconds. Tiles overlap by more than a window.

    Args:
        fetch: gives upper-case ACGTN of an interval, N beyond the contig's ends, as `Reference.fetch` does.
        contigs: length in bp of every contig.
        spec: where the windows lie.
    """

    def __init__(self, fetch: Fetch, contigs: Mapping[str, int], spec: WindowSpec) -> None:
        self.fetch = fetch
        self.contigs = contigs
        self.spec = spec
        # Room for both windows of a variant, which overlap, and for the bases that a deletion draws in.
        self._step = max(_TILE, spec.window)
        self._span = self._step + 4 * spec.window
        self._kept = max(2, _TILE_BYTES // (2 * self._span))
        self._tiles: OrderedDict[tuple[str, int], _Tile] = OrderedDict()
        self._shared: OrderedDict[tuple[str, int, str], Ids] = OrderedDict()

    def _tile(self, chrom: str, first: int) -> _Tile:
        number = first // self._step
        tile = self._tiles.get((chrom, number))
        if tile is None:
            start = number * self._step
            data = self.fetch(Interval(chrom, start, start + self._span))
            forward = np.frombuffer(data.translate(ENCODE), np.uint8)
            reverse = complement_ids(np.ascontiguousarray(forward[::-1]))
            reverse.flags.writeable = False
            inside = Interval(chrom, start, start + self._span).clip(self.contigs[chrom])
            n_free = data.count(b"N") == self._span - inside.length
            tile = _Tile(start, start + self._span, forward, reverse, n_free)
            self._tiles[chrom, number] = tile
            if len(self._tiles) > self._kept:
                self._tiles.popitem(last=False)
        else:
            self._tiles.move_to_end((chrom, number))
        return tile

    def bases(self, chrom: str, start: int, end: int) -> bytes:
        """Upper-case bases of a short stretch of a contig, 0-based half-open."""
        tile = self._tile(chrom, start)
        if end > tile.end:
            return self.fetch(Interval(chrom, start, end))
        return tile.forward[start - tile.start : end - tile.start].tobytes().translate(_LETTERS)

    def windows(self, chrom: str, trimmed: Trimmed) -> AlleleWindows:
        """The windows of one variant.

        Args:
            chrom: contig name.
            trimmed: the variant; neither allele longer than the room of the specification.
        """
        length, spec = self.contigs[chrom], self.spec
        # The leftmost base that either strand may read.
        first = trimmed.start - 2 * spec.window
        tile = self._tile(chrom, first)
        base = tile.start

        def read(start: int, end: int) -> Ids:
            return self._share((chrom, start, "+"), tile.forward[start - base : end - base])

        def read_reverse(start: int, end: int) -> Ids:
            low, high = tile.end - (length - start), tile.end - (length - end)
            return self._share((chrom, length - end, "-"), tile.reverse[low:high])

        return both_strands(
            Strand(chrom, "+", length, read),
            Strand(chrom, "-", length, read_reverse),
            trimmed,
            spec,
            n_free=tile.n_free,
        )

    def windows_of(self, changes: Sequence[tuple[str, Trimmed]]) -> list[AlleleWindows]:
        """The windows of many variants; those of single-base substitutions are built together where that pays.

        Args:
            changes: contig and variant, as for `windows`.
        """
        found: list[AlleleWindows | None] = [None] * len(changes)
        together: dict[tuple[str, int], list[int]] = {}
        for index, (chrom, trimmed) in enumerate(changes):
            # On a grid windows are shared, and copying them would cost more than it saves.
            if self.spec.grid == 1 and len(trimmed.ref) == len(trimmed.alt) == 1:
                number = (trimmed.start - 2 * self.spec.window) // self._step
                together.setdefault((chrom, number), []).append(index)
            else:
                found[index] = self.windows(chrom, trimmed)
        for (chrom, number), indices in together.items():
            made = self._substitutions(chrom, number, [changes[index][1] for index in indices])
            for index, windows in zip(indices, made, strict=True):
                found[index] = windows
        return [windows for windows in found if windows is not None]

    def _substitutions(self, chrom: str, number: int, changes: Sequence[Trimmed]) -> Iterable[AlleleWindows]:
        """Windows of single-base substitutions in one tile."""
        length, window, offset = self.contigs[chrom], self.spec.window, self.spec.offset
        tile = self._tile(chrom, number * self._step)
        count = len(changes)
        at = np.array([change.start for change in changes], np.int64)
        alt = np.frombuffer("".join([change.alt for change in changes]).encode().translate(ENCODE), np.uint8)
        starts = {"+": at - offset, "-": at + 1 + offset - window}
        low, high = np.minimum(starts["+"], starts["-"]), np.maximum(starts["+"], starts["-"]) + window
        shares = np.zeros(count)
        strands = []
        for sign, tokens, rows, bases in (
            ("+", tile.forward, starts["+"] - tile.start, alt),
            ("-", tile.reverse, tile.end - starts["-"] - window, np.uint8(A + T) - alt),
        ):
            view = sliding_window_view(tokens, window)
            alternatives = view[rows]
            if not tile.n_free:
                beyond = np.maximum(0, -starts[sign]) + np.maximum(0, starts[sign] + window - length)
                unknown = np.count_nonzero(alternatives == N, axis=1) - beyond
                shares = np.maximum(shares, unknown / np.maximum(1, window - beyond))
            alternatives[:, offset] = bases
            keys = zip(repeat(chrom), starts[sign].tolist(), repeat(sign))
            references = [view[row] for row in rows.tolist()]
            columns = zip(keys, references, alternatives, repeat(offset), repeat(1), repeat(1))
            strands.append(map(StrandWindow._make, columns))
        padded = ((low < 0) | (high > length)).tolist()
        return map(AlleleWindows._make, zip(*strands, padded, shares.tolist(), strict=True))

    def _share(self, key: tuple[str, int, str], ids: Ids) -> Ids:
        if len(ids) != self.spec.window:
            return ids
        shared = self._shared.setdefault(key, ids)
        if len(self._shared) > _KEPT_WINDOWS:
            self._shared.popitem(last=False)
        return shared
