"""Which stretches of a genome are for training and which are held out.

Splits are lists of segments in the coordinates of one token store (contigs back to back, 0-based half-open). A segment
never crosses the end of a contig, and windows are drawn inside segments, so a training window touches no held-out base
by construction: a window may not be widened into the region beside it.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hyena_dna.datasets.segments import Segment, merge, subtract
from hyena_dna.datasets.validation_choice import choose_validation
from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval

__all__ = ["SPLIT_NAMES", "Folds", "Segment", "Splits", "by_contigs", "by_regions", "check_no_leak", "match_contigs",
           "read_folds"]  # fmt: skip

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}
"""What people call the splits, in lower case, to what they are called here."""


class Store(Protocol):
    """What splits need to know of a token store."""

    @property
    def contigs(self) -> Mapping[str, int]:
        """Length of every contig in bp."""

    @property
    def offsets(self) -> Mapping[str, int]:
        """Store coordinate of the first base of every contig."""

    @property
    def n_runs(self) -> NDArray[np.int64]:
        """Runs of N in store coordinates, `(k, 2)`, sorted, half-open."""


class SplitRegion(Protocol):
    """A region that says which split it belongs to."""

    @property
    def interval(self) -> Interval:
        """Where the region lies."""

    @property
    def split(self) -> str | None:
        """Name of its split: train, val (or valid, validation, dev) or test."""


@dataclass(frozen=True, slots=True)
class Splits:
    """Segments of each split, sorted, and in `description` how they were chosen, for the log."""

    train: list[Segment]
    val: list[Segment]
    test: list[Segment]
    description: str


class Folds(NamedTuple):
    """Contig names of each split."""

    train: list[str]
    val: list[str]
    test: list[str]


def by_contigs(
    store: Store,
    contigs: Sequence[str] | None = None,
    val_contigs: Sequence[str] = (),
    test_contigs: Sequence[str] = (),
    exclude: Iterable[Interval] = (),
) -> Splits:
    """Hold out whole contigs.

    Without `val_contigs` the validation set is that of `choose_validation`, which depends on the genome alone.

    Args:
        store: the token store.
        contigs: names of the contigs to use; all by default.
        val_contigs: names or globs of contigs for validation.
        test_contigs: names or globs of contigs to keep out of training and validation.
        exclude: intervals, such as a blacklist, to keep out of every split.

    Raises:
        InputError: a pattern matches no contig, a contig is in two splits, or nothing is left to train on.
    """
    kept = _known(store, contigs)
    test = match_contigs(test_contigs, kept, "test")
    val = match_contigs(val_contigs, kept, "validation")
    both = [name for name in val if name in set(test)]
    if both:
        raise InputError(f"contig {both[0]!r} is chosen for validation and for testing")
    pieces = _whole(store, [name for name in kept if name not in set(test)])
    test_pieces = _whole(store, test)
    if val_contigs:
        val_pieces, reason = _whole(store, val), f"{_names(val)}, as asked"
    else:
        val_pieces, reason = choose_validation(pieces, store.n_runs)
    return _finish(store, pieces, val_pieces, test_pieces, exclude, f"validation: {reason}; test: {_names(test)}")


def by_regions(
    store: Store,
    regions: Iterable[SplitRegion],
    contigs: Sequence[str] | None = None,
    exclude: Iterable[Interval] = (),
) -> Splits:
    """Hold out regions, as the split column of a BED or CSV file names them.

    Training takes the regions named train or, if there are none, the whole of the contigs; in both cases less every
    held-out base. Overlapping regions of one split are merged; where regions of validation and test overlap, the
    overlap is for testing.

    Args:
        store: the token store.
        regions: regions with their splits.
        contigs: names of the contigs to use, all by default; regions elsewhere are left out.
        exclude: intervals, such as a blacklist, to keep out of every split.

    Raises:
        InputError: a region has no split or an unknown one, or lies outside its contig; no region is for validation;
            or nothing is left to train on.
    """
    kept = _known(store, contigs)
    wanted = set(kept)
    grouped: dict[str, list[Interval]] = {"train": [], "val": [], "test": []}
    for region in regions:
        name = None if region.split is None else SPLIT_NAMES.get(region.split.lower())
        if name is None:
            what = "no split" if region.split is None else f"the unknown split {region.split!r}"
            raise InputError(f"region {region.interval} has {what}", remedy="name train, val or test")
        if region.interval.chrom in wanted or region.interval.chrom not in store.contigs:
            grouped[name].append(region.interval)
    if not grouped["val"]:
        raise InputError("no region is for validation", remedy="name some of them val in the split column")
    test = _place(store, grouped["test"])
    val = subtract(_place(store, grouped["val"]), test)
    train = _place(store, grouped["train"]) if grouped["train"] else _whole(store, kept)
    source = "regions" if grouped["train"] else "the rest of the contigs"
    return _finish(store, train, val, test, exclude, f"validation: {_bases(val)}; test: {_bases(test)}; from {source}")


def read_folds(path: Path) -> Folds:
    """Read contig names of each split from JSON: `{"train": ["chr1"], "valid": ["chr2"], "test": ["chr3"]}`.

    Raises:
        InputError: the file is not of that form, or names a contig twice.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the splits: {error}", file=path) from None
    if not isinstance(content, dict):
        raise InputError("the splits are not a JSON object of contig lists", file=path)
    folds = Folds([], [], [])
    seen: set[str] = set()
    for key, names in content.items():
        name = SPLIT_NAMES.get(key.lower())
        if name is None:
            raise InputError(f"unknown split {key!r}", file=path, remedy="name train, valid or test")
        if not isinstance(names, list) or not all(isinstance(contig, str) for contig in names):
            raise InputError(f"split {key!r} is not a list of contig names", file=path)
        for contig in names:
            if contig in seen:
                raise InputError("the contig is named twice", file=path, contig=contig)
            seen.add(contig)
        getattr(folds, name).extend(names)
    return folds


def check_no_leak(splits: Splits) -> None:
    """Prove that no base is in two splits.

    Raises:
        InputError: two segments share a base; gives both.
    """
    every = sorted((segment, name) for name in ("train", "val", "test") for segment in getattr(splits, name))
    # Sorted by start: if any two overlap, so do two neighbours.
    for (left, left_name), (right, right_name) in pairwise(every):
        if right.start < left.end:
            raise InputError(f"a segment of {left_name} overlaps one of {right_name}", contig=right.chrom)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key is given twice")
    return content


def _known(store: Store, contigs: Sequence[str] | None) -> list[str]:
    """The contigs to use, in the order of the store."""
    if contigs is None:
        return list(store.contigs)
    wanted = set(contigs)
    for name in contigs:
        if name not in store.contigs:
            raise InputError(f"there is no contig {name!r}", remedy=_nearest(name, store.contigs))
    return [name for name in store.contigs if name in wanted]


def match_contigs(patterns: Sequence[str], names: Sequence[str], purpose: str) -> list[str]:
    """Contigs that a name or glob chooses, in the order of `names`.

    Raises:
        InputError: a pattern chooses none; `purpose` says what it was for.
    """
    chosen: set[str] = set()
    known = set(names)
    for pattern in patterns:
        # A name comes first: HLA contigs have an asterisk in theirs.
        found = [pattern] if pattern in known else [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            reason = f"no contig in use matches {pattern!r}, which was asked for {purpose}"
            raise InputError(reason, remedy=_nearest(pattern, names))
        chosen.update(found)
    return [name for name in names if name in chosen]


def _nearest(name: str, names: Iterable[str]) -> str:
    every = list(names)
    near = difflib.get_close_matches(name, every, n=3, cutoff=0.5) or every[:3]
    return f"contigs are named like {', '.join(near)}"


def _whole(store: Store, names: Iterable[str]) -> list[Segment]:
    """Whole contigs as segments, sorted; empty contigs have none."""
    return merge(Segment(store.offsets[name], store.offsets[name] + store.contigs[name], name) for name in names)


def _place(store: Store, intervals: Iterable[Interval]) -> list[Segment]:
    """Intervals in store coordinates, merged; strands do not matter."""
    segments = []
    for interval in intervals:
        length = store.contigs.get(interval.chrom)
        if length is None:
            remedy = _nearest(interval.chrom, store.contigs)
            raise InputError(f"there is no contig {interval.chrom!r}", remedy=remedy)
        if interval.start < 0 or interval.end > length:
            raise InputError(f"{interval} reaches beyond its contig of {length:,} bp")
        offset = store.offsets[interval.chrom]
        segments.append(Segment(offset + interval.start, offset + interval.end, interval.chrom))
    return merge(segments)


def _finish(
    store: Store,
    train: list[Segment],
    val: list[Segment],
    test: list[Segment],
    exclude: Iterable[Interval],
    description: str,
) -> Splits:
    """Take the held-out bases from training and the excluded ones from everything."""
    holes = _place(store, exclude)
    train = subtract(train, [*val, *test, *holes])
    val, test = subtract(val, holes), subtract(test, holes)
    for segments, purpose in ((train, "training"), (val, "validation")):
        if not segments:
            raise InputError(f"nothing is left for {purpose}", remedy="hold out or exclude less")
    excluded = f"; excluded: {_bases(holes)}" if holes else ""
    splits = Splits(train, val, test, f"{description}{excluded}; training: {_bases(train)}")
    check_no_leak(splits)
    return splits


def _bases(segments: Iterable[Segment]) -> str:
    return f"{sum(segment.length for segment in segments):,} bp"


def _names(names: Sequence[str]) -> str:
    if len(names) > 5:
        return f"{len(names)} contigs ({', '.join(names[:3])}, ...)"
    return ", ".join(names) or "none"
