"""What a dry run predicts is what a run needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hyena_dna.config import find_config, load_yaml
from hyena_dna.training import estimate
from hyena_dna.training.config import PretrainConfig
from hyena_dna.training.engine import Engine, TokenBatch

from .conftest import write_genome

_ROOT = Path(__file__).resolve().parents[2]


def _run(genome: Path, folder: Path, config: str, *options: str) -> dict[str, Any]:
    arguments = [
        "-g",
        genome,
        "-c",
        config,
        "-o",
        folder,
        "--device",
        "cpu",
        "--threads",
        "1",
        "--json",
        "-q",
        *options,
    ]
    found = subprocess.run(
        [sys.executable, "-m", "pipelines", "pretrain", *map(str, arguments)],
        capture_output=True, text=True, cwd=_ROOT, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    summary: dict[str, Any] = json.loads(found.stdout)
    return summary


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "options"),
    [
        ("example", ["optim.duration=300 steps", "trainer.val_every=100"]),
        ("tiny-1k", ["optim.duration=2 steps", "trainer.val_windows=64", "trainer.val_every=1"]),
    ],
)
def test_predicted_memory_and_time_are_within_a_quarter_of_the_measured(
    tmp_path: Path, config: str, options: list[str]
) -> None:
    genome = write_genome(tmp_path / "genome.fa", contigs={"chr1": 400_000, "chr2": 200_000, "chr3": 120_000})
    settings = [word for option in [*options, "trainer.markov=false"] for word in ("--set", option)]
    predicted = _run(genome, tmp_path / "dry", config, *settings, "--dry-run")
    measured = _run(genome, tmp_path / "run", config, *settings)
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert predicted["steps"] == measured["total_steps"]
    seconds = predicted["training_seconds"] + predicted["validation_seconds"]
    assert seconds == pytest.approx(measured["seconds"]["training"] + measured["seconds"]["validation"], rel=0.25)
    assert predicted["peak_memory_bytes"] == pytest.approx(record["peak_memory_bytes"]["training"], rel=0.25)


@pytest.mark.slow
def test_markov_models_are_part_of_the_prediction(tmp_path: Path) -> None:
    genome = write_genome(tmp_path / "genome.fa", contigs={"chr1": 400_000, "chr2": 200_000, "chr3": 120_000})
    settings = ["--set", "optim.duration=5 steps"]
    predicted = _run(genome, tmp_path / "dry", "example", *settings, "--dry-run")
    _run(genome, tmp_path / "run", "example", *settings)
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert predicted["peak_memory_bytes"] == pytest.approx(record["peak_memory_bytes"]["process"], rel=0.25)


@pytest.mark.parametrize(("seconds", "tokens", "steps"), [(0.0, 4096, 4), (1e6, 8192, 9)])
def test_a_probe_on_a_cpu_is_as_short_as_it_must_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, tokens: int, steps: int
) -> None:
    genome = write_genome(tmp_path / "genome.fa", contigs={"chr1": 60_000, "chr2": 20_000, "chr3": 20_000})
    settings = [
        f"data.genomes=[{genome}]",
        "data.window=16384",
        "model={d_model: 8, n_layer: 1, max_length: 16386, filter_order: 8}",
        "optim.batch_tokens=65536",
        "optim.accumulate=2",
        "optim.duration=10 steps",
        "trainer.val_windows=2",
    ]
    config = load_yaml(find_config("example", "pretrain"), PretrainConfig, settings)
    monkeypatch.setattr(estimate, "_CPU_SECONDS", seconds)
    monkeypatch.setattr(estimate, "_CPU_PROBE_TOKENS", 8192)
    seen: list[list[int]] = []
    step = Engine.step

    def watch(engine: Engine, number: int, batches: Sequence[TokenBatch]) -> Any:
        seen.append([batch.input_ids.numel() for batch in batches])
        return step(engine, number, batches)

    monkeypatch.setattr(Engine, "step", watch)
    found = estimate.estimate(config, "cpu", 1)
    assert max(max(batches) for batches in seen) == tokens
    assert len(seen) == steps
    assert max(len(batches) for batches in seen) == (2 if seconds else 1)
    assert found.training_seconds > 0
    assert found.validation_seconds > 0
