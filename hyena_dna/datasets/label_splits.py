"""Which labelled examples are learnt from, chosen by, and judged on; and whether they share sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hyena_dna.datasets.labelled import Examples
from hyena_dna.datasets.splits import SPLIT_NAMES, match_contigs, read_folds
from hyena_dna.errors import InputError
from hyena_dna.tokenizer import Tokenizer

__all__ = ["OnOverlap", "Split", "SplitRule", "make_splits", "settle_overlap"]

OnOverlap = Literal["refuse", "allow", "drop"]

_DEFAULT_SHARE = 0.1


@dataclass(frozen=True)
class SplitRule:
    """How a user wants examples split; at most one way, else by split column or file, else by a stated default.

    Attributes:
        val_contigs: names or globs of contigs for validation.
        test_contigs: names or globs of contigs for testing.
        folds: JSON of contigs: train, valid, test.
        k_folds: number of random folds, each the test set once.
        seed: of random choices.
    """

    val_contigs: tuple[str, ...] = ()
    test_contigs: tuple[str, ...] = ()
    folds: str | None = None
    k_folds: int | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of each split, rising, and in `description` how they were chosen."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    description: str

    def parts(self) -> dict[str, NDArray[np.int64]]:
        """The three by name."""
        return {"train": self.train, "val": self.val, "test": self.test}


def make_splits(examples: Examples, strata: NDArray[np.int64], rule: SplitRule) -> list[Split]:
    """Split examples: once, or once per fold.

    Args:
        examples: all of them.
        strata: (n,) class of each, so that random splits have equal shares of all; zeros where there is none.
        rule: what the user wants.

    Raises:
        InputError: two ways of splitting are asked for, one does not fit the examples, or names something unknown.
    """
    ways = {"--k-folds": rule.k_folds, "--folds": rule.folds, "--val-contigs/--test-contigs": rule.val_contigs
            or rule.test_contigs}  # fmt: skip
    asked = [name for name, value in ways.items() if value]
    if len(asked) > 1:
        raise InputError(f"{asked[0]} and {asked[1]} are two ways of splitting", remedy="give one of them")
    if rule.k_folds:
        return _k_folds(examples, strata, rule.k_folds, rule.seed)
    if asked:
        contigs = examples.contigs
        if any(name is None for name in contigs):
            raise InputError(f"{asked[0]} splits regions of a genome, and these are sequences",
                             remedy="give --dev and --test, a split column, or --k-folds")  # fmt: skip
        names = [name or "" for name in contigs]
        return [_by_folds(names, Path(rule.folds)) if rule.folds else _by_contigs(names, rule)]
    known = [split is not None for split in examples.splits]
    if all(known):
        return [_by_column(examples, strata, rule.seed)]
    if any(known):
        place = examples.places[known.index(False)]
        raise InputError("the split is missing", file=place.file, line=place.line, remedy="name train, val or test")
    if all(name is not None for name in examples.contigs):
        return [_by_contigs([name or "" for name in examples.contigs], rule)]
    folds = round(1 / _DEFAULT_SHARE)
    split = _k_folds(examples, strata, folds, rule.seed)[0]
    return [replace(split, description="at random, 80 % training, 10 % validation, 10 % testing (no split was given)")]


def _rows(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.flatnonzero(mask).astype(np.int64)


def _by_contigs(contigs: Sequence[str], rule: SplitRule) -> Split:
    names, counts = np.unique(np.array(contigs), return_counts=True)
    sizes = dict(zip(names.tolist(), counts.tolist(), strict=True))
    test = match_contigs(rule.test_contigs, list(sizes), "test")
    val = match_contigs(rule.val_contigs, list(sizes), "validation")
    both = set(test) & set(val)
    if both:
        raise InputError(f"contig {min(both)!r} is chosen for validation and for testing")
    chosen = "as asked"
    if not rule.test_contigs and not rule.val_contigs:
        test = [_nearest_share(sizes, exclude=())]
    if not rule.val_contigs:
        val = [_nearest_share(sizes, exclude=test)]
        chosen = (
            "the contigs with the share of examples nearest to 10 %"
            if not rule.test_contigs
            else ("validation by the share of examples nearest to 10 %")
        )
    of = np.array(contigs)
    in_test, in_val = np.isin(of, test), np.isin(of, val)
    words = f"validation {', '.join(val)}; test {', '.join(test) or 'none'} ({chosen})"
    return Split(_rows(~in_test & ~in_val), _rows(in_val), _rows(in_test), words)


def _nearest_share(sizes: Mapping[str, int], exclude: Sequence[str]) -> str:
    left = {name: size for name, size in sizes.items() if name not in exclude}
    if len(left) < 2:
        raise InputError(
            f"the examples lie on {len(sizes)} contig{'s' if len(sizes) > 1 else ''}: too few to hold some out",
            remedy="give --k-folds, or a split column",
        )
    wanted = _DEFAULT_SHARE * sum(sizes.values())
    return min(left, key=lambda name: (abs(left[name] - wanted), name))


def _by_folds(contigs: Sequence[str], path: Path) -> Split:
    folds = read_folds(path)
    of = np.array(contigs)
    train, val, test = (_rows(np.isin(of, names)) for names in folds)
    left = len(of) - len(train) - len(val) - len(test)
    note = f"; {left:,} examples on other contigs are left out" if left else ""
    return Split(train, val, test, f"contigs of {path.name}{note}")


def _by_column(examples: Examples, strata: NDArray[np.int64], seed: int) -> Split:
    parts: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for row, split in enumerate(examples.splits):
        name = SPLIT_NAMES.get((split or "").lower())
        if name is None:
            place = examples.places[row]
            raise InputError(
                f"the unknown split {split!r}", file=place.file, line=place.line, remedy="name train, val or test"
            )
        parts[name].append(row)
    train, val, test = (np.array(parts[name], np.int64) for name in ("train", "val", "test"))
    if len(val):
        return Split(train, val, test, "as the input says")
    # Early stopping and thresholds need rows of their own: never those of the test.
    inner = _k_folds(examples.take(train), strata[train], round(1 / _DEFAULT_SHARE), seed)[0]
    kept = np.sort(np.concatenate([inner.train, inner.val]))
    return Split(train[kept], train[inner.test], test, "as the input says; validation is a random tenth of training")


def _k_folds(examples: Examples, strata: NDArray[np.int64], count: int, seed: int) -> list[Split]:
    """Folds of equal class shares in which overlapping windows, and equal sequences, stay together."""
    from sklearn.model_selection import StratifiedGroupKFold

    groups = overlap_groups(examples)
    if count < 3:
        raise InputError(f"--k-folds {count}: training, validation and testing need at least three")
    if len(np.unique(groups)) < count:
        raise InputError(f"there are {len(np.unique(groups))} separate examples, too few for {count} folds")
    if count > np.unique(strata, return_counts=True)[1].max(initial=0):
        raise InputError(f"there are too few examples of each class for {count} folds")
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed % (1 << 32))
    held = [np.sort(test).astype(np.int64) for _, test in splitter.split(np.zeros(len(examples)), strata, groups)]
    everything = np.arange(len(examples))
    splits = []
    for fold in range(count):
        test, val = held[fold], held[(fold + 1) % count]
        train = np.setdiff1d(everything, np.concatenate([test, val]))
        splits.append(Split(train, val, test, f"random fold {fold + 1} of {count}"))
    return splits


def overlap_groups(examples: Examples) -> NDArray[np.int64]:
    """A number per example, equal for those that are linked by overlapping windows or are the same sequence.

    Sequences are the same on either strand.
    """
    groups = np.empty(len(examples), np.int64)
    seen: dict[bytes, int] = {}
    for row in (row for row, interval in enumerate(examples.intervals) if interval is None):
        groups[row] = seen.setdefault(_canonical(examples, row), row)
    placed = sorted(
        (interval.chrom, interval.start, interval.end, row)
        for row, interval in enumerate(examples.intervals)
        if interval is not None
    )
    chrom, end, group = "", 0, 0
    for name, start, stop, row in placed:
        if name != chrom or start >= end:
            chrom, end, group = name, stop, row
        end = max(end, stop)
        groups[row] = group
    return groups


def _canonical(examples: Examples, row: int) -> bytes:
    ids = examples.ids[row, : examples.lengths[row]]
    return min(ids.tobytes(), Tokenizer().reverse_complement(ids).tobytes())


def settle_overlap(examples: Examples, split: Split, what: OnOverlap) -> tuple[Split, dict[str, int]]:
    """Count examples that share sequence with another split: an overlapping window, or the same sequence.

    Args:
        examples: all of them.
        split: the split.
        what: refuse, allow, or drop such examples from the split that is learnt from (training before validation
            before testing).

    Returns:
        The split, and how many examples of each pair of splits share sequence.

    Raises:
        InputError: there are some and `what` is refuse.
    """
    counts: dict[str, int] = {}
    parts = split.parts()
    first: int | None = None
    # Equal sequences need no places, and are found once for all pairs.
    groups = overlap_groups(examples) if all(interval is None for interval in examples.intervals) else None

    def sharing(rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
        return _overlapping(examples, rows, others) if groups is None else np.isin(groups[rows], groups[others])

    for inner, outer in (("train", "val"), ("train", "test"), ("val", "test")):
        rows, others = parts[inner], parts[outer]
        shared = sharing(others, rows)
        counts[f"{outer} and {inner}"] = int(shared.sum())
        if shared.any() and first is None:
            first = int(others[shared][0])
        if what == "drop" and shared.any():
            parts[inner] = rows[~sharing(rows, others)]
    total = sum(counts.values())
    if total and what == "refuse":
        assert first is not None
        place = examples.places[first]
        found = ", ".join(f"{count:,} of {pair}" for pair, count in counts.items() if count)
        raise InputError(
            f"examples share sequence between splits ({found}); this is the first",
            file=place.file,
            line=place.line,
            remedy="--overlap drop takes them out of training, --overlap allow keeps them",
        )
    return Split(**parts, description=split.description), counts


def _overlapping(examples: Examples, rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which windows of `rows` share a base with any window of `others`, (rows,)."""
    shared = np.zeros(len(rows), np.bool_)
    borders: dict[str, Any] = {}
    for row in others.tolist():
        interval = examples.intervals[row]
        assert interval is not None
        borders.setdefault(interval.chrom, []).append((interval.start, interval.end))
    merged = {chrom: _merge(np.array(sorted(pairs), np.int64)) for chrom, pairs in borders.items()}
    for position, row in enumerate(rows.tolist()):
        interval = examples.intervals[row]
        assert interval is not None
        if interval.chrom in merged:
            starts, ends = merged[interval.chrom]
            at = int(np.searchsorted(ends, interval.start, "right"))
            shared[position] = at < len(starts) and starts[at] < interval.end
    return shared


def _merge(pairs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and ends of the union of half-open stretches, (n, 2) sorted by start."""
    ends = np.maximum.accumulate(pairs[:, 1])
    begins = np.concatenate([[True], pairs[1:, 0] > ends[:-1]])
    return pairs[begins, 0], np.append(ends[:-1][begins[1:]], ends[-1])
