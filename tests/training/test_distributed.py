"""Two processes that share every step train as one process does."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .conftest import make_config, write_genome

_ROOT = Path(__file__).resolve().parents[2]


def _run(config: Path, genome: Path, run: Path, *options: str) -> subprocess.CompletedProcess[str]:
    arguments = ["pretrain", "-g", genome, "-c", config, "-o", run, "--device", "cpu", "--threads", "1", *options]
    return subprocess.run(
        [sys.executable, "-m", "pipelines", *map(str, arguments)],
        capture_output=True, text=True, cwd=_ROOT, check=False, timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(_ROOT)},
    )  # fmt: skip


def _rows(run: Path) -> list[dict[str, float]]:
    with open(run / "metrics.csv", encoding="ascii") as handle:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(handle)]


@pytest.mark.slow
def test_two_processes_log_what_one_does_and_resume(tmp_path: Path) -> None:
    genome, config = write_genome(tmp_path / "genome.fa"), tmp_path / "config.yaml"
    # Noise differs between ranks by design, so dropout is off; N targets make the ranks' sums of weights unequal.
    made = make_config(model={"embed_dropout": 0.0}, data={"max_n_fraction": 1.0}, optim={"accumulate": 2})
    config.write_text(yaml.safe_dump(made.model_dump(mode="json")))
    single, double = tmp_path / "single", tmp_path / "double"
    found = _run(config, genome, single)
    assert found.returncode == 0, found.stderr
    found = _run(config, genome, double, "--devices", "2")
    assert found.returncode == 0, found.stderr
    rows, other = _rows(single), _rows(double)
    assert len(rows) == len(other) > 12
    for a, b in zip(rows, other, strict=True):
        assert a == pytest.approx(b, rel=2e-5), (a, b)
    found = _run(config, genome, double, "--resume")
    assert found.returncode == 2
    assert "number of devices" in found.stderr
