"""What a model is to read, in chunks of records: stretches of a token store, or sequences as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dna.datasets.store import TokenStore
from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.regions import Region
from hyena_dna.tokenizer import Tokenizer

__all__ = [
    "Chunk",
    "ChunkLimits",
    "Piece",
    "Row",
    "consensus_chunks",
    "numbered",
    "region_chunks",
    "region_row",
    "sequence_chunks",
]


class Row(NamedTuple):
    """What is known of a record; the columns of every output.

    A sequence without a place on a genome has no `chrom`, and runs from 0 to its length.
    """

    chrom: str | None
    start: int
    """First base, 0-based."""
    end: int
    """One past the last base."""
    name: str
    strand: str
    label: str | None = None
    split: str | None = None


class ChunkLimits(NamedTuple):
    """Where chunks end, and pieces of long records: both depend on the records alone, so that a resumed run has the
    same ones.

    Attributes:
        records: most records, or pieces of them, in a chunk.
        bases: a chunk with this many bp takes no more records.
        piece: longer records are cut into consecutive pieces of this many bp; None leaves them whole.
        context: bp to read on both sides of each piece, as far as its contig or sequence goes.
    """

    records: int = 2048
    bases: int = 1 << 21
    piece: int | None = None
    context: int = 0


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive records, or pieces of records, and the bases to read of each.

    Attributes:
        index: number of the chunk, from 0.
        rows: what is known of the records; the pieces of a record have the same row.
        tokens: (total,) token ids that the records lie in, 0x80 set where soft-masked.
        starts: (records,) first base to read of each record in `tokens`.
        lengths: (records,) bp to read, context included.
        reverse: (records,) the record is to be read from the opposite strand.
        centres: (records,) index of the centre, counted from the first base whatever the strand.
        pieces: which part of a record each entry is, where limits cut records or ask for context.
    """

    index: int
    rows: list[Row]
    tokens: NDArray[np.uint8]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    reverse: NDArray[np.bool_]
    centres: NDArray[np.int64]
    pieces: list[Piece]


class Piece(NamedTuple):
    """A part of a record, without its context."""

    record: int
    """Number of the record in the input."""
    offset: int
    """First base of the piece in what is read of the record."""
    first: int
    """The same base on the contig or in the sequence, 0-based."""
    length: int
    """bp."""
    left: int
    """bp of context before it, in the direction of the tokens."""
    right: int
    """bp of context after it."""


class _Item(NamedTuple):
    """One record on its way into a chunk; `ids` is None where tokens are in a store."""

    row: Row
    start: int
    length: int
    reverse: bool
    centre: int
    ids: NDArray[np.uint8] | None
    first: int = 0
    """The first base on the contig or in the sequence."""
    before: int = 0
    """bp of the same contig or sequence that lie before it in the tokens."""
    after: int = 0
    """bp that lie after it."""
    piece: Piece | None = None


def region_chunks(
    store: TokenStore,
    regions: Iterable[Region],
    *,
    window: int | None = None,
    stranded: bool = False,
    limits: ChunkLimits | None = None,
) -> Iterator[Chunk]:
    """Read regions of a genome.

    Args:
        store: the genome.
        regions: inside its contigs.
        window: bp around the centre of each region, cut at the ends of its contig; None for the region itself.
        stranded: read regions on "-" from the opposite strand, instead of all on "+".
        limits: the size of chunks.

    Yields:
        Chunks, in the order of the regions.
    """

    def items() -> Iterator[_Item]:
        for region in regions:
            place = region.interval
            size = store.contigs[place.chrom]
            start, length, centre = _around(place.start, place.length, window, size)
            reverse = stranded and place.strand == "-"
            at = store.offsets[place.chrom] + start
            yield _Item(region_row(region), at, length, reverse, centre, None, start, start, size - start - length)

    return _chunks(items(), store.tokens, limits or ChunkLimits())


def sequence_chunks(
    sequences: Iterable[tuple[Row, bytes]],
    *,
    window: int | None = None,
    limits: ChunkLimits | None = None,
) -> Iterator[Chunk]:
    """Read sequences, as they come: no more than a chunk is in memory.

    Args:
        sequences: what is known of each, and its bases.
        window: bp around the centre of each sequence, cut at its ends; None for the whole of it.
        limits: the size of chunks.

    Yields:
        Chunks, in the order of the sequences.

    Raises:
        InputError: a sequence is empty or holds something that is no base.
    """
    tokenizer = Tokenizer()

    def items() -> Iterator[_Item]:
        for row, sequence in sequences:
            if not sequence:
                raise InputError("the sequence is empty", contig=row.name)
            start, length, centre = _around(0, len(sequence), window, len(sequence))
            ids = tokenizer.encode(sequence[start : start + length])
            yield _Item(row, 0, length, False, centre, ids, start)

    return _chunks(items(), None, limits or ChunkLimits())


def numbered(sequences: Iterable[str | bytes]) -> Iterator[tuple[Row, bytes]]:
    """Sequences without names, as records that are called by their number, from 1."""
    for number, sequence in enumerate(sequences, 1):
        # Characters outside Latin-1 become "?", which is no base either.
        bases = sequence.encode("latin-1", "replace") if isinstance(sequence, str) else sequence
        yield Row(None, 0, len(bases), str(number), "."), bases


def consensus_chunks(
    consensus: Callable[[Interval], bytes],
    contigs: Mapping[str, int],
    regions: Iterable[Region],
    *,
    window: int | None = None,
    stranded: bool = False,
    limits: ChunkLimits | None = None,
) -> Iterator[Chunk]:
    """Read the consensus of aligned reads in the place of the genome.

    Args:
        consensus: the bases of an interval on the forward strand.
        contigs: length in bp of every contig.
        regions: as in `region_chunks`, and so are the other arguments.

    Yields:
        Chunks, in the order of the regions.
    """
    tokenizer = Tokenizer()
    limits = limits or ChunkLimits()

    def items() -> Iterator[_Item]:
        for region in regions:
            place = region.interval
            start, length, centre = _around(place.start, place.length, window, contigs[place.chrom])
            low = max(0, start - limits.context)
            high = min(contigs[place.chrom], start + length + limits.context)
            ids = tokenizer.encode(consensus(Interval(place.chrom, low, high)))
            reverse = stranded and place.strand == "-"
            before, after = start - low, high - start - length
            yield _Item(region_row(region), before, length, reverse, centre, ids, start, before, after)

    return _chunks(items(), None, limits)


def region_row(region: Region) -> Row:
    """What is known of a region."""
    place = region.interval
    return Row(place.chrom, place.start, place.end, region.name, place.strand, region.label, region.split)


def _around(start: int, length: int, window: int | None, contig_length: int) -> tuple[int, int, int]:
    """Start and length of the window around a stretch's centre, cut at the contig's ends, and the centre in it."""
    centre = start + length // 2
    if window is None:
        return start, length, length // 2
    low, high = max(0, centre - window // 2), min(contig_length, centre - window // 2 + window)
    return low, high - low, centre - low


def _chunks(items: Iterator[_Item], tokens: NDArray[np.uint8] | None, limits: ChunkLimits) -> Iterator[Chunk]:
    pending: list[_Item] = []
    bases = index = 0
    for item in _pieces(items, limits):
        if pending and (len(pending) >= limits.records or bases + item.length > limits.bases):
            yield _chunk(index, pending, tokens)
            pending, bases, index = [], 0, index + 1
        pending.append(item)
        bases += item.length
    if pending:
        yield _chunk(index, pending, tokens)


def _pieces(items: Iterator[_Item], limits: ChunkLimits) -> Iterator[_Item]:
    """Cut long records and add context, where the limits ask for it."""
    if limits.piece is None and not limits.context:
        yield from items
        return
    for number, item in enumerate(items):
        step = limits.piece or item.length
        for offset in range(0, item.length, step):
            size = min(step, item.length - offset)
            left = min(limits.context, item.before + offset)
            right = min(limits.context, item.after + item.length - offset - size)
            start, length = item.start + offset - left, left + size + right
            ids = item.ids
            if ids is not None:
                ids, start = ids[start : start + length], 0
            piece = Piece(number, offset, item.first + offset, size, left, right)
            yield item._replace(start=start, length=length, ids=ids, piece=piece)


def _chunk(index: int, items: list[_Item], tokens: NDArray[np.uint8] | None) -> Chunk:
    rows, starts, lengths, reverse, centres, ids, *_, pieces = zip(*items, strict=True)
    sizes = np.array(lengths, np.int64)
    if tokens is None:
        tokens = np.concatenate(ids)
        starts = tuple((np.cumsum(sizes) - sizes).tolist())
    return Chunk(
        index,
        list(rows),
        tokens,
        np.array(starts, np.int64),
        sizes,
        np.array(reverse, np.bool_),
        np.array(centres, np.int64),
        [piece for piece in pieces if piece is not None],
    )
