from __future__ import annotations

import json
import re
from pathlib import Path

import pysam
import pytest

from hyena_dna.errors import InputError
from hyena_dna.files import sha256_file
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.reference import Reference
from hyena_dna.simulation.simulate import Simulation, simulate


def _sums(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in folder.iterdir()}


def test_the_same_seed_gives_the_same_bytes_anywhere(example: Simulation, tmp_path: Path) -> None:
    again = simulate(tmp_path / "other name", seed=5, length=300_000, contigs=3)
    assert _sums(again.output) == _sums(example.output)


def test_another_seed_gives_another_genome(example: Simulation, tmp_path: Path) -> None:
    other = _sums(simulate(tmp_path / "set", seed=6, length=300_000, contigs=3).output)
    mine = _sums(example.output)
    assert {name for name in mine if mine[name] == other[name]} == {"splits.json"}


def test_every_file_is_described(example: Simulation) -> None:
    text = (example.output / "README.md").read_text()
    assert text.isascii()
    table = {
        cell
        for line in text.splitlines()
        if line.startswith("| `")
        for cell in re.findall("`([^`]*)`", line.split("|")[1])
    }
    data = {name for name in table if not name.startswith(".")}
    made = {path.name for path in example.output.iterdir()} - {"README.md"}
    assert data < made
    indexes = made - data
    assert all(any(name.startswith(f"{file}.") for file in data) for name in indexes)
    assert {Path(name).suffix for name in indexes} == {name for name in table if name.startswith(".")}


def test_truth_counts_what_is_there(example: Simulation) -> None:
    truth = json.loads((example.output / "truth.json").read_text())
    assert truth["seed"] == example.seed
    assert truth["contigs"] == example.contigs
    assert truth["length"] == sum(example.contigs.values()) == 300_000
    assert truth["elements"] == example.elements
    with pysam.VariantFile(str(example.output / "variants.vcf.gz")) as handle:
        assert truth["records"] == sum(1 for _ in handle)
    with pysam.AlignmentFile(str(example.output / "reads.bam")) as bam:
        assert truth["reads"] == sum(1 for _ in bam.fetch(until_eof=True))
    splits = json.loads((example.output / "splits.json").read_text())
    assert [name for fold in ("train", "valid", "test") for name in splits[fold]] == list(example.contigs)


def test_the_genome_is_accepted_by_our_own_reader(example: Simulation, tmp_path: Path) -> None:
    with Reference(example.output / "genome.fa.gz", cache=tmp_path) as reference:
        assert reference.contigs == example.contigs
        with pysam.FastaFile(str(example.output / "genome.fa.gz")) as fasta:
            for name, length in example.contigs.items():
                assert reference.fetch(Interval(name, 0, length)).decode() == fasta.fetch(name).upper()


def test_fasta_index_and_soft_masking(example: Simulation) -> None:
    with pysam.FastaFile(str(example.output / "genome.fa.gz")) as fasta:
        sequences = {name: fasta.fetch(name) for name in fasta.references}
    assert {name: len(sequence) for name, sequence in sequences.items()} == example.contigs
    lower = sum(base.islower() for sequence in sequences.values() for base in sequence)
    repeats = [line.split("\t") for line in (example.output / "repeats.bed").read_text().splitlines()]
    assert lower == sum(int(row[2]) - int(row[1]) for row in repeats)
    assert all(sequences[row[0]][int(row[1]) : int(row[2])].islower() for row in repeats)


def test_nothing_is_replaced_without_force(example: Simulation) -> None:
    before = _sums(example.output)
    with pytest.raises(InputError, match="exists already"):
        simulate(example.output, seed=5, length=300_000, contigs=3)
    assert _sums(example.output) == before


@pytest.mark.parametrize(
    ("seed", "length", "contigs"),
    [(-1, 300_000, 3), (1, 10_000, 6), (1, 10**10, 6), (1, 300_000, 2), (1, -5, 6), (1, 300_000, 10**6)],
)
def test_bad_values_are_refused_and_leave_nothing(seed: int, length: int, contigs: int, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        simulate(tmp_path / "set", seed=seed, length=length, contigs=contigs)
    assert list(tmp_path.iterdir()) == []


def test_the_smallest_genome_has_everything(tmp_path: Path) -> None:
    made = simulate(tmp_path / "set", seed=2, length=80_000, contigs=3)
    assert made.genes >= 3
    assert min(made.elements.values()) > 10
    assert set(made.elements) == {"promoter", "enhancer", "background"}
