"""Frozen embeddings under a linear probe, beside k-mer regression and GC content, on GUE sets and worm elements."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dna.baselines.gc import fit_predict_gc
from hyena_dna.baselines.kmer import fit_predict_kmer
from hyena_dna.baselines.linear import LabelledSequences, dev_score, fit_linear
from hyena_dna.errors import InputError
from hyena_dna.evaluation.metrics import evaluate
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.reference import Reference
from hyena_dna.genome.regions import read_regions
from hyena_dna.genome.tables import read_table
from hyena_dna.inference.embedding import embed_sequences
from hyena_dna.model.embedding_defaults import EmbeddingDefaults
from hyena_dna.model.model import HyenaDNA
from hyena_dna.reproduction.table import Table, data_file

__all__ = ["GUE_SETS", "Task", "fit_probe", "gue_files", "gue_tasks", "probe_table", "worm_files", "worm_tasks"]

GUE_SETS = {
    "prom_core_all": ("prom_prom_core_all", "prom_core_all"),
    "prom_300_tata": ("prom_prom_300_tata", "prom_300_tata"),
    "tf_0": ("tf_0",),
    "tf_1": ("tf_1",),
    "mouse_0": ("mouse_0",),
}
"""The sets of the published comparison, and what their folders are called."""

_STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_WINDOW = 512
_WORM = {"train": ("chrI", "chrIV", "chrV"), "dev": ("chrIII",), "test": ("chrII",)}
_MOST = 12_000


class Part(NamedTuple):
    """Sequences (upper-case bases) and their classes, 0 or 1."""

    sequences: list[bytes]
    targets: NDArray[np.int64]


@dataclass(frozen=True)
class Task:
    """A binary task, split as its authors or the splits of the bundled models say."""

    name: str
    train: Part
    dev: Part
    test: Part


@dataclass(frozen=True)
class ProbeResult:
    """A probe: its strength was chosen on dev.

    Attributes:
        strength: inverse penalty C.
        dev_auroc: by which it was chosen.
        test: probability of the positive class, of the test rows.
    """

    strength: float
    dev_auroc: float
    test: NDArray[np.float64]


def gue_tasks(folder: str, names: Sequence[str] = ()) -> list[Task]:
    """GUE sets as their authors split them.

    Raises:
        InputError: a file is not there or not as expected.
    """
    tasks = []
    for name in names or GUE_SETS:
        if name not in GUE_SETS:
            raise InputError(f"there is no GUE set {name!r} here", remedy=f"one of {', '.join(GUE_SETS)}")
        parts = []
        for path in gue_files(folder, name).values():
            rows = read_table(path, require_labels=True).sequences
            labels = np.array([row.label for row in rows])
            if set(labels) != {"0", "1"}:
                raise InputError("the labels are not 0 and 1", file=path)
            parts.append(Part([row.sequence for row in rows], labels.astype(np.int64)))
        tasks.append(Task(name, *parts))
    return tasks


def gue_files(folder: str, name: str) -> dict[str, str]:
    """The tables `train`, `dev` and `test` of a GUE set.

    Raises:
        InputError: one is not there.
    """
    return {
        part: data_file(folder, [f"{root}{called}/{part}.csv" for root in ("gue/", "") for called in GUE_SETS[name]])
        for part in ("train", "dev", "test")
    }


def worm_files(folder: str) -> dict[str, str]:
    """The worm's `genome` and the `regions` of its regulatory elements.

    Raises:
        InputError: one is not there.
    """
    names = {"genome": "ce10.fa.gz", "regions": "regulatory_elements.bed"}
    return {part: data_file(folder, [f"ce10/{name}", name]) for part, name in names.items()}


def worm_tasks(folder: str) -> list[Task]:
    """Regulatory elements of the worm against sequence beside them, and enhancers against coding promoters.

    Windows of 512 bp around the centre of each element. Trained on chrI, chrIV and chrV, chosen on chrIII, tested on
    chrII, which the bundled models never saw. Background windows lie midway between neighbouring elements.

    Raises:
        InputError: a file is not there or not as expected.
    """
    genome, elements_file = worm_files(folder).values()
    regions = read_regions(elements_file)
    with Reference(genome) as reference:
        places: dict[str, list[tuple[str, Interval]]] = {}
        for region in regions:
            kept = places.setdefault(region.interval.chrom, [])
            kept.append((region.label or "", _around(region.interval)))

        def part(chroms: Sequence[str], wanted: dict[str, int]) -> Part:
            chosen = [
                (interval, wanted[label])
                for chrom in chroms
                for label, interval in _with_background(places[chrom], reference.contigs[chrom])
                if label in wanted
            ]
            rows = np.sort(np.random.default_rng(0).permutation(len(chosen))[:_MOST])
            taken = [chosen[row] for row in rows]
            return Part([reference.fetch(interval) for interval, _ in taken], np.array([label for _, label in taken]))

        elements = dict.fromkeys((label for rows in places.values() for label, _ in rows), 1) | {"background": 0}
        return [
            Task(name, *(part(_WORM[split], wanted) for split in ("train", "dev", "test")))
            for name, wanted in (
                ("element / background", elements),
                ("coding promoter / enhancer", {"putative_enhancer": 0, "coding_promoter": 1}),
            )
        ]


def probe_table(
    model: HyenaDNA, tasks: Sequence[Task], embedding: EmbeddingDefaults, *, title: str, baselines: bool = True
) -> Table:
    """AUROC and MCC of a linear probe on frozen embeddings, beside k-mer regression and GC content.

    Whatever is chosen, is chosen on dev: the penalty of the probe, k and penalty of the k-mer regression.

    Args:
        model: the model, on its device.
        tasks: the tasks.
        embedding: layers, pooling and strands.
        title: of the table.
        baselines: also fit them.
    """
    how = f"layer {embedding.layer}, pool {embedding.pool}, strands {embedding.strands}"
    table = Table(f"{title}: {how}", ("task", "method", "dev AUROC", "AUROC", "95 % interval", "MCC"))
    for task in tasks:
        found = fit_probe(model, task, embedding)
        _add(table, task, "frozen embeddings", found.dev_auroc, found.test)
        if not baselines:
            continue
        train, dev, test = (_encoded(model, part) for part in (task.train, task.dev, task.test))
        for fit in (fit_predict_kmer(train, dev, test.sequences, "binary", 2),
                    fit_predict_gc(train, dev, test.sequences, "binary", 2)):  # fmt: skip
            dev_auroc = dev_score("binary", 2, task.dev.targets, fit.dev_scores)
            _add(table, task, fit.name, dev_auroc, fit.scores)
    return table


def fit_probe(model: HyenaDNA, task: Task, embedding: EmbeddingDefaults) -> ProbeResult:
    """Logistic regression on standardised embeddings; its penalty is weakened until dev gets worse."""
    options = {"layer": embedding.layer, "pool": embedding.pool, "strands": embedding.strands}
    train, dev, test = (
        np.asarray(embed_sequences(model, part.sequences, **options), np.float32)  # type: ignore[arg-type]
        for part in (task.train, task.dev, task.test)
    )
    mean, spread = train.mean(0, dtype=np.float64), np.maximum(train.std(0, dtype=np.float64), 1e-6)
    train, dev, test = (((part - mean) / spread).astype(np.float32) for part in (train, dev, test))
    best: ProbeResult | None = None
    for strength in _STRENGTHS:
        predict = fit_linear("binary", 2, train, task.train.targets, strength)
        value = dev_score("binary", 2, task.dev.targets, predict(dev))
        if best is not None and value <= best.dev_auroc:
            break
        best = ProbeResult(strength, value, predict(test))
    assert best is not None, "there are strengths to try"
    return best


def _add(table: Table, task: Task, method: str, dev_auroc: float, scores: NDArray[np.float64]) -> None:
    result = evaluate("binary", ["0", "1"], task.test.targets, scores)
    auroc, mcc = result.metrics["auroc"], result.metrics["mcc"]
    table.rows.append((task.name, method, dev_auroc, auroc.value, f"{auroc.low:.3f}-{auroc.high:.3f}", mcc.value))
    table.numbers.update({f"{task.name}, {method}, AUROC": auroc.value, f"{task.name}, {method}, MCC": mcc.value})


def _encoded(model: HyenaDNA, part: Part) -> LabelledSequences:
    return LabelledSequences([model.tokenizer.encode(sequence) for sequence in part.sequences], part.targets)


def _around(interval: Interval) -> Interval:
    start = (interval.start + interval.end) // 2 - _WINDOW // 2
    return Interval(interval.chrom, start, start + _WINDOW)


def _with_background(rows: Sequence[tuple[str, Interval]], length: int) -> list[tuple[str, Interval]]:
    """The windows of a contig that lie inside it, and as background those midway in the wide gaps between them."""
    found = [(label, interval) for label, interval in rows if interval.start >= 0 and interval.end <= length]
    ordered = sorted(interval for _, interval in found)
    for left, right in itertools.pairwise(ordered):
        if right.start - left.end >= 2 * _WINDOW:
            middle = (left.end + right.start) // 2 - _WINDOW // 2
            found.append(("background", Interval(left.chrom, middle, middle + _WINDOW)))
    return found
