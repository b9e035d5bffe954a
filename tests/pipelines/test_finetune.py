"""`hyena-dna finetune` from files to files: every mode, every refusal before anything is written, resuming, leaks."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from hyena_dna.errors import InputError
from hyena_dna.model.checkpoint import load_model, save_model
from hyena_dna.model.classifier import load_classifier
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.training import finetune_fit
from hyena_dna.training.signals import StopSignals
from pipelines.finetune import command
from pipelines.options import DEFAULT_MODEL
from pipelines.predict import command as predict

QUICK = ("--set", "trainer.baselines=[]", "--set", "trainer.bootstrap=20", "--device", "cpu", "-q")
MOTIF = "GGCCAATCTTAG"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "m"
    save_model(HyenaDNA(HyenaConfig(d_model=16, n_layer=2, max_length=66, filter_order=8, embed_dropout=0.0)), path)
    return path


def sequences(count: int, seed: int = 0) -> list[tuple[str, int]]:
    """Sequences of 48 bp, half of them with a motif on either strand."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        bases = rng.choice(list("ACGT"), 48)
        if number % 2:
            start = rng.integers(0, 36)
            bases[start : start + 12] = list(MOTIF)
        found.append(("".join(bases), number % 2))
    return found


def write(path: Path, rows: list[tuple[str, Any]]) -> str:
    path.write_text("sequence,label\n" + "".join(f"{sequence},{label}\n" for sequence, label in rows))
    return str(path)


@pytest.fixture
def tables(tmp_path: Path) -> list[str]:
    """Options for a table per split."""
    counts = {"train": 240, "dev": 100, "test": 100}
    return [part for index, (name, count) in enumerate(counts.items())
            for part in (f"--{name}", write(tmp_path / f"{name}.csv", sequences(count, index)))]  # fmt: skip


def run(*arguments: object, code: int = 0) -> Any:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    assert (result.return_value or 0) == code
    return result


def metrics(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return content


@pytest.mark.parametrize("mode", ["full", "probe", "lora", "scratch"])
def test_every_mode_learns_a_motif(mode: str, model: Path, tables: list[str], tmp_path: Path) -> None:
    if mode == "lora":
        pytest.importorskip("peft")
    rate = "1e-2" if mode == "lora" else "3e-3"
    # From random weights it takes longer: ten seeds all reach 1, where half the epochs leave it to luck.
    epochs = 12 if mode == "scratch" else 6
    fast = ("--epochs", epochs, "--lr", rate, "--set", "optim.batch_size=24")
    out = tmp_path / "run"
    result = run("--model", model, *tables, "--mode", mode, "-o", out, *fast, *QUICK, "--json")
    summary = json.loads(result.output)
    assert summary["status"] == "finished"
    assert summary["counts"]["train"] == {"0": 120, "1": 120}
    assert summary["result"]["metrics"]["auroc"]["value"] > 0.75
    found = metrics(out)
    assert found["evaluated_on"] == "test"
    assert found["evaluation"]["rows"] == 100
    # The model in the folder gives the probabilities of the table, whatever the mode.
    classifier = load_classifier(out)
    with open(out / "predictions.tsv", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    ids = torch.from_numpy(np.stack([classifier.model.tokenizer.encode(s) for s, _ in sequences(100, 2)]))
    with torch.inference_mode():
        again = classifier.task.probabilities(classifier.predict(ids))[:, 0]
    assert np.allclose([float(row["1"]) for row in rows], again.numpy(), atol=2e-4)
    assert [row["label"] for row in rows] == [str(label) for _, label in sequences(100, 2)]
    plain, before = load_model(out), load_model(model)
    unchanged = all(torch.equal(a, b) for a, b in zip(plain.parameters(), before.parameters(), strict=True))
    assert unchanged == (mode == "probe")
    assert (out / "report.html").stat().st_size > 10_000
    assert not [path for path in out.rglob("*") if ".tmp." in path.name]


@pytest.mark.parametrize("mode", ["full", "probe"])
def test_deviations_are_pooled_in_the_saved_model_too(
    mode: str, model: Path, tables: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    # One epoch teaches a head of its own nothing: this one begins as that of a probe of all blocks.
    head = ["--set", "head.from_probe=true", "--set", "head.layers=all"]
    run("--model", model, *tables, "--mode", mode, "--pooling", "mean+std", "--epochs", 1, "-o", out, *QUICK, *head)
    classifier = load_classifier(out)
    assert classifier.task.pooling == "mean+std"
    assert (classifier.classifier.output.in_features / (2 * 2 * 16)) in (1, 2), "means and deviations of two blocks"
    assert metrics(out)["evaluation"]["metrics"]["auroc"]["value"] > 0.7
    with open(tmp_path / "test.csv", encoding="utf-8") as handle:
        given = [row["sequence"] for row in csv.DictReader(handle)]
    arguments = ["--model", str(out), "--csv", str(tmp_path / "test.csv"), "-o", str(tmp_path / "p.tsv"), "--device",
                 "cpu"]  # fmt: skip
    predict.main(arguments, standalone_mode=False)
    with open(tmp_path / "p.tsv", encoding="utf-8") as handle:
        predicted = [float(row["1"]) for row in csv.DictReader(handle, delimiter="\t")]
    with open(out / "predictions.tsv", encoding="utf-8") as handle:
        tested = [float(row["1"]) for row in csv.DictReader(handle, delimiter="\t")]
    assert len(predicted) == len(given) == 100
    assert np.allclose(predicted, tested, atol=2e-4)


@pytest.mark.parametrize("mode", ["full", "probe"])
def test_shuffled_labels_give_chance(mode: str, model: Path, tmp_path: Path) -> None:
    # Whatever leaks from the test examples into training, choosing or calibration would lift this above one half.
    rng = np.random.default_rng(5)
    options: list[str] = []
    for index, name in enumerate(("train", "dev", "test")):
        rows = sequences((300, 300, 1200)[index], index)
        labels = rng.permutation([label for _, label in rows])
        options += [f"--{name}", write(tmp_path / f"{name}.csv", [(s, label) for (s, _), label in
                    zip(rows, labels, strict=True)])]  # fmt: skip
    run("--model", model, *options, "--mode", mode, "--epochs", 2, "-o", tmp_path / "run", *QUICK)
    assert abs(metrics(tmp_path / "run")["evaluation"]["metrics"]["auroc"]["value"] - 0.5) <= 0.05


def test_shuffled_labels_give_chance_in_folds(model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    rows = sequences(1200)
    labels = rng.permutation([label for _, label in rows])
    path = write(tmp_path / "t.csv", [(s, label) for (s, _), label in zip(rows, labels, strict=True)])
    run("--model", model, "--train", path, "--k-folds", 5, "--mode", "probe", "-o", tmp_path / "run", *QUICK)
    found = metrics(tmp_path / "run")
    assert found["evaluation"]["rows"] == 1200
    assert abs(found["evaluation"]["metrics"]["auroc"]["value"] - 0.5) <= 0.05


def test_baselines_stand_beside_the_network(model: Path, tables: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    run("--model", model, *tables, "--mode", "probe", "-o", out, *QUICK, "--set", "trainer.baselines=[gc,kmer]")
    found = metrics(out)["baselines"]
    assert set(found) == {"gc", "kmer"}
    assert found["kmer"]["evaluation"]["metrics"]["auroc"]["value"] > 0.8
    assert found["gc"]["evaluation"]["metrics"]["auroc"]["value"] < 0.8
    assert found["gc"]["auroc_difference"]["low"] < found["gc"]["auroc_difference"]["high"]


def test_seeds_and_folds_have_a_mean_and_an_interval(model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", sequences(150))
    out = tmp_path / "run"
    run("--model", model, "--train", path, "--k-folds", 3, "--seeds", 2, "--mode", "probe", "-o", out, *QUICK,
        "--set", "probe.max_train=60")  # fmt: skip
    found = metrics(out)
    assert [(one["seed"], one["fold"]) for one in found["runs"]] == [(2222 + s, f) for s in range(2) for f in range(3)]
    summary = found["summary"]["auroc"]
    values = [one["metrics"]["auroc"] for one in found["runs"]]
    assert summary["runs"] == 6
    assert summary["mean"] == pytest.approx(np.mean(values))
    # Student's t with five degrees of freedom.
    assert summary["high"] - summary["mean"] == pytest.approx(2.5706 * np.std(values, ddof=1) / 6**0.5, rel=1e-3)


class _StopAt(StopSignals):
    """As if a signal came during a step."""

    steps = 0

    @property
    def exit_code(self) -> int | None:
        _StopAt.steps += 1
        return 143 if _StopAt.steps >= self.at else None

    @exit_code.setter
    def exit_code(self, _: int | None) -> None:
        pass

    at = 0


@pytest.mark.parametrize("at", [pytest.param(3, marks=pytest.mark.slow), 11])
def test_a_resumed_run_ends_as_an_uninterrupted_one(
    at: int, model: Path, tables: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("--model", model, *tables, "--epochs", 2, "--lr", "3e-3", "--set", "optim.batch_size=60", "--seeds", 2,
              *QUICK)  # fmt: skip
    run(*common, "-o", tmp_path / "whole")
    _StopAt.steps, _StopAt.at = 0, at
    with monkeypatch.context() as patch:
        patch.setattr("hyena_dna.training.finetune.StopSignals", _StopAt)
        run(*common, "-o", tmp_path / "parts", code=143)
    record = json.loads((tmp_path / "parts" / "run.json").read_text())
    assert record["status"] == "stopped"
    assert not (tmp_path / "parts" / "metrics.json").exists()
    with pytest.raises(InputError, match="holds a run already"):
        run(*common, "-o", tmp_path / "parts")
    run(*common, "-o", tmp_path / "parts", "--resume")
    for name in ("metrics.csv", "predictions.tsv", "model/model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name
    tokens = [json.loads((tmp_path / name / "run.json").read_text())["tokens"] for name in ("whole", "parts")]
    assert tokens[0] == tokens[1] > 0
    with pytest.raises(InputError, match=r"began with optim\.lr = 0\.003, not 0\.1"):
        run(*common, "-o", tmp_path / "parts", "--resume", "--lr", "0.1")


def test_other_data_are_no_resuming(model: Path, tables: list[str], tmp_path: Path) -> None:
    common = ("--model", model, *tables, "--mode", "probe", "-o", tmp_path / "run", *QUICK)
    run(*common)
    write(tmp_path / "train.csv", sequences(242))
    with pytest.raises(InputError, match="not what the run began with"):
        run(*common, "--resume")


def test_regions_with_background_of_like_gc(model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines: list[str] = []
    with open(tmp_path / "genome.fa", "w", encoding="ascii") as handle:
        for chrom in ("chr1", "chr2", "chr3"):
            bases = rng.choice(list("ACGT"), 12_000)
            for start in range(200, 11_000, 300):
                bases[start + 10 : start + 22] = list(MOTIF)
                lines.append(f"{chrom}\t{start}\t{start + 48}\tpeak{len(lines)}\t9\t.\t5\t5\t5\t20\n")
            handle.write(f">{chrom}\n{''.join(bases)}\n")
    (tmp_path / "peaks.narrowPeak").write_text("".join(lines))
    common = ("--model", model, "-g", tmp_path / "genome.fa", "--regions", tmp_path / "peaks.narrowPeak",
              "--val-contigs", "chr2", "--test-contigs", "chr3", "--mode", "probe", *QUICK)  # fmt: skip
    run(*common, "--negatives", "gc", "-o", tmp_path / "gc")
    found = metrics(tmp_path / "gc")
    assert found["labels"] == ["background", "positive"]
    assert found["splits"][0]["counts"]["test"] == {"background": 36, "positive": 36}
    assert list(found["evaluation"]["per_group"]) == ["chr3"]
    assert found["evaluation"]["metrics"]["auroc"]["value"] > 0.6
    pytest.importorskip("tangermeme")
    run(*common, "--negatives", "dinucleotide", "-o", tmp_path / "shuffled")
    assert metrics(tmp_path / "shuffled")["splits"][0]["counts"]["train"] == {"background": 36, "positive": 36}


@pytest.mark.parametrize(
    ("labels", "options", "kind"),
    [(["a", "b", "c"], (), "multiclass"), (["a;b", "b", "a", "c;a"], (), "multilabel"),
     (["0.5", "1.25", "-3"], (), "regression"), (["0", "1", "2"], ("--task", "regression"), "regression")],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["probe", "full"])
def test_other_tasks(
    labels: list[str], options: tuple[str, ...], kind: str, mode: str, model: Path, tmp_path: Path
) -> None:
    # Each label is another composition, which is easily learnt.
    rng = np.random.default_rng(0)
    rows = []
    for number in range(180):
        weights = np.ones(4)
        weights[number % len(labels)] = 5
        rows.append(("".join(rng.choice(list("ACGT"), 30 + number % 20, p=weights / weights.sum())),
                     labels[number % len(labels)]))  # fmt: skip
    path = write(tmp_path / "t.csv", rows)
    run("--model", model, "--train", path, *options, "--mode", mode, "--epochs", 2, "--lr", "1e-3", "-o",
        tmp_path / "run", *QUICK)  # fmt: skip
    found = metrics(tmp_path / "run")
    assert found["kind"] == kind
    value = found["evaluation"]["metrics"]["spearman" if kind == "regression" else "auroc"]["value"]
    assert value > 0.6
    if kind == "regression":
        # In the unit of the labels, not of what was trained on.
        assert found["evaluation"]["metrics"]["mse"]["value"] < np.var([float(label) for _, label in rows])


def test_the_bundled_model_is_the_default(tables: list[str], tmp_path: Path) -> None:
    facts = json.loads(run(*tables, "-o", tmp_path / "run", "--dry-run", "--json", *QUICK).output)
    bundled = load_model(DEFAULT_MODEL)
    assert facts["parameters"] == sum(parameter.numel() for parameter in bundled.parameters())
    assert not (tmp_path / "run").exists()


def test_dry_run_writes_nothing(model: Path, tables: list[str], tmp_path: Path) -> None:
    result = run("--model", model, *tables, "-o", tmp_path / "run", "--dry-run", "--json", *QUICK)
    facts = json.loads(result.output)
    assert facts["kind"] == "binary"
    assert facts["counts"]["test"] == {"0": 50, "1": 50}
    assert not (tmp_path / "run").exists()


GOOD = "chr1\t10\t40\ta\nchr2\t10\t40\tb\nchr1\t60\t90\tb\nchr2\t60\t90\ta\nchr3\t10\t40\ta\nchr3\t60\t90\tb\n"


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("chr1\t10\t1200\ta\n", (), r"regions\.bed:1: end 1200 > chr1 length 1000"),
        ("chr1\t40\t40\ta\n", (), r"regions\.bed:1: the region is empty"),
        ("chr1\t-4\t40\ta\n", (), r"regions\.bed:1: the start '-4'"),
        ("chr1\t970\t1001\ta\n", (), "1-based"),
        ("chr1:11-40\n", (), "1-based"),
        ("1\t10\t40\ta\n", (), r"regions\.bed:1: '1' is not a contig"),
        ("chrM\t10\t40\ta\n", (), r"regions\.bed:1: 'chrM' is not a contig"),
        (GOOD + "chr1\t100\t120\t.\n", (), r"regions\.bed:7: the label is missing"),
        (GOOD + "chr1\t100\t120\tnan\n", (), r"regions\.bed:7: the label 'nan' is not a finite number"),
        (GOOD.replace("\tb\n", "\ta\n"), (), "one class only: a"),
        ("chr1\t10\t40\ta\nchr1\t60\t90\ta\nchr2\t10\t40\ta\nchr2\t60\t90\tb\nchr3\t10\t40\tb\n", (),
         "training has one class only"),
        (GOOD + "chr3\t100\t120\tc\n", (), r"regions\.bed:7: the label 'c' is met in testing only"),
        (GOOD + "chr1\t1_0\t120\ta\n", (), r"regions\.bed:7: the start '1_0'"),
        (GOOD + "chr1\t100\t1e3\ta\n", (), r"regions\.bed:7: the end '1e3'"),
        (GOOD + "chr1\t100\n", (), r"regions\.bed:7: 2 columns where there were 4"),
        (GOOD + "chr1\t10\t40\tb\n", (), r"regions\.bed:7: the region has label 'b' here and 'a' in line 1"),
        (GOOD + "chr1,100,120,a\n", (), r"regions\.bed:7"),
        ("", (), "no regions"),
        ("# only a comment\n", (), "no regions"),
        (GOOD + "chr1\t100\t200\ta\n", (), r"regions\.bed:7: 1 examples are longer than the 66 bp"),
        (GOOD, ("--window", "67"), r"longer than the 66 bp that the model reads"),
        (GOOD, ("--val-contigs", "chr7"), "no contig in use matches 'chr7'"),
        (GOOD, ("--val-contigs", "chr2", "--test-contigs", "chr2"), "for validation and for testing"),
        (GOOD, ("--val-contigs", "chr*", ), "training has no examples|there are no examples for training"),
        (GOOD, ("--k-folds", "3", "--val-contigs", "chr1"), "two ways of splitting"),
        (GOOD, ("--class", "x=q"), "no example has a label of class 'x'"),
        (GOOD, ("--class", "x="), "NAME=LABEL"),
        (GOOD, ("--positive", "z"), "not one of two classes"),
        (GOOD, ("--task", "regression"), r"regions\.bed:1: the label 'a' is not a number"),
        (GOOD, ("--set", "optim.metric=beauty"), "no metric 'beauty'"),
        (GOOD, ("--set", "optim.class_weights={c: 2}"), "class_weights names 'c'"),
        (GOOD, ("--set", "head.layers=[3]"), "blocks 1 to 2"),
        (GOOD, ("--set", "optim.colour=red"), "unknown key"),
        (GOOD, ("--label-column", "9"), "no column 9"),
        (GOOD, ("--fasta", "a"), "NAME=FILE"),
        (GOOD, ("--config", "nothing-like-it"), "no such shipped configuration"),
    ],
)  # fmt: skip
def test_bad_regions_are_refused_before_anything_is_written(
    text: str, options: tuple[str, ...], message: str, model: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "genome.fa").write_text(
        "".join(f">chr{i}\n{''.join(rng.choice(list('ACGT'), 1000))}\n" for i in (1, 2, 3))
    )
    (tmp_path / "regions.bed").write_text(text)
    common = ("--model", model, "-g", tmp_path / "genome.fa", "--regions", tmp_path / "regions.bed")
    splits = () if {"--val-contigs", "--k-folds"} & set(options) else ("--val-contigs", "chr2", "--test-contigs",
                                                                       "chr3")  # fmt: skip
    with pytest.raises(InputError, match=message):
        run(*common, *splits, *options, "-o", tmp_path / "run", *QUICK)
    written = tmp_path / "run"
    assert not (written / "model").exists()
    assert not (written / "metrics.json").exists()


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("sequence,label\nACGT,1\nACXT,0\n", (), r"t\.csv:3: 'X' at position 3"),
        ("sequence,label\nACGU,1\n", (), "RNA"),
        ("sequence,label\n,1\n", (), "the sequence is empty"),
        ("sequence,label\nACGT,\n", (), r"t\.csv:2: the label is missing"),
        ("sequence,label\nACGT\n", (), r"t\.csv:2: 1 columns, but the header names 2"),
        ("sequence,label\n", (), "no rows"),
        ("", (), "empty"),
        ("name,label\nx,1\n", (), "no column 'sequence'"),
        ('sequence,label\n"ACGT,1\nACGT,0\n', (), r"t\.csv:2: the quoting is wrong"),
        ("sequence,label\nACGT,1\nAAAA,0\n", ("--val-contigs", "chr1"), "these are sequences"),
        ("sequence,label\nACGT,1\nAAAA,0\n", (), "too few"),
        ("sequence,label,split\nACGT,1,train\nAAAA,0,\n", (), "the split is missing"),
        ("sequence,label\nACGT,1\nAAAA,0\n", ("--negatives", "gc"), "needs regions of a genome"),
        (f"sequence,label\n{'A' * 70},1\nAAAA,0\n", (), r"t\.csv:2: 1 examples are longer than the 66 bp"),
        ("chrom,start,end,label\nchr1,1,4,a\n", (), "need a genome"),
    ],
)
def test_bad_tables_are_refused_before_anything_is_written(
    text: str, options: tuple[str, ...], message: str, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        run("--model", model, "--train", tmp_path / "t.csv", *options, "-o", tmp_path / "run", *QUICK)
    assert not (tmp_path / "run").exists()


def test_bytes_that_are_no_text(model: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"sequence,label\nACGT,\xff\n")
    with pytest.raises(InputError, match=r"t\.csv:2|not UTF-8 text at byte"):
        run("--model", model, "--train", tmp_path / "t.csv", "-o", tmp_path / "run", *QUICK)
    # A byte order mark and CRLF are what spreadsheets write.
    rows = "".join(f"{sequence},{label}\r\n" for sequence, label in sequences(120))
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfsequence,label\r\n" + rows.encode())
    run("--model", model, "--train", tmp_path / "t.csv", "--mode", "probe", "-o", tmp_path / "run", *QUICK)


def test_what_is_missing_or_too_much(model: Path, tables: list[str], tmp_path: Path) -> None:
    for arguments, message in (
        (("--model", model), "nothing to learn from"),
        (("--model", model, "--dev", tables[1]), "go with --train"),
        (("--model", model, *tables, "--mode", "probe", "--pooling", "attention"), "learnt by gradients"),
        (("--model", model, *tables, "--k-folds", 3), "--k-folds splits one table"),
        (("--model", model, *tables, "--set", "model={d_model: 8, n_layer: 1, max_length: 50}"), "for mode scratch"),
        (("--model", tmp_path / "none", *tables), "no such file"),
    ):
        with pytest.raises(InputError, match=message):
            run(*arguments, "-o", tmp_path / "run", *QUICK)
        assert not (tmp_path / "run").exists()


def test_shared_sequence_between_tables(model: Path, tmp_path: Path) -> None:
    rows = sequences(120)
    train, dev = write(tmp_path / "train.csv", rows[:80]), write(tmp_path / "dev.csv", rows[70:])
    common = ("--model", model, "--train", train, "--dev", dev, "--mode", "probe", *QUICK)
    with pytest.raises(InputError, match=r"dev\.csv:2: examples share sequence .* \(10 of val and train\)"):
        run(*common, "-o", tmp_path / "run")
    run(*common, "-o", tmp_path / "run", "--overlap", "drop")
    found = metrics(tmp_path / "run")
    assert found["splits"][0]["counts"]["train"] == {"0": 35, "1": 35}
    assert found["evaluated_on"] == "validation"
    assert found["splits"][0]["sharing_sequence"]["val and train"] == 10


def test_an_architecture_from_scratch(tables: list[str], tmp_path: Path) -> None:
    model = "model={d_model: 8, n_layer: 1, max_length: 50, filter_order: 8}"
    run(*tables, "--mode", "scratch", "--set", model, "--epochs", 1, "-o", tmp_path / "run", *QUICK)
    assert load_model(tmp_path / "run").config.d_model == 8


@pytest.mark.parametrize(("from_probe", "kept"), [("true", 0), ("false", 1)])
def test_early_stopping_looks_at_validation_only(
    from_probe: str, kept: int, model: Path, tables: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    whole = finetune_fit.validation_value

    def watch(task: Any, targets: Any, logits: Any, metric: Any) -> tuple[str, float]:
        seen.append(len(targets))
        # Worse from epoch to epoch: the first one is kept, and patience ends the run.
        return whole(task, targets, logits, metric)[0], 1.0 / len(seen)

    monkeypatch.setattr(finetune_fit, "validation_value", watch)
    run("--model", model, *tables[:-2], "--test", write(tmp_path / "t.csv", sequences(64, 9)), "--epochs", 9, "-o",
        tmp_path / "run", *QUICK, "--set", "optim.patience=2", "--set", f"head.from_probe={from_probe}")  # fmt: skip
    assert seen == [100] * 3
    # A head that a probe gave is a candidate before the first epoch.
    assert metrics(tmp_path / "run")["runs"][0]["best_epoch"] == kept
