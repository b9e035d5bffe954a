from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hyena_dna.errors import InputError
from hyena_dna.tokenizer import SOFT_MASK
from hyena_dna.training.config import PretrainConfig
from hyena_dna.training.corpus import Corpus
from hyena_dna.training.genomes import GenomeContigs, genome_names
from hyena_dna.training.sources import open_corpus

from .conftest import CONTIGS, write_genome

Maker = Callable[..., PretrainConfig]


def _covered(corpus: Corpus, split: str) -> set[tuple[int, int]]:
    return {
        (index, base)
        for index, source in enumerate(corpus.sources)
        for segment in getattr(source.splits, split)
        for base in range(segment.start, segment.end)
    }


def test_alternate_loci_are_left_out_and_listed(tiny: Maker) -> None:
    corpus = open_corpus(tiny())
    assert corpus.dropped == ["chrD_alt"]
    assert "chrD_alt" not in {s.chrom for s in corpus.sources[0].splits.train}


def test_no_training_window_touches_a_held_out_base(tiny: Maker, tmp_path: Path) -> None:
    (tmp_path / "black.bed").write_text("chrA\t2000\t2500\n")
    corpus = open_corpus(
        tiny(data={"val_contigs": ["chrC"], "test_contigs": ["chrB"], "exclude": str(tmp_path / "black.bed")})
    )
    train = _covered(corpus, "train")
    sampler = corpus.sampler(64, seed=0)
    for step in range(50):
        windows = sampler.sample(step, 16)
        for start, length in zip(windows.start.tolist(), windows.length.tolist(), strict=True):
            assert {(0, base) for base in range(start, start + length)} <= train
        for interval in corpus.intervals(windows):
            assert interval.chrom == "chrA"
            assert interval.end <= 2000 or interval.start >= 2500
            assert 0 <= interval.start < interval.end <= CONTIGS["chrA"]
    assert not train & _covered(corpus, "val")
    assert not train & _covered(corpus, "test")


def test_validation_windows_are_fixed_forward_and_whole(tiny: Maker) -> None:
    corpus = open_corpus(tiny(data={"val_contigs": ["chrC"]}))
    (windows,) = corpus.validation_windows(64, 100)
    assert windows.shape == (900 // 64, 65)
    store = corpus.stores[0]
    stored = np.asarray(store.tokens[store.offsets["chrC"] :][:65]) & (SOFT_MASK - 1)
    assert np.array_equal(windows[0], stored)
    assert np.array_equal(windows, corpus.validation_windows(64, 100)[0])
    assert len(corpus.validation_windows(64, 5)[0]) == 5


def test_several_genomes_may_share_contig_names(tiny: Maker, genome: Path, tmp_path: Path) -> None:
    other = write_genome(tmp_path / "other.fa", seed=1, contigs={"chrA": 3000, "scaffold": 400})
    config = tiny(
        data={"genomes": [str(genome), str(other)], "val_contigs": ["chrC", "scaffold"], "genome_weights": [1, 3]}
    )
    corpus = open_corpus(config)
    assert [sorted({s.chrom for s in source.splits.val}) for source in corpus.sources] == [["chrC"], ["scaffold"]]
    windows = corpus.sampler(64, 0).sample(0, 4000)
    assert np.mean(windows.source == 1) == pytest.approx(0.75, abs=0.03)
    by_name = config.data.model_copy(update={"genome_weights": {"other": 3, "genome": 1}})
    named = config.model_copy(update={"data": by_name})
    assert np.array_equal(open_corpus(named).sampler(64, 0).sample(0, 4000).start, windows.start)
    assert {interval.chrom for interval in corpus.intervals(windows[:200])} <= {"chrA", "chrB"}
    assert [rows.shape for rows in corpus.validation_windows(64, 9)] == [(4, 65), (5, 65)]
    assert corpus.describe()["validation"]["contigs"] == ["genome:chrC", "other:scaffold"]


def test_one_file_of_places_splits_several_genomes(tiny: Maker, genome: Path, tmp_path: Path) -> None:
    other = write_genome(tmp_path / "other.fa", seed=1, contigs={"chrA": 3000, "scaffold": 400})
    folds = tmp_path / "folds.bed"
    header = "#chrom\tstart\tend\tname\tsplit\n"
    folds.write_text(
        header + "genome:chrA\t5000\t6000\ta\tval\nscaffold\t0\t400\tb\tval\nother:chrA\t0\t500\tc\ttest\n"
    )
    config = tiny(data={"genomes": [str(genome), str(other)], "folds": str(folds)})
    first, second = (source.splits for source in open_corpus(config).sources)
    assert [(s.chrom, s.end - s.start) for s in first.val] == [("chrA", 1000)]
    assert [(s.chrom, s.end - s.start) for s in first.train] == [("chrA", 5000), ("chrB", 5000), ("chrC", 900)]
    assert not first.test
    assert [(s.chrom, s.end - s.start) for s in second.val] == [("scaffold", 400)]
    assert [(s.chrom, s.end - s.start) for s in second.train] == [("chrA", 2500)]
    folds.write_text(header + "chrA\t5000\t6000\ta\tval\n")
    with pytest.raises(InputError, match="contig of 2 genomes") as caught:
        open_corpus(config)
    assert caught.value.remedy == "write genome:chrA or other:chrA"


def test_contigs_are_chosen_in_the_genome_that_is_named(tiny: Maker, genome: Path, tmp_path: Path) -> None:
    other = write_genome(tmp_path / "other.fa", seed=1, contigs={"chrA": 3000, "chrB": 400})
    data = {"genomes": [str(genome), str(other)], "val_contigs": ["genome:chrB", "other:chrB"]}
    first, second = open_corpus(tiny(data=data | {"exclude_contigs": ["genome:chrA"]})).sources
    assert {s.chrom for s in first.splits.train} == {"chrC"}
    assert {s.chrom for s in second.splits.train} == {"chrA"}
    with pytest.raises(InputError, match="no contig of this genome is asked for"):
        open_corpus(tiny(data=data | {"contigs": ["genome:*"]}))
    with pytest.raises(InputError, match="chrZ"):
        open_corpus(tiny(data=data | {"val_contigs": ["genome:chrB", "other:chrZ"]}))


def test_genomes_are_named_by_their_files() -> None:
    assert genome_names(["a/ce10.fa.gz", "b/hg38.p14.fasta", "c/ce10.fa"]) == ["ce10", "hg38.p14", "ce10.2"]


def test_a_pattern_has_to_fit_some_genome_but_not_every_one() -> None:
    genomes = GenomeContigs({"one": ["chrA", "HLA:1"], "two": ["chrA", "scaffold"]})
    assert genomes.patterns(["chr*", "scaffold", "typo"], "one") == ["chr*", "typo"]
    assert genomes.patterns(["two:chr*", "one:typo"], "one") == ["typo"]
    assert genomes.patterns(["HLA:1"], "one") == ["HLA:1"], "a name with a colon is a name"


def test_folds_come_from_json_and_from_bed(tiny: Maker, tmp_path: Path) -> None:
    (tmp_path / "folds.json").write_text(json.dumps({"train": ["chrA"], "valid": ["chrB"], "test": ["chrC"]}))
    corpus = open_corpus(tiny(data={"folds": str(tmp_path / "folds.json")}))
    extent = corpus.describe()
    assert [extent[part]["contigs"] for part in ("train", "validation", "test")] == [["chrA"], ["chrB"], ["chrC"]]
    (tmp_path / "folds.bed").write_text(
        "#chrom\tstart\tend\tname\tsplit\nchrA\t0\t3000\tx\ttrain\nchrA\t3000\t4000\ty\tvalid\n"
    )
    extent = open_corpus(tiny(data={"folds": str(tmp_path / "folds.bed")})).describe()
    assert (extent["train"]["bases"], extent["validation"]["bases"]) == (2800, 1000), "N are not counted"


def test_fingerprints_change_with_one_base_and_with_the_splits(tiny: Maker, genome: Path) -> None:
    before = open_corpus(tiny()).fingerprints()
    assert open_corpus(tiny()).fingerprints() == before
    other = open_corpus(tiny(data={"val_contigs": ["chrB"]})).fingerprints()
    assert other["sequence 1"] == before["sequence 1"]
    assert other["splits 1"] != before["splits 1"]
    text = genome.read_text()
    genome.write_text(text[:-2] + ("A" if text[-2] != "A" else "C") + "\n")
    assert open_corpus(tiny()).fingerprints()["sequence 1"] != before["sequence 1"]


def test_a_contig_that_no_genome_has_is_an_error(tiny: Maker, tmp_path: Path) -> None:
    (tmp_path / "black.bed").write_text("chrZ\t2000\t2500\n")
    with pytest.raises(InputError, match="chrZ"):
        open_corpus(tiny(data={"exclude": str(tmp_path / "black.bed")}))
