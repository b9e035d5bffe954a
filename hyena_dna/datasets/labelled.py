"""Labelled sequences from every kind of file that people keep them in, as rows of token ids.

Regions of a genome (BED, narrowPeak, or a table of places), tables of sequences, and a FASTA per class all become one
`Examples`: token ids padded on the right, the text of each label, and the file and line that it came from.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena_dna.datasets.cut import cut_windows
from hyena_dna.datasets.store import TokenStore
from hyena_dna.errors import InputError
from hyena_dna.files import fingerprint
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.records import read_records
from hyena_dna.genome.reference import Reference
from hyena_dna.genome.regions import Region, read_regions
from hyena_dna.genome.tables import read_table
from hyena_dna.tokenizer import PAD, N, Tokenizer, complement_ids

__all__ = ["Examples", "LabelledInputs", "Place", "cut_intervals", "read_examples"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an example was read, for messages.

    Attributes:
        file: its file.
        line: 1-based line or row; for FASTA the number of the record.
    """

    file: str
    line: int


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled sequences, in the order of their files.

    Attributes:
        ids: (n, width) uint8 token ids, PAD on the right of shorter ones.
        lengths: (n,) bp.
        labels: class or value as written; None where the file gives none.
        splits: train, val or test as written, or by file; None where nothing says.
        intervals: the window on the genome, 0-based half-open, which may reach beyond its contig; None for sequences.
        names: name of each.
        places: where each was read.
        inputs: fingerprint of every file by its path.
        store: the genome, where there is one.
        regions: every region as it stands in its file, whatever its label.
    """

    ids: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    labels: list[str | None]
    splits: list[str | None]
    intervals: list[Interval | None]
    names: list[str]
    places: list[Place]
    inputs: dict[str, Any]
    store: TokenStore | None = None
    regions: tuple[Interval, ...] = ()

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def contigs(self) -> list[str | None]:
        """Contig of each example."""
        return [None if interval is None else interval.chrom for interval in self.intervals]

    def take(self, rows: NDArray[np.int64]) -> Examples:
        """Some of the examples, in the given order."""
        chosen = rows.tolist()
        lengths = self.lengths[rows]
        width = int(lengths.max(initial=1))
        return replace(
            self,
            ids=np.ascontiguousarray(self.ids[rows, :width]),
            lengths=lengths,
            labels=[self.labels[row] for row in chosen],
            splits=[self.splits[row] for row in chosen],
            intervals=[self.intervals[row] for row in chosen],
            names=[self.names[row] for row in chosen],
            places=[self.places[row] for row in chosen],
        )

    def join(self, other: Examples) -> Examples:
        """These examples and then the others; genome and inputs are those of the first."""
        width = max(self.ids.shape[1], other.ids.shape[1])
        ids = np.full((len(self) + len(other), width), PAD, np.uint8)
        ids[: len(self), : self.ids.shape[1]] = self.ids
        ids[len(self) :, : other.ids.shape[1]] = other.ids
        return replace(
            self,
            ids=ids,
            lengths=np.concatenate([self.lengths, other.lengths]),
            labels=self.labels + other.labels,
            splits=self.splits + other.splits,
            intervals=self.intervals + other.intervals,
            names=self.names + other.names,
            places=self.places + other.places,
        )

    def sequences(self) -> list[bytes]:
        """The bases of each, upper-case ACGTN."""
        tokenizer = Tokenizer()
        rows = zip(self.ids, self.lengths.tolist(), strict=True)
        return [tokenizer.decode(row[:length]).encode() for row, length in rows]

    def check_lengths(self, longest: int) -> None:
        """Refuse examples that a model cannot read.

        Args:
            longest: tokens that it reads.

        Raises:
            InputError: names the first that is longer.
        """
        beyond = np.flatnonzero(self.lengths > longest)
        if len(beyond):
            place = self.places[int(beyond[0])]
            raise InputError(
                f"{len(beyond):,} examples are longer than the {longest:,} bp that the model reads; this one has "
                f"{int(self.lengths[beyond[0]]):,} bp",
                file=place.file,
                line=place.line,
                remedy="give --window, or a model with a longer context",
            )


@dataclass(frozen=True)
class LabelledInputs:
    """The files of a task, as a user gives them.

    Attributes:
        genome: FASTA that regions lie on.
        regions: BED or narrowPeak.
        tables: tables by the split they are for; a lone `train` table may name splits itself.
        fasta: FASTA files by the class of their sequences.
        window: bp around the centre of each region or sequence; None for the whole of it.
        stranded: read regions on "-" from that strand.
        label_column: number or name of the label, or several names of 0/1 columns joined by commas.
        split_column: number or name of the split.
        require_labels: every example needs a label.
        clip: cut regions at the end of their contig instead of refusing them.
        rna: read U as T.
    """

    genome: str | None = None
    regions: str | None = None
    tables: Mapping[str, str] | None = None
    fasta: Mapping[str, str] | None = None
    window: int | None = None
    stranded: bool = False
    label_column: str | None = None
    split_column: str | None = None
    require_labels: bool = True
    clip: bool = False
    rna: bool = False


def read_examples(inputs: LabelledInputs) -> Examples:
    """Read labelled sequences.

    A window around a region's centre that reaches beyond its contig has N there. A sequence longer than the window is
    cut around its centre, a shorter one stays as it is.

    Raises:
        InputError: not exactly one kind of input, regions without a genome, or a file that is not sound.
    """
    given = {"--regions": inputs.regions, "--train": inputs.tables, "--fasta": inputs.fasta}
    names = [name for name, value in given.items() if value]
    if len(names) != 1:
        what = f"{' and '.join(names)} cannot go together" if names else "there is nothing to learn from"
        raise InputError(what, remedy="give one of --regions with --genome, --train, --fasta")
    if inputs.fasta:
        return _from_fasta(inputs, inputs.fasta)
    reference = Reference(inputs.genome, rna=inputs.rna) if inputs.genome is not None else None
    contigs = None if reference is None else reference.contigs
    files: dict[str, Any] = dict(reference.fingerprint) if reference is not None else {}
    if inputs.regions is not None:
        files[inputs.regions] = _fingerprint(inputs.regions)
        regions = read_regions(
            inputs.regions,
            contigs=contigs,
            label_column=inputs.label_column,
            split_column=inputs.split_column,
            require_labels=inputs.require_labels,
            clip=inputs.clip,
        )
        places = [Place(inputs.regions, region.line) for region in regions]
        return _from_regions(inputs, reference, regions, places, files)
    return _from_tables(inputs, reference, inputs.tables or {}, files)


def _fingerprint(path: str) -> dict[str, Any]:
    try:
        return fingerprint(path)
    except OSError as error:
        raise InputError(f"cannot be read: {os.strerror(error.errno or 0)}", file=path) from None


def _from_tables(
    inputs: LabelledInputs, reference: Reference | None, tables: Mapping[str, str], files: dict[str, Any]
) -> Examples:
    if "train" not in tables:
        raise InputError("there is no table to train on", remedy="give it with --train")
    regions: list[Region] = []
    rows: list[_Row] = []
    places: list[Place] = []
    for split, path in tables.items():
        files[path] = _fingerprint(path)
        table = read_table(
            path,
            contigs=None if reference is None else reference.contigs,
            label_column=inputs.label_column,
            # With a table per split it is the tables that say which split a row is for.
            split_column=inputs.split_column if len(tables) == 1 else None,
            require_labels=inputs.require_labels,
            clip=inputs.clip,
            rna=inputs.rna,
        )
        if len(tables) > 1:
            regions += [replace(region, split=split) for region in table.regions]
            rows += [_Row(row.sequence, row.label, split, row.name) for row in table.sequences]
        else:
            regions += table.regions
            rows += [_Row(row.sequence, row.label, row.split, row.name) for row in table.sequences]
        places += [Place(path, region.line) for region in table.regions]
        places += [Place(path, row.line) for row in table.sequences]
    if regions and rows:
        raise InputError("some tables hold sequences and others regions", file=next(iter(tables.values())))
    if regions:
        return _from_regions(inputs, reference, regions, places, files)
    return _from_rows(rows, places, inputs.window, files)


def _from_fasta(inputs: LabelledInputs, fasta: Mapping[str, str]) -> Examples:
    if inputs.label_column or inputs.split_column:
        raise InputError("FASTA files have no columns", remedy="their class is the NAME in --fasta NAME=FILE")
    rows: list[_Row] = []
    places: list[Place] = []
    for label, path in fasta.items():
        for number, record in enumerate(read_records(path, rna=inputs.rna), 1):
            rows.append(_Row(record.sequence, label, None, record.name))
            places.append(Place(path, number))
    return _from_rows(rows, places, inputs.window, {path: _fingerprint(path) for path in fasta.values()})


@dataclass(frozen=True, slots=True)
class _Row:
    sequence: bytes
    label: str | None
    split: str | None
    name: str


def _from_rows(rows: Sequence[_Row], places: list[Place], window: int | None, files: dict[str, Any]) -> Examples:
    tokenizer = Tokenizer()

    def cut(sequence: bytes) -> bytes:
        if window is None or len(sequence) <= window:
            return sequence
        start = len(sequence) // 2 - window // 2
        return sequence[start : start + window]

    pieces = [cut(row.sequence) for row in rows]
    ids, lengths = _pad(len(pieces), (len(piece) for piece in pieces), lambda row: tokenizer.encode(pieces[row]))
    return Examples(
        ids,
        lengths,
        [row.label for row in rows],
        [row.split for row in rows],
        [None] * len(rows),
        [row.name for row in rows],
        places,
        files,
    )


def _pad(
    count: int, sizes: Iterable[int], read: Callable[[int], NDArray[np.uint8]]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    lengths = np.fromiter(sizes, np.int64, count)
    ids = np.full((count, int(lengths.max(initial=1))), PAD, np.uint8)
    for row in range(count):
        ids[row, : lengths[row]] = read(row)
    return ids, lengths


def _from_regions(
    inputs: LabelledInputs,
    reference: Reference | None,
    regions: Sequence[Region],
    places: list[Place],
    files: dict[str, Any],
) -> Examples:
    if reference is None:
        raise InputError("regions need a genome", file=places[0].file, remedy="give it with --genome")
    store = TokenStore.for_reference(reference)
    windows = [
        region.interval if inputs.window is None else region.interval.resize(inputs.window) for region in regions
    ]
    ids, lengths = cut_intervals(store, windows, stranded=inputs.stranded)
    return Examples(
        ids,
        lengths,
        [region.label for region in regions],
        [region.split for region in regions],
        list(windows),
        [region.name for region in regions],
        places,
        files,
        store,
        tuple(region.interval for region in regions),
    )


def cut_intervals(
    store: TokenStore, intervals: Sequence[Interval], *, stranded: bool
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Token ids of intervals of a genome, N outside their contigs.

    Args:
        store: the genome.
        intervals: on its contigs.
        stranded: read those on "-" from that strand.

    Returns:
        ids (n, longest) uint8, padded on the right, and lengths (n,) in bp.
    """
    lengths = np.array([interval.length for interval in intervals], np.int64)
    width = int(lengths.max(initial=1))
    inside = [interval.clip(store.contigs[interval.chrom]) for interval in intervals]
    starts = np.array([store.offsets[part.chrom] + part.start for part in inside], np.int64)
    sizes = np.array([part.length for part in inside], np.int64)
    ids = cut_windows(store.tokens, starts, sizes, width, np.zeros(len(intervals), np.bool_)).ids
    for row in np.flatnonzero(sizes < lengths).tolist():
        before = inside[row].start - intervals[row].start
        piece = ids[row, : sizes[row]].copy()
        ids[row, : lengths[row]] = N
        ids[row, before : before + sizes[row]] = piece
    if stranded:
        for row, interval in enumerate(intervals):
            if interval.strand == "-":
                ids[row, : interval.length] = complement_ids(np.ascontiguousarray(ids[row, : interval.length][::-1]))
    return ids, lengths
