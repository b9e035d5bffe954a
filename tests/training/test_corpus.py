from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hyena_dna.errors import InputError
from hyena_dna.tokenizer import SOFT_MASK
from hyena_dna.training.config import PretrainConfig
from hyena_dna.training.corpus import Corpus, patterns_for
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
    windows = corpus.validation_windows(64, 100)
    assert windows.shape == (900 // 64, 65)
    store = corpus.stores[0]
    stored = np.asarray(store.tokens[store.offsets["chrC"] :][:65]) & (SOFT_MASK - 1)
    assert np.array_equal(windows[0], stored)
    assert np.array_equal(windows, corpus.validation_windows(64, 100))
    assert len(corpus.validation_windows(64, 5)) == 5


def test_several_genomes_may_share_contig_names(tiny: Maker, genome: Path, tmp_path: Path) -> None:
    other = write_genome(tmp_path / "other.fa", seed=1, contigs={"chrA": 3000, "scaffold": 400})
    corpus = open_corpus(
        tiny(data={"genomes": [str(genome), str(other)], "val_contigs": ["chrC", "scaffold"], "genome_weights": [1, 3]})
    )
    assert [sorted({s.chrom for s in source.splits.val}) for source in corpus.sources] == [["chrC"], ["scaffold"]]
    windows = corpus.sampler(64, 0).sample(0, 4000)
    assert np.mean(windows.source == 1) == pytest.approx(0.75, abs=0.03)
    assert {interval.chrom for interval in corpus.intervals(windows[:200])} <= {"chrA", "chrB"}
    assert corpus.validation_windows(64, 20).shape[1] == 65


def test_a_pattern_has_to_fit_some_genome_but_not_every_one() -> None:
    assert patterns_for(["chr*", "scaffold"], ["chrA"], ["chrA", "scaffold"]) == ["chr*"]
    assert patterns_for(["typo"], ["chrA"], ["chrA", "scaffold"]) == ["typo"]


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
