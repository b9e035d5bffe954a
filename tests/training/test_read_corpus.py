from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pysam
import pytest

from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval
from hyena_dna.training.config import PretrainConfig
from hyena_dna.training.corpus import Corpus
from hyena_dna.training.sources import open_corpus

from .conftest import CONTIGS

Maker = Callable[..., PretrainConfig]
LENGTH = 100


def write_bam(path: Path, genome: Path, contigs: list[str], *, sort: bool = True, index: bool = True) -> Path:
    """Reads of 100 bp every 10 bp over the given contigs, every third on the reverse strand."""
    rng = np.random.default_rng(0)
    header = {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": n, "LN": length} for n, length in CONTIGS.items()]}
    with pysam.FastaFile(str(genome)) as fasta, pysam.AlignmentFile(str(path), "wb", header=header) as bam:
        for contig in contigs:
            starts = np.arange(0, CONTIGS[contig] - LENGTH, 10)
            for start in (starts if sort else rng.permutation(starts)).tolist():
                read = pysam.AlignedSegment(bam.header)
                read.query_name = f"pair{start // 20}"
                read.query_sequence = fasta.fetch(contig, start, start + LENGTH).upper()
                read.query_qualities = pysam.qualitystring_to_array("I" * LENGTH)
                read.reference_id = list(CONTIGS).index(contig)
                read.reference_start = start
                read.mapping_quality = 60
                read.cigartuples = [(0, LENGTH)]
                read.flag = 16 if start % 30 == 0 else 0
                bam.write(read)
    if index:
        pysam.index(str(path))
    return path


def _places(corpus: Corpus, split: str) -> list[Interval]:
    source = corpus.sources[0]
    by_start = {start: name for name, start in source.store.offsets.items()}
    names = [by_start[segment.start].split(":", 2) for segment in getattr(source.splits, split)]
    spans = [(chrom, span.split("-")) for _, span, chrom in names]
    return [Interval(chrom, int(start), int(end)) for chrom, (start, end) in spans]


@pytest.mark.parametrize("contigs", [["chrA", "chrB", "chrC"], ["chrA"]])
def test_no_base_is_under_a_training_and_a_validation_read(
    tiny: Maker, genome: Path, tmp_path: Path, contigs: list[str]
) -> None:
    # Reads overlap each other tenfold: a split by read, or by read number, puts every held-out base into training.
    bam = write_bam(tmp_path / "reads.bam", genome, contigs)
    corpus = open_corpus(tiny(data={"bam": str(bam), "window": 32}))
    train, val = _places(corpus, "train"), _places(corpus, "val")
    assert len(train) > len(val) > 3
    assert not any(a.overlaps(b) for a in train for b in val)
    assert {segment.length for segment in corpus.sources[0].splits.train} == {LENGTH}


def test_reads_are_used_as_they_were_sequenced(tiny: Maker, genome: Path, tmp_path: Path) -> None:
    bam = write_bam(tmp_path / "reads.bam", genome, ["chrA", "chrB"])
    corpus = open_corpus(tiny(data={"bam": str(bam), "val_contigs": ["chrB"]}))
    store = corpus.stores[0]
    first = next(name for name in store.contigs if name.startswith("0:"))
    ids = np.asarray(store.tokens[store.offsets[first] :][:LENGTH])
    with pysam.FastaFile(str(genome)) as fasta:
        bases = fasta.fetch("chrA", 0, LENGTH).upper()
    complement = bases[::-1].translate(str.maketrans("ACGT", "TGCA"))
    assert "".join("ACGT"[i - 7] for i in ids) == complement, "the read at 0 is on the reverse strand"


def test_consensus_windows_come_from_covered_contigs(tiny: Maker, genome: Path, tmp_path: Path) -> None:
    bam = write_bam(tmp_path / "reads.bam", genome, ["chrA", "chrB"])
    corpus = open_corpus(tiny(data={"bam": str(bam), "bam_mode": "consensus", "val_contigs": ["chrB"]}))
    assert list(corpus.stores[0].contigs.items()) == [("chrA", 6000), ("chrB", 5000)]
    with pysam.FastaFile(str(genome)) as fasta:
        bases = fasta.fetch("chrB", 500, 600).upper()
    offset = corpus.stores[0].offsets["chrB"] + 500
    assert "".join("ACGT"[i - 7] for i in corpus.stores[0].tokens[offset : offset + 100]) == bases
    assert corpus.validation_windows(64, 10)[0].shape == (10, 65)


def test_the_store_is_made_once_and_again_for_other_settings(tiny: Maker, genome: Path, tmp_path: Path) -> None:
    bam = write_bam(tmp_path / "reads.bam", genome, ["chrA", "chrB"])
    data = {"bam": str(bam), "val_contigs": ["chrB"]}
    paths = [open_corpus(tiny(data=data | extra)).stores[0].path for extra in ({}, {}, {"min_mapping_quality": 30})]
    assert paths[0] == paths[1] != paths[2]


def test_unsorted_reads_and_exclusions_are_refused(tiny: Maker, genome: Path, tmp_path: Path) -> None:
    bam = write_bam(tmp_path / "reads.bam", genome, ["chrA"], sort=False, index=False)
    with pytest.raises(InputError, match="not sorted"):
        open_corpus(tiny(data={"bam": str(bam)}))
    (tmp_path / "x.bed").write_text("chrA\t0\t10\n")
    with pytest.raises(InputError, match="split by contig"):
        open_corpus(tiny(data={"bam": str(bam), "exclude": str(tmp_path / "x.bed")}))
