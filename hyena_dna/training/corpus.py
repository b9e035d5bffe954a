"""The sequence of a run: token stores, their splits, and what draws windows from them."""

from __future__ import annotations

import hashlib
import json
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena_dna.datasets.segments import NCounter, Segment
from hyena_dna.datasets.splits import Splits, by_contigs, by_regions, check_no_leak, read_folds
from hyena_dna.datasets.store import TokenStore, cut_windows
from hyena_dna.datasets.windows import WindowBatch, WindowSampler, WindowSource, tile_windows
from hyena_dna.errors import InputError
from hyena_dna.files import fingerprint
from hyena_dna.genome.contigs import ContigSelection, contig_hint, select_contigs
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.reference import Reference
from hyena_dna.genome.regions import read_regions
from hyena_dna.training.config import DataConfig

__all__ = ["Corpus", "SplitStore", "genome_corpus", "input_record", "patterns_for", "split_store"]


@dataclass(frozen=True)
class SplitStore:
    """One token store and which of its bases are for what."""

    store: TokenStore
    splits: Splits


@dataclass(frozen=True)
class Corpus:
    """Everything that a run reads.

    Attributes:
        sources: one for each genome, or one for the reads.
        config: how windows are drawn.
        dropped: contigs left out, as `NAME`.
        inputs: path, size and checksum of every input file.
    """

    sources: tuple[SplitStore, ...]
    config: DataConfig
    dropped: list[str]
    inputs: list[dict[str, Any]]

    @property
    def stores(self) -> tuple[TokenStore, ...]:
        """The token stores, in the order that `WindowBatch.source` counts them."""
        return tuple(source.store for source in self.sources)

    @property
    def rule(self) -> str:
        """How the splits were chosen."""
        return "; ".join(source.splits.description for source in self.sources)

    @property
    def train_bases(self) -> int:
        """Known bases of the training segments: those that are not N."""
        return sum(_known_bases(source.store, source.splits.train) for source in self.sources)

    def sampler(self, window: int, seed: int) -> WindowSampler:
        """What draws training windows.

        Args:
            window: inputs of a window, in bp.
            seed: of the run.
        """
        config = self.config
        weights: Sequence[float | None] = config.genome_weights or [None] * len(self.sources)
        return WindowSampler(
            [
                WindowSource(source.store, source.splits.train, weight)
                for source, weight in zip(self.sources, weights, strict=True)
            ],
            window=window,
            seed=seed,
            max_n_fraction=config.max_n_fraction,
            reverse_complement=config.reverse_complement,
        )

    def validation_windows(self, window: int, most: int) -> NDArray[np.uint8]:
        """The fixed validation windows, spread over all sources.

        Args:
            window: inputs of a window, in bp.
            most: cap on their number.

        Returns:
            (windows, window + 1) token ids: `window` inputs and as many targets.
        """
        total = sum(segment.length for source in self.sources for segment in source.splits.val)
        rows: list[NDArray[np.uint8]] = []
        for source in self.sources:
            share = sum(segment.length for segment in source.splits.val) / total
            wanted = max(1, round(most * share))
            tiles = tile_windows(
                source.splits.val,
                window,
                wanted,
                n_runs=source.store.n_runs,
                max_n_fraction=self.config.max_n_fraction,
            )
            rows.append(cut_windows(source.store.tokens, tiles.start, tiles.length, window + 1, tiles.reverse).ids)
        return np.concatenate(rows)

    def intervals(self, windows: WindowBatch) -> list[Interval]:
        """Where windows lie, as contig, start and end."""
        found = []
        for row in range(len(windows)):
            store = self.stores[windows.source[row]]
            names, offsets = list(store.offsets), list(store.offsets.values())
            index = bisect_right(offsets, int(windows.start[row])) - 1
            start = int(windows.start[row]) - offsets[index]
            strand = "-" if windows.reverse[row] else "+"
            found.append(Interval(names[index], start, start + int(windows.length[row]), strand))
        return found

    def train_sequences(self) -> Iterator[NDArray[np.uint8]]:
        """Token ids of every training segment."""
        for source in self.sources:
            for segment in source.splits.train:
                yield np.asarray(source.store.tokens[segment.start : segment.end])

    def fingerprints(self) -> dict[str, str]:
        """Checksums that change when any base or any split does, by what they are of."""
        found = {}
        for index, source in enumerate(self.sources, start=1):
            splits = source.splits
            parts = [[(s.start, s.end) for s in part] for part in (splits.train, splits.val, splits.test)]
            found[f"sequence {index}"] = source.store.fingerprint
            found[f"splits {index}"] = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return found

    def describe(self) -> dict[str, Any]:
        """Contigs and bases of each split, for `run.json`."""
        return {
            "train": self._extent("train"),
            "validation": self._extent("val"),
            "test": self._extent("test"),
            "rule": self.rule,
            "dropped": self.dropped,
        }

    def _extent(self, split: str) -> dict[str, Any]:
        parts = [(source.store, getattr(source.splits, split)) for source in self.sources]
        names = dict.fromkeys(segment.chrom for _, segments in parts for segment in segments)
        return {"contigs": list(names), "bases": sum(_known_bases(store, segments) for store, segments in parts)}


def genome_corpus(config: DataConfig) -> Corpus:
    """Open genomes: check and encode them where that was not done before, and split them.

    Raises:
        InputError: a file is not sound, or contigs, folds or excluded regions do not fit.
    """
    references = [Reference(path) for path in config.genomes]
    names = {name: None for reference in references for name in reference.contigs}
    sources: list[SplitStore] = []
    dropped: list[str] = []
    for reference in references:
        here = reference.contigs
        selection = select_contigs(
            here, patterns_for(config.contigs, here, names), patterns_for(config.exclude_contigs, here, names)
        )
        dropped += selection.dropped
        store = TokenStore.for_reference(reference)
        sources.append(SplitStore(store, split_store(store, selection, config, names)))
    inputs = [input_record(path, "genome") for path in config.genomes]
    return Corpus(tuple(sources), config, dropped, inputs + side_inputs(config))


def split_store(store: Any, selection: ContigSelection, config: DataConfig, names: Iterable[str]) -> Splits:
    """Split the kept contigs of a store as a configuration says.

    Args:
        store: a token store, or a view of one with other contigs.
        selection: contigs to use.
        config: contigs or folds to hold out, regions to exclude.
        names: contigs of all genomes of the run: a pattern has to fit one of them, not every genome.

    Raises:
        InputError: something fits no contig, or nothing is left to train on or to validate on.
    """
    here = store.contigs
    exclude: list[Interval] = []
    if config.exclude:
        regions = read_regions(config.exclude, contigs=None)
        exclude = [_known(region.interval, here, names, config.exclude) for region in regions]
        exclude = [interval for interval in exclude if interval.chrom in here]
    if config.folds and not config.folds.endswith(".json"):
        regions = read_regions(config.folds, contigs=None, split_column="split")
        placed = [region for region in regions if _known(region.interval, here, names, config.folds).chrom in here]
        splits = by_regions(store, placed, selection.kept, exclude)
    else:
        kept, val, test = selection.kept, config.val_contigs, config.test_contigs
        if config.folds:
            folds = read_folds(Path(config.folds))
            val, test = tuple(folds.val), tuple(folds.test)
            kept = [name for name in kept if not folds.train or name in {*folds.train, *val, *test}]
        splits = by_contigs(store, kept, patterns_for(val, kept, names), patterns_for(test, kept, names), exclude)
    check_no_leak(splits)
    return splits


def patterns_for(patterns: Sequence[str], here: Iterable[str], names: Iterable[str]) -> list[str]:
    """The patterns that concern one genome of several.

    A pattern that fits no contig of this genome but one of another is dropped; one that fits nowhere is kept, so that
    whoever uses it reports it.
    """
    here, names = list(here), list(names)
    return [pattern for pattern in patterns if _fits(pattern, here) or not _fits(pattern, names)]


def input_record(path: str | os.PathLike[str], role: str) -> dict[str, Any]:
    """Path, role, size and edge checksum of an input file."""
    try:
        return {"path": os.path.abspath(path), "role": role, **fingerprint(path)}
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from None


def side_inputs(config: DataConfig) -> list[dict[str, Any]]:
    """Records of the files that say which bases are for what."""
    return [input_record(path, role) for role, path in (("folds", config.folds), ("exclude", config.exclude)) if path]


def _fits(pattern: str, names: Sequence[str]) -> bool:
    return any(name == pattern or fnmatchcase(name, pattern) for name in names)


def _known(interval: Interval, here: Iterable[str], names: Iterable[str], path: str) -> Interval:
    known = [*here, *names]
    if interval.chrom not in known:
        raise InputError(f"there is no contig {interval.chrom!r}", file=path, remedy=contig_hint(interval.chrom, known))
    return interval


def _known_bases(store: TokenStore, segments: Sequence[Segment]) -> int:
    start = np.array([segment.start for segment in segments], np.int64)
    end = np.array([segment.end for segment in segments], np.int64)
    return int((end - start - NCounter(store.n_runs).count(start, end)).sum())
