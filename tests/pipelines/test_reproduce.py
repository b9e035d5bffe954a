"""`hyena-dna reproduce` on small data of the form of the real ones, with known answers."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pysam
import pytest
import torch
from click.testing import CliRunner

from hyena_dna.baselines.markov import MarkovModel
from hyena_dna.errors import InputError
from hyena_dna.model.checkpoint import save_model
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.reproduction import bits, finetuned, probes
from hyena_dna.reproduction.bits import shorter_windows
from hyena_dna.reproduction.probes import worm_tasks
from hyena_dna.training.config import DataConfig
from hyena_dna.training.corpus import Corpus, genome_corpus
from pipelines.reproduce import command


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "m"
    save_model(HyenaDNA(HyenaConfig(d_model=16, n_layer=2, max_length=1026, filter_order=8)), path)
    return path


def reproduce(*arguments: str | Path) -> str:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def _bases(rng: np.random.Generator, length: int) -> str:
    return "".join(rng.choice(list("ACGT"), length))


def test_shorter_windows_have_the_same_targets() -> None:
    windows = np.arange(2 * 13, dtype=np.uint8).reshape(2, 13)
    short = shorter_windows(windows, 4)
    assert short.shape == (6, 5)
    assert short[1].tolist() == [4, 5, 6, 7, 8]
    assert np.array_equal(short[:, 1:].reshape(2, -1), windows[:, 1:])


def test_bits_and_context(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        contigs = {"a": 20_000, "b": 4000, "c": 5000}
        text = "".join(f">{contig}\n{_bases(rng, size)}\n" for contig, size in contigs.items())
        (tmp_path / f"{name}.fa").write_text(text)

    def corpus(folder: str) -> Corpus:
        paths = tuple(str(Path(folder) / f"{name}.fa") for name in ("one", "two"))
        return genome_corpus(DataConfig(genomes=paths, window=64, val_contigs=("b",), test_contigs=("c",)))

    monkeypatch.setattr(bits, "release_corpus", corpus)
    fit = MarkovModel.fit
    monkeypatch.setattr(MarkovModel, "fit", lambda sequences: fit(sequences, max_order=2))
    options: list[str | Path] = ["--data", tmp_path, "--model", model, "--device", "cpu"]
    numbers = json.loads(reproduce("bits", *options, "--window", "512", "--json"))
    # Random bases hold two bits, and nothing can know more.
    assert numbers["bits per base, one, best Markov model (order 0)"] == pytest.approx(2, abs=0.01)
    assert numbers["bits per base, two, 512 bp"] > 1.99
    found = reproduce("context", *options)
    assert "| genome | 128 bp | 1,024 bp |" in found
    with pytest.raises(InputError, match="longer than the model"):
        reproduce("bits", *options, "--window", "32k")


def test_gue_tells_sets_apart_and_shuffled_labels_do_not(model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, signal in (("tf_0", True), ("tf_1", False)):
        (tmp_path / name).mkdir()
        for part, size in (("train", 300), ("dev", 100), ("test", 200)):
            rows = ["sequence,label"]
            for number in range(size):
                sequence = _bases(rng, 60)
                if signal and number % 2:
                    sequence = sequence[:20] + "GGGCGGGGCGGGGCGGGGCGGGGCGG" + sequence[46:]
                rows.append(f"{sequence},{number % 2}")
            (tmp_path / name / f"{part}.csv").write_text("\n".join(rows) + "\n")
    options: list[str | Path] = [
        "--data",
        tmp_path,
        "--model",
        model,
        "--device",
        "cpu",
        "--pool",
        "mean+std",
        "--layer",
        "1,2",
    ]
    numbers = json.loads(reproduce("gue", *options, "--sets", "tf_0", "--sets", "tf_1", "--no-baselines", "--json"))
    assert numbers["tf_0, frozen embeddings, AUROC"] > 0.9
    assert 0.35 < numbers["tf_1, frozen embeddings, AUROC"] < 0.65
    assert "layer 1,2, pool mean+std" in reproduce("gue", *options, "--sets", "tf_0", "--no-baselines")
    with pytest.raises(InputError, match="prom_core_all"):
        reproduce("gue", *options)
    with pytest.raises(InputError, match="no GUE set"):
        reproduce("gue", *options, "--sets", "tf_9")


def test_finetuned_sets_run_once_and_stand_beside_their_baselines(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "tf_0").mkdir()
    for part, size in (("train", 160), ("dev", 60), ("test", 80)):
        rows = ["sequence,label"]
        for number in range(size):
            sequence = _bases(rng, 60)
            rows.append(f"{sequence[:20] + 'GGGCGGGGCGGGGCGG' * (number % 2) + sequence[20:]},{number % 2}")
        (tmp_path / "tf_0" / f"{part}.csv").write_text("\n".join(rows) + "\n")
    contigs = ("chrI", "chrII", "chrIII")
    genome = {name: list(_bases(rng, 30_000)) for name in contigs}
    elements = []
    for number, (name, at) in enumerate(itertools.product(contigs, range(1000, 29_000, 700))):
        label = ("putative_enhancer", "coding_promoter")[number % 2]
        if number % 2:
            genome[name][at : at + 200] = list("GCGGC" * 40)
        elements.append(f"{name}\t{at}\t{at + 200}\t{label}\t0\t.")
    (tmp_path / "ce10.fa").write_text("".join(f">{name}\n{''.join(text)}\n" for name, text in genome.items()))
    pysam.tabix_compress(str(tmp_path / "ce10.fa"), str(tmp_path / "ce10.fa.gz"))
    (tmp_path / "regulatory_elements.bed").write_text("\n".join(elements) + "\n")
    options: list[str | Path] = ["--data", tmp_path, "--model", model, "--device", "cpu", "-q", "-o", tmp_path / "runs"]
    sets = ["--only", "tf_0", "--only", "ce10-promoter-512"]
    numbers = json.loads(reproduce("finetuned", *options, *sets, "--json"))
    assert numbers["tf_0, fine-tuned, AUROC"] > 0.9
    assert numbers["ce10-promoter-512, fine-tuned, AUROC"] > 0.9
    assert len(numbers) == 2 * 4 * 2, "two metrics of the model and three baselines on two sets"
    # What is finished is read, not run again.
    monkeypatch.setattr(finetuned, "finetune", None)
    found = reproduce("finetuned", *options, *sets)
    assert "| tf_0 | 80 | " in found
    assert f"{numbers['tf_0, fine-tuned, MCC']:.3f} (" in found
    assert "GC content" in found
    other = tmp_path / "other"
    torch.manual_seed(1)
    save_model(HyenaDNA(HyenaConfig(d_model=16, n_layer=2, max_length=1026, filter_order=8)), other)
    with pytest.raises(InputError, match="from another model"):
        reproduce("finetuned", *[other if option == model else option for option in options], *sets)
    (chosen,) = finetuned.finetuned_sets(str(tmp_path), ["tf_0"])
    optim = chosen.config.optim.model_copy(update={"lr": 1e-5})
    changed = dataclasses.replace(chosen, config=chosen.config.model_copy(update={"optim": optim}))
    with pytest.raises(InputError, match="with other settings"):
        finetuned.run_set(changed, tmp_path / "runs", model=str(model), device="cpu", quiet=True)
    with pytest.raises(InputError, match="no set 'tf_9'"):
        reproduce("finetuned", *options, "--only", "tf_9")
    with pytest.raises(InputError, match="mouse_0"):
        reproduce("finetuned", *options, "--only", "mouse_0")


def test_worm_elements_stay_in_their_split_and_background_is_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    contigs = ("chrI", "chrII", "chrIII", "chrIV", "chrV")
    genome = {name: _bases(rng, 20_000) for name in contigs}
    (tmp_path / "ce10.fa").write_text("".join(f">{name}\n{text}\n" for name, text in genome.items()))
    pysam.tabix_compress(str(tmp_path / "ce10.fa"), str(tmp_path / "ce10.fa.gz"))
    labels = ("putative_enhancer", "coding_promoter")
    rows = [
        f"{name}\t{at}\t{at + 100}\t{labels[at % 4000 > 0]}\t0\t." for name in contigs for at in range(0, 20_000, 2000)
    ]
    (tmp_path / "regulatory_elements.bed").write_text("\n".join(rows) + "\n")
    element, kinds = worm_tasks(str(tmp_path))
    assert all(sequence.decode() in genome["chrII"] for sequence in element.test.sequences)
    assert all(sequence.decode() in genome["chrIII"] for sequence in element.dev.sequences)
    train = genome["chrI"] + genome["chrIV"] + genome["chrV"]
    assert all(sequence.decode() in train for sequence in element.train.sequences)
    # The first window of each contig would begin before it; between the others there is room for one each.
    assert (element.test.targets == 1).sum() == 9
    assert (element.test.targets == 0).sum() == 8
    assert {len(sequence) for sequence in element.test.sequences} == {probes._WINDOW}
    assert (kinds.test.targets == 1).sum() == 5


def test_brca1_is_scored_by_consequence(model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    text = _bases(rng, 2000)
    (tmp_path / "brca1_region.fa").write_text(f">r\n{text}\n")
    pysam.tabix_compress(str(tmp_path / "brca1_region.fa"), str(tmp_path / "brca1_region.fa.gz"))
    lines = [
        "##fileformat=VCFv4.3", "##contig=<ID=r,length=2000>",
        '##INFO=<ID=SGE_CLASS,Number=1,Type=String,Description="class">',
        '##INFO=<ID=CONSEQUENCE,Number=1,Type=String,Description="consequence">',
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO",
    ]  # fmt: skip
    for number in range(40):
        pos = 500 + 20 * number
        ref = text[pos - 1]
        kind = ("LOF", "FUNC", "INT", "FUNC")[number % 4]
        where = "Missense" if number < 30 else "Nonsense"
        lines.append(f"r\t{pos}\t.\t{ref}\t{'ACGT'['ACGT'.index(ref) - 1]}\t.\t.\tSGE_CLASS={kind};CONSEQUENCE={where}")
    (tmp_path / "sge.vcf").write_text("\n".join(lines) + "\n")
    pysam.tabix_compress(str(tmp_path / "sge.vcf"), str(tmp_path / "brca1_sge.vcf.gz"))
    options: list[str | Path] = ["--data", tmp_path, "--model", model, "--device", "cpu", "--window", "256"]
    found = reproduce("brca1", *options)
    assert "| all | 10 | 20 |" in found
    assert "| Missense | 8 | 14 |" in found or "| Missense | 8 | 15 |" in found
    assert "Nonsense" not in found, "too few of one class"
    numbers = json.loads(reproduce("brca1", *options, "--json"))
    assert all(0 <= value <= 1 for value in numbers.values())
    with pytest.raises(InputError, match="brca1_region"):
        reproduce("brca1", "--data", model, *options[2:])
