"""The sequence of a run: token stores, their splits, and what draws windows from them."""

from __future__ import annotations

import hashlib
import json
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hyena_dna.datasets.segments import NCounter, Segment
from hyena_dna.datasets.splits import Splits, by_contigs, by_regions, check_no_leak, read_folds
from hyena_dna.datasets.store import TokenStore, cut_windows
from hyena_dna.datasets.windows import WindowBatch, WindowSampler, WindowSource, tile_windows
from hyena_dna.errors import InputError
from hyena_dna.files import fingerprint
from hyena_dna.genome.contigs import ContigSelection, select_contigs
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.reference import Reference
from hyena_dna.genome.regions import read_regions
from hyena_dna.training.config import DataConfig
from hyena_dna.training.genomes import GenomeContigs, genome_names

__all__ = ["Corpus", "SplitStore", "genome_corpus", "input_record", "split_store"]


@dataclass(frozen=True)
class SplitStore:
    """One token store, which of its bases are for what, and the name of the genome."""

    store: TokenStore
    splits: Splits
    name: str

    def train_sequences(self) -> Iterator[NDArray[np.uint8]]:
        """Token ids of every training segment."""
        for segment in self.splits.train:
            yield np.asarray(self.store.tokens[segment.start : segment.end])


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
        if len(self.sources) == 1:
            return self.sources[0].splits.description
        return " | ".join(f"{source.name}: {source.splits.description}" for source in self.sources)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the genomes where there are several; empty where there is one."""
        return tuple(source.name for source in self.sources) if len(self.sources) > 1 else ()

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
        return WindowSampler(
            [
                WindowSource(source.store, source.splits.train, config.weight(index, source.name))
                for index, source in enumerate(self.sources)
            ],
            window=window,
            seed=seed,
            max_n_fraction=config.max_n_fraction,
            reverse_complement=config.reverse_complement,
        )

    def validation_windows(
        self, window: int, most: int, split: Literal["val", "test"] = "val"
    ) -> tuple[NDArray[np.uint8], ...]:
        """The fixed validation windows of every source, as nearly equal in number as the held-out segments allow.

        Args:
            window: inputs of a window, in bp.
            most: cap on the number of all windows; each source has at least one.
            split: the held-out segments to take them from.

        Returns:
            For each source (windows, window + 1) token ids: `window` inputs and as many targets.
        """
        rows: list[NDArray[np.uint8]] = []
        for index, source in enumerate(self.sources):
            tiles = tile_windows(
                getattr(source.splits, split),
                window,
                max(1, (most + index) // len(self.sources)),
                n_runs=source.store.n_runs,
                max_n_fraction=self.config.max_n_fraction,
            )
            rows.append(cut_windows(source.store.tokens, tiles.start, tiles.length, window + 1, tiles.reverse).ids)
        return tuple(rows)

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
        labels = [f"{name}:" for name in self.names] or [""]
        names = dict.fromkeys(
            f"{label}{segment.chrom}"
            for label, (_, segments) in zip(labels, parts, strict=True)
            for segment in segments
        )
        return {"contigs": list(names), "bases": sum(_known_bases(store, segments) for store, segments in parts)}


def genome_corpus(config: DataConfig) -> Corpus:
    """Open genomes: check and encode them where that was not done before, and split them.

    Raises:
        InputError: a file is not sound, or contigs, folds or excluded regions do not fit.
    """
    references = [Reference(path) for path in config.genomes]
    names = genome_names(config.genomes)
    genomes = GenomeContigs({name: list(one.contigs) for name, one in zip(names, references, strict=True)})
    sources: list[SplitStore] = []
    dropped: list[str] = []
    for name, reference in zip(names, references, strict=True):
        include = genomes.patterns(config.contigs, name)
        if config.contigs and not include:
            raise InputError("no contig of this genome is asked for", file=reference.paths[0], remedy="see --contigs")
        selection = select_contigs(reference.contigs, include, genomes.patterns(config.exclude_contigs, name))
        dropped += selection.dropped
        store = TokenStore.for_reference(reference)
        sources.append(SplitStore(store, split_store(store, selection, config, genomes, name), name))
    inputs = [input_record(path, "genome") for path in config.genomes]
    return Corpus(tuple(sources), config, dropped, inputs + side_inputs(config))


def split_store(
    store: Any, selection: ContigSelection, config: DataConfig, genomes: GenomeContigs, name: str
) -> Splits:
    """Split the kept contigs of a store as a configuration says.

    Args:
        store: a token store, or a view of one with other contigs.
        selection: contigs to use.
        config: contigs or folds to hold out, regions to exclude.
        genomes: contigs of all genomes of the run: a pattern has to fit one of them, not every genome.
        name: of this genome.

    Raises:
        InputError: something fits no contig, or nothing is left to train on or to validate on.
    """
    exclude: list[Interval] = []
    if config.exclude:
        regions = read_regions(config.exclude, contigs=None)
        placed = genomes.places((region.interval for region in regions), name, config.exclude)
        exclude = [interval for interval in placed if interval is not None and interval.chrom in store.contigs]
    if config.folds and not config.folds.endswith(".json"):
        regions = read_regions(config.folds, contigs=None, split_column="split")
        placed = genomes.places((region.interval for region in regions), name, config.folds)
        here = [
            replace(region, interval=interval)
            for region, interval in zip(regions, placed, strict=True)
            if interval is not None and interval.chrom in store.contigs
        ]
        splits = by_regions(store, here, selection.kept, exclude)
    else:
        kept, val, test = selection.kept, config.val_contigs, config.test_contigs
        if config.folds:
            folds = read_folds(Path(config.folds))
            val, test = tuple(folds.val), tuple(folds.test)
            named = genomes.patterns((*folds.train, *val, *test), name)
            kept = [contig for contig in kept if not folds.train or contig in named]
        splits = by_contigs(store, kept, genomes.patterns(val, name), genomes.patterns(test, name), exclude)
    check_no_leak(splits)
    return splits


def input_record(path: str | os.PathLike[str], role: str) -> dict[str, Any]:
    """Path, role, size and edge checksum of an input file."""
    try:
        return {"path": os.path.abspath(path), "role": role, **fingerprint(path)}
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from None


def side_inputs(config: DataConfig) -> list[dict[str, Any]]:
    """Records of the files that say which bases are for what."""
    return [input_record(path, role) for role, path in (("folds", config.folds), ("exclude", config.exclude)) if path]


def _known_bases(store: TokenStore, segments: Sequence[Segment]) -> int:
    start = np.array([segment.start for segment in segments], np.int64)
    end = np.array([segment.end for segment in segments], np.int64)
    return int((end - start - NCounter(store.n_runs).count(start, end)).sum())
