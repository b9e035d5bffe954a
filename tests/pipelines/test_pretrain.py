"""`hyena-dna pretrain` from the command line: what it writes, what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hyena_dna.baselines.markov import MarkovModel
from hyena_dna.model.checkpoint import load_model
from hyena_dna.training.checkpoints import latest_checkpoint, load_checkpoint
from hyena_dna.training.engine import Engine
from hyena_dna.training.metrics_log import METRIC_COLUMNS
from pipelines.cli import main

CONFIG = """
model: {d_model: 8, n_layer: 1, max_length: 66, filter_order: 8}
data: {window: 64}
optim: {duration: 12 steps, batch_tokens: 512, lr: 3e-3}
trainer: {val_every: 5, val_windows: 8, checkpoint_every: 4, log_every: 1}
"""


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path]:
    """A genome and a configuration."""
    rng = np.random.default_rng(0)
    genome, config = tmp_path / "genome.fa", tmp_path / "small.yaml"
    with open(genome, "w", encoding="ascii") as handle:
        for name, length in (("chr1", 6000), ("chr2", 3000), ("chr3", 700), ("chr1_x_alt", 2000)):
            text = rng.choice(np.frombuffer(b"AACGTT", np.uint8), length).tobytes().decode("ascii")
            handle.write(f">{name}\n{text}\n")
    config.write_text(CONFIG)
    return genome, config


def _run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["pretrain", "--device", "cpu", "--threads", "1", *map(str, arguments)])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_a_run_leaves_a_model_logs_and_a_report(
    inputs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    genome, config = inputs
    run = tmp_path / "runs" / "first"
    assert _run("-g", genome, "-c", config, "-o", run, "--json", "--val-contigs", "chr3") == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert summary["status"] == "finished"
    assert summary["step"] == 12
    record = json.loads((run / "run.json").read_text())
    assert record["data"]["dropped"] == ["chr1_x_alt"]
    assert record["data"]["validation"]["contigs"] == ["chr3"]
    assert record["inputs"][0]["path"] == str(genome)
    assert len(record["result"]["markov_bits_per_base"]) == 13
    assert record["result"]["val_perplexity"] == pytest.approx(2 ** record["result"]["val_bits_per_base"])
    with open(run / "metrics.csv", encoding="ascii") as handle:
        rows = list(csv.DictReader(handle))
    assert tuple(rows[0]) == METRIC_COLUMNS
    assert [int(row["step"]) for row in rows if row["loss"]] == list(range(1, 13))
    assert [int(row["step"]) for row in rows if row["val_loss"]] == [5, 10, 12]
    assert load_model(run / "model").config.d_model == 8
    page = (run / "report.html").read_text()
    assert "bits per base" in page
    assert "http" not in page.replace("http-equiv", ""), "the page must work without a network"
    assert "left out" in captured.err or record["data"]["dropped"]


def test_each_of_several_genomes_is_validated_by_itself(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genome, config = inputs
    other = tmp_path / "other.fa"
    other.write_text(">chr3\n" + "ACGT" * 200 + "\n>chr4\n" + "ACGT" * 300 + "\n")
    fit = MarkovModel.fit
    monkeypatch.setattr(MarkovModel, "fit", lambda sequences: fit(sequences, max_order=3))
    held_out = ["--val-contigs", "genome:chr3", "--val-contigs", "other:chr3"]
    run = tmp_path / "run"
    assert _run("-g", genome, "-g", other, "-c", config, "-o", run, *held_out) == 0
    result = json.loads((run / "run.json").read_text())["result"]
    genomes = result["genomes"]
    assert list(genomes) == ["genome", "other"]
    bits, bases = (np.array([one[key] for one in genomes.values()]) for key in ("val_bits_per_base", "val_bases"))
    assert result["val_bits_per_base"] == pytest.approx((bits * bases).sum() / bases.sum())
    # Its own model knows that ACGT repeats; one of both genomes would not be so sure.
    assert genomes["other"]["markov_bits_per_base"][3] < 0.1 < 1.5 < genomes["genome"]["markov_bits_per_base"][3]
    with open(run / "metrics.csv", encoding="ascii") as handle:
        rows = list(csv.DictReader(handle))
    assert float(rows[-1]["val_bits_per_base_other"]) == pytest.approx(bits[1], rel=1e-6)
    assert "By genome" in (run / "report.html").read_text()
    assert "genome: " in (run / "model" / "README.md").read_text()


def test_a_configuration_finds_the_splits_beside_it(
    inputs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    genome, config = inputs
    (tmp_path / "splits.bed").write_text("#chrom\tstart\tend\tname\tsplit\nchr1\t1000\t2000\ta\tval\n")
    config.write_text(CONFIG.replace("window: 64", "window: 64, folds: splits.bed"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert _run("-g", genome, "-c", config, "--dry-run") == 0
    assert "validation: 1,000 bp" in capsys.readouterr().out


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    inputs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    genome, config = inputs
    assert _run("-g", genome, "-c", config, "-o", tmp_path / "run", "--dry-run", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 12
    assert found["tokens"] == 12 * 512
    assert found["peak_memory_bytes"] > 10**7
    assert found["training_seconds"] > 0
    assert not (tmp_path / "run").exists()
    assert _run("-g", genome, "-c", config, "--dry-run") == 0
    assert "12 of 512 tokens" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["-g", "missing.fa"], "missing.fa"),
        ([], "no sequence to train on"),
        (["-g", "GENOME", "--val-contigs", "chrX"], "chrX"),
        (["-g", "GENOME", "--contigs", "scaffold*"], "scaffold"),
        (["-g", "GENOME", "--set", "optim.weight_deacy=1"], "did you mean"),
        (["-g", "GENOME", "--set", "data.window=1k"], "longer than model.max_length"),
        (["-g", "GENOME", "--precision", "fp16"], "fp16 needs a GPU"),
        (["-g", "GENOME", "--resume", "--force"], "one of them"),
        (["-g", "GENOME", "--exclude", "missing.bed"], "missing.bed"),
        (["-g", "GENOME", "--bam", "missing.bam"], "missing.bam"),
        (["-g", "GENOME", "--device", "cuda:7"], "CUDA devices"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_exit_2_and_nothing_written(
    inputs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], reason: str
) -> None:
    genome, config = inputs
    arguments = [str(genome) if option == "GENOME" else option for option in options]
    assert _run("-c", config, "-o", tmp_path / "run", *arguments) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert reason in errors[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--set", "optim.lr=1e-3"], "optim.lr"),
        (["--seed", "1"], "trainer.seed"),
        (["--val-contigs", "chr3"], "val_contigs"),
        (["-g", "OTHER"], "sequence 1 is not what the run began with"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings_or_data(
    inputs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], reason: str
) -> None:
    genome, config = inputs
    run = tmp_path / "run"
    assert _run("-g", genome, "-c", config, "-o", run, "--set", "trainer.markov=false") == 0
    other = tmp_path / "other.fa"
    # One base differs, and nothing else: names, lengths and size are the same.
    other.write_text(genome.read_text()[:-2] + ("A" if genome.read_text()[-2] != "A" else "C") + "\n")
    before = (run / "metrics.csv").read_bytes()
    arguments = [str(other) if option == "OTHER" else option for option in options]
    assert _run("-c", config, "-g", genome, "-o", run, "--resume", "--set", "trainer.markov=false") == 0
    base = [] if "-g" in arguments else ["-g", str(genome)]
    assert _run("-c", config, "-o", run, "--resume", "--set", "trainer.markov=false", *base, *arguments) == 2
    assert reason in capsys.readouterr().err
    assert (run / "metrics.csv").read_bytes() == before


def test_a_moved_genome_and_another_number_of_workers_are_no_obstacle(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    genome, config = inputs
    run = tmp_path / "run"
    assert _run("-g", genome, "-c", config, "-o", run, "--set", "trainer.markov=false") == 0
    moved = genome.rename(tmp_path / "moved.fa")
    assert _run("-g", moved, "-o", run, "--resume", "--set", "trainer.workers=1") == 0


def test_a_loss_that_is_not_a_number_stops_the_run(
    inputs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Finding: Lightning trains on with NaN weights and exits 0.
    genome, config = inputs
    plain = Engine.step

    def poisoned(self: Engine, step: int, *rest: object, **options: object) -> torch.Tensor:
        numbers = plain(self, step, *rest, **options)  # type: ignore[arg-type]
        if step == 9:
            numbers[0] = torch.nan
            for parameter in self._model.parameters():
                parameter.data.fill_(torch.nan)
        return numbers

    monkeypatch.setattr(Engine, "step", poisoned)
    run = tmp_path / "run"
    assert _run("-g", genome, "-c", config, "-o", run, "--set", "trainer.checkpoint_every=2") == 1
    error = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert "step 10 diverged" in error
    assert "gradient norm" in error
    listed = json.loads((run / "diverged.json").read_text())
    assert len(listed["windows"]) == 8
    assert all(window.startswith(("chr1:", "chr2:")) for window in listed["windows"])
    assert json.loads((run / "run.json").read_text())["status"].startswith("failed")
    newest = latest_checkpoint(run / "checkpoints")
    assert newest is not None
    assert newest.name == "step-000000008.safetensors"
    monkeypatch.undo()
    # The last checkpoint is from before the step, and the run can go on from it.
    model = load_model_of(newest)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert _run("-g", genome, "-c", config, "-o", run, "--set", "trainer.checkpoint_every=2", "--resume") == 0


def load_model_of(checkpoint: Path) -> torch.nn.Module:
    from hyena_dna.model.config import HyenaConfig
    from hyena_dna.model.model import HyenaDNA

    model = HyenaDNA(HyenaConfig(d_model=8, n_layer=1, max_length=66, filter_order=8))
    load_checkpoint(checkpoint, model)
    return model


def test_a_full_disk_stops_the_run_and_leaves_the_checkpoint(
    inputs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Finding: Lightning's save destroys the previous checkpoint when the disk fills up.
    import errno
    import os

    genome, config = inputs
    plain = os.replace

    def full(source: object, target: object) -> None:
        if "step-000000008" in str(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "replace", full)
    run = tmp_path / "run"
    assert _run("-g", genome, "-c", config, "-o", run) == 2
    assert "No space left on device" in capsys.readouterr().err
    newest = latest_checkpoint(run / "checkpoints")
    assert newest is not None
    assert newest.name == "step-000000004.safetensors"
    load_model_of(newest)
    monkeypatch.undo()
    assert _run("-g", genome, "-c", config, "-o", run, "--resume") == 0


def test_the_default_folder_names_the_configuration(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genome, config = inputs
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYENA_DNA_RUN_FOLDER", raising=False)
    assert _run("-g", genome, "-c", config, "--set", "trainer.markov=false", "-q") == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("pretrain-small-")
    monkeypatch.delenv("HYENA_DNA_RUN_FOLDER")
