"""What a dry run predicts is what a run needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
