"""The examples, targets and splits of a fine-tuning run, from its configuration."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena_dna.datasets.label_splits import Split, SplitRule, make_splits, settle_overlap
from hyena_dna.datasets.labelled import Examples, LabelledInputs, Place, cut_intervals, read_examples
from hyena_dna.datasets.labels import Labelling, check_classes, label_examples, parse_class
from hyena_dna.datasets.negatives import gc_matched_regions
from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval
from hyena_dna.training.finetune_config import FinetuneData
from hyena_dna.training.shuffles import dinucleotide_shuffles

__all__ = ["LabelledData", "build_data", "describe_counts"]

_log = logging.getLogger("hyena_dna")

_POSITIVE = "positive"


@dataclass(frozen=True, eq=False)
class LabelledData:
    """Everything that a run learns from and is judged on.

    Attributes:
        examples: those that have a target.
        labelling: the task; row i of its targets is that of example i.
        splits: one, or one per fold; row numbers of the examples.
        overlaps: of each split, examples that share sequence with another part.
    """

    examples: Examples
    labelling: Labelling
    splits: list[Split]
    overlaps: list[dict[str, int]]

    def counts(self, split: Split) -> dict[str, dict[str, int]]:
        """Examples of each class in each part; for regression their number under `examples`."""
        return {name: self.labelling.counts(rows) or {"examples": len(rows)} for name, rows in split.parts().items()}

    def fingerprint(self) -> str:
        """One sha256 of tokens, targets and splits: runs on equal data have equal ones."""
        digest = hashlib.sha256()
        arrays: list[NDArray[Any]] = [self.examples.ids, self.examples.lengths, self.labelling.targets]
        for split in self.splits:
            arrays += split.parts().values()
        for array in arrays:
            digest.update(str(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
        digest.update("\0".join(self.labelling.labels).encode())
        return digest.hexdigest()


def build_data(config: FinetuneData, *, seed: int, longest: int) -> LabelledData:
    """Read, label, add background, split and check.

    Args:
        config: what to read.
        seed: of random splits and background.
        longest: tokens that the model reads.

    Raises:
        InputError: a file is not sound; examples are longer than the model reads; or the labels or splits cannot be
            learnt from.
    """
    _check_inputs(config)
    examples = read_examples(_inputs(config))
    examples.check_lengths(longest)
    rules = [parse_class(text) for text in config.classes]
    if config.negatives != "none":
        if not rules:
            # Without classes whatever is given is a positive, and column 4 of a peak file is a name.
            examples = replace(examples, labels=[_POSITIVE] * len(examples))
            rules = [parse_class(_POSITIVE)]
        if config.negative_label in [rule.name for rule in rules]:
            raise InputError(f"{config.negative_label!r} is the class of the added background and of given examples")
        background = [parse_class(config.negative_label)]
        labelling = label_examples(
            [*examples.labels, config.negative_label], [*examples.places, Place("background", 1)], "auto",
            classes=[*background, *rules], positive=config.positive,
        )  # fmt: skip
        given = examples.take(labelling.rows[:-1])
        given = _cap(given, labelling.targets[:-1], config.max_per_class, seed)
        examples = given.join(_background(given, config, seed))
        rules = [*background, *rules]
        labelling = label_examples(examples.labels, examples.places, "auto", classes=rules, positive=config.positive)
        labelling = replace(labelling, rows=np.arange(len(labelling.rows)))
    else:
        name = config.label_column or "value"
        labelling = label_examples(
            examples.labels, examples.places, config.task, classes=rules, positive=config.positive, name=name
        )
        for label, count in labelling.left_out.items():
            _log.info("%s: %s examples are left out, no class has this label", label, f"{count:,}")
        examples = examples.take(labelling.rows)
        if config.max_per_class is not None and labelling.kind in ("binary", "multiclass"):
            kept = _capped(labelling.targets, config.max_per_class, seed)
            examples, labelling = examples.take(kept), replace(labelling, targets=labelling.targets[kept])
        labelling = replace(labelling, rows=np.arange(len(examples)))
    return _split(examples, labelling, config, seed)


def _check_inputs(config: FinetuneData) -> None:
    if (config.dev or config.test) and not config.train:
        raise InputError("--dev and --test go with --train")
    if config.k_folds and (config.dev or config.test):
        raise InputError("--k-folds splits one table, and --dev or --test is given", remedy="leave one of them out")


def _inputs(config: FinetuneData) -> LabelledInputs:
    tables = {split: path for split, path in
              (("train", config.train), ("val", config.dev), ("test", config.test)) if path}  # fmt: skip
    labelled = config.negatives == "none" or bool(config.classes)
    return LabelledInputs(
        genome=config.genome,
        regions=config.regions,
        tables=tables or None,
        fasta=config.fasta or None,
        window=config.window,
        stranded=config.stranded,
        label_column=config.label_column,
        split_column=config.split_column,
        require_labels=labelled and config.task != "multilabel",
        clip=config.clip,
        rna=config.rna,
    )


def _capped(targets: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Rows that stay when each class has at most so many, chosen at random."""
    rng = np.random.default_rng([seed, 1])
    chosen = [rng.permutation(np.flatnonzero(targets == label))[:most] for label in np.unique(targets)]
    return np.sort(np.concatenate(chosen))


def _cap(examples: Examples, targets: NDArray[np.int64], most: int | None, seed: int) -> Examples:
    return examples if most is None else examples.take(_capped(targets, most, seed))


def _background(given: Examples, config: FinetuneData, seed: int) -> Examples:
    """Background for the given examples."""
    count = config.negatives_per_positive
    if config.negatives == "gc":
        if given.store is None:
            raise InputError("GC-matched background needs regions of a genome", remedy="use --negatives dinucleotide")
        windows = [interval for interval in given.intervals if interval is not None]
        drawn = gc_matched_regions(given.store, windows, given.regions, per_positive=count, seed=seed)
        ids, lengths = cut_intervals(given.store, drawn, stranded=config.stranded)
        splits = _splits_of(drawn, given)
        intervals: list[Interval | None] = list(drawn)
        names = [f"{interval.chrom}:{interval.start}-{interval.end}" for interval in drawn]
    else:
        ids = dinucleotide_shuffles(given.ids, given.lengths, count=count, seed=seed)
        lengths = np.repeat(given.lengths, count)
        rows = np.repeat(np.arange(len(given)), count).tolist()
        splits = [given.splits[row] for row in rows]
        intervals = [given.intervals[row] for row in rows]
        names = [f"{given.names[row]}:shuffled" for row in rows]
    labels: list[str | None] = [config.negative_label] * len(lengths)
    places = [Place("background", row) for row in range(1, len(lengths) + 1)]
    return replace(given, ids=ids, lengths=lengths, labels=labels, splits=splits, intervals=intervals, names=names,
                   places=places)  # fmt: skip


def _splits_of(drawn: list[Interval], given: Examples) -> list[str | None]:
    """The split of drawn regions: each contig's share of splits, in the order of its given examples."""
    if all(split is None for split in given.splits):
        return [None] * len(drawn)
    of: dict[str, list[str | None]] = {}
    for interval, split in zip(given.intervals, given.splits, strict=True):
        assert interval is not None
        of.setdefault(interval.chrom, []).append(split)
    used: dict[str, int] = {}
    found = []
    for interval in drawn:
        position = used.get(interval.chrom, 0)
        used[interval.chrom] = position + 1
        found.append(of[interval.chrom][position % len(of[interval.chrom])])
    return found


def _split(examples: Examples, labelling: Labelling, config: FinetuneData, seed: int) -> LabelledData:
    exclusive = labelling.kind in ("binary", "multiclass")
    strata = labelling.targets if exclusive else np.zeros(len(examples), np.int64)
    rule = SplitRule(config.val_contigs, config.test_contigs, config.folds, config.k_folds, seed)
    splits, overlaps = [], []
    for split in make_splits(examples, strata, rule):
        settled, found = settle_overlap(examples, split, config.overlap)
        check_classes(labelling, settled.parts(), examples.places)
        splits.append(settled)
        overlaps.append(found)
    return LabelledData(examples, labelling, splits, overlaps)


def describe_counts(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Class counts of each split as lines for people."""
    return [
        f"{name}: {sum(found.values()):,} ({', '.join(f'{label} {count:,}' for label, count in found.items())})"
        for name, found in counts.items()
    ]
