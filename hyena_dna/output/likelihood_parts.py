"""Likelihoods of a run that is under way: piece by piece in finished parts, read back as records and as bases."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dna.errors import InputError
from hyena_dna.output.parts import Parts
from hyena_dna.output.tracks import Stretch

__all__ = ["QUANTITIES", "LikelihoodTable", "RecordLikelihood", "write_likelihood_part"]

QUANTITIES = ("log_prob", "entropy")
"""What is known of each base, in the order of the parts; nats."""


class RecordLikelihood(NamedTuple):
    """The likelihood of one record.

    Attributes:
        columns: values of `hyena_dna.output.embedding_parts.COLUMNS`.
        bases: bp.
        scored: scored bases of each strand.
        log_likelihood: nats of each strand, summed over its scored bases.
    """

    columns: tuple[Any, ...]
    bases: int
    scored: tuple[int, ...]
    log_likelihood: tuple[float, ...]

    @property
    def mean_log_likelihood(self) -> float:
        """Mean of the strands, nats; NaN where no base was scored."""
        return sum(self.log_likelihood) / len(self.log_likelihood) if any(self.scored) else math.nan

    @property
    def nats_per_base(self) -> float:
        """Mean of -log P over the scored bases of all strands."""
        return -sum(self.log_likelihood) / sum(self.scored) if any(self.scored) else math.nan

    @property
    def bits_per_base(self) -> float:
        """The same in bits."""
        return self.nats_per_base / math.log(2)

    @property
    def perplexity(self) -> float:
        """exp of `nats_per_base`."""
        return math.exp(self.nats_per_base)


def write_likelihood_part(
    parts: Parts,
    index: int,
    pieces: Sequence[tuple[int, int, int]],
    rows: Sequence[Sequence[Any]],
    values: NDArray[np.float32],
    *,
    keep_bases: bool,
) -> None:
    """Write the likelihoods of one chunk.

    Args:
        parts: the run's folder.
        index: number of the chunk.
        pieces: number of the record, first base (0-based) and bp of each piece.
        rows: the same columns of the record of each piece.
        values: (strands, 2, bases of all pieces): `QUANTITIES`.
        keep_bases: keep the values of every base beside their sums.
    """
    scores = values[:, 0].astype(np.float64)
    borders = np.cumsum([0, *(length for *_, length in pieces)])[:-1]
    scored = np.add.reduceat(~np.isnan(scores), borders, axis=1, dtype=np.int64)
    sums = np.add.reduceat(np.nan_to_num(scores), borders, axis=1)
    with parts.write(index) as (handle, record):
        if keep_bases:
            handle.write(np.ascontiguousarray(values, "<f4").data)
        record.update(
            pieces=[list(piece) for piece in pieces],
            rows=[list(row) for row in rows],
            scored=scored.T.tolist(),
            sums=sums.T.tolist(),
        )


@dataclass(frozen=True)
class LikelihoodTable:
    """All finished parts of a run. Only what is being read is in memory.

    Attributes:
        parts: the run's folder.
        n_parts: number of parts, all finished.
        signs: strands in the parts: `fwd`, `rev`.
        contigs: length in bp of the contigs that records lie on; None where records are sequences of their own.
        facts: how it was made, for the metadata of outputs.
    """

    parts: Parts
    n_parts: int
    signs: tuple[str, ...]
    contigs: Mapping[str, int] | None
    facts: Mapping[str, Any]

    def records(self) -> Iterator[RecordLikelihood]:
        """The records, in the order of the input, pieces of each put together."""
        current: tuple[int, RecordLikelihood] | None = None
        for index in range(self.n_parts):
            known = self.parts.record(index)
            for piece, row, scored, sums in zip(*(known[k] for k in ("pieces", "rows", "scored", "sums")), strict=True):
                number, _, length = piece
                if current is not None and current[0] == number:
                    before = current[1]
                    found = RecordLikelihood(
                        before.columns,
                        before.bases + length,
                        tuple(a + b for a, b in zip(before.scored, scored, strict=True)),
                        tuple(a + b for a, b in zip(before.log_likelihood, sums, strict=True)),
                    )
                else:
                    if current is not None:
                        yield current[1]
                    found = RecordLikelihood(tuple(row), length, tuple(scored), tuple(sums))
                current = number, found
        if current is not None:
            yield current[1]

    def channels(self, strands: str) -> list[tuple[str, str]]:
        """Quantity and strand of the values that a run with `--strands` writes; `all` is mean and both."""
        wanted = ("mean", "fwd", "rev") if strands == "all" else (strands,)
        return [(quantity, strand) for quantity in QUANTITIES for strand in wanted]

    def bases(self, quantity: str, strand: str) -> Iterator[NDArray[np.float32]]:
        """The values of all bases of all records, in the order of the input, part by part."""
        for index in range(self.n_parts):
            yield self._channel(self._values(index), quantity, strand)

    def _values(self, index: int) -> NDArray[np.float32]:
        data = self.parts.data(index) if index in self._checked else self.parts.checked(index)
        self._checked.add(index)
        found: NDArray[np.float32] = np.memmap(data, "<f4", "r")
        return found.reshape(len(self.signs), len(QUANTITIES), -1)

    @cached_property
    def _checked(self) -> set[int]:
        """Parts whose data were found to be what was written."""
        return set()

    def _channel(self, values: NDArray[np.float32], quantity: str, strand: str) -> NDArray[np.float32]:
        of_strands = values[:, QUANTITIES.index(quantity)]
        if strand == "mean":
            return np.asarray(of_strands.mean(0, dtype=np.float32))
        return np.asarray(of_strands[self.signs.index(strand)])

    @cached_property
    def _places(self) -> tuple[dict[str, int], NDArray[np.int64]]:
        """Contigs of tracks, and (pieces, 5) contig, first base, bp, part and place in it, sorted along the contigs."""
        contigs = dict(self.contigs) if self.contigs is not None else {}
        codes = {name: code for code, name in enumerate(contigs)}
        rows: list[tuple[int, int, int, int, int]] = []
        owner: dict[str, int] = {}
        for index in range(self.n_parts):
            known, done = self.parts.record(index), 0
            for (number, first, length), row in zip(known["pieces"], known["rows"], strict=True):
                chrom, _, end, name = row[:4]
                if self.contigs is None:
                    chrom = name
                    if owner.setdefault(name, number) != number:
                        raise InputError(f"two sequences are called {name!r}", remedy="tracks need distinct names")
                    contigs[name] = end
                    codes.setdefault(name, len(codes))
                rows.append((codes[chrom], first, length, index, done))
                done += length
        places = np.array(rows, np.int64)
        return contigs, places[np.lexsort((places[:, 1], places[:, 0]))]

    @property
    def track_contigs(self) -> dict[str, int]:
        """Length in bp of the contigs of a track: those of the genome, or the sequences by name.

        Raises:
            InputError: two sequences have the same name.
        """
        return self._places[0]

    def stretches(self, quantity: str, strand: str) -> Iterator[Stretch]:
        """The values of all bases along the contigs; of bases in several records those of the first along the contig.

        Raises:
            InputError: two sequences have the same name.
        """
        contigs, places = self._places
        names = list(contigs)
        reached = dict.fromkeys(range(len(names)), 0)
        part, values = -1, np.empty((0, 0, 0), np.float32)
        for code, first, length, index, at in places.tolist():
            skipped = min(length, max(0, reached[code] - first))
            if skipped == length:
                continue
            if index != part:
                part, values = index, self._values(index)
            piece = self._channel(values[..., at + skipped : at + length], quantity, strand)
            yield Stretch.per_base(names[code], first + skipped, piece)
            reached[code] = first + length
