"""Runs that are killed, stopped and resumed give what an uninterrupted run gives, byte by byte."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
import yaml

from hyena_dna.training.checkpoints import latest_checkpoint, read_state

from .conftest import make_config, write_genome

_ROOT = Path(__file__).resolve().parents[2]
_STEPS = 150


@dataclass
class Runner:
    """Starts runs of one configuration in processes of their own."""

    server: subprocess.Popen[str]
    config: Path
    genome: Path

    @property
    def _answers(self) -> IO[str]:
        assert self.server.stdout is not None
        return self.server.stdout

    def start(self, run: Path, *options: str) -> int:
        """Start a run, or the rest of one; returns its process id."""
        arguments = ["pretrain", "-g", self.genome, "-c", self.config, "-o", run, "--device", "cpu", "--resume", "-q"]
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps([*map(str, arguments), "--threads", "1", *options]) + "\n")
        self.server.stdin.flush()
        pid = int(self._answers.readline())
        # After a failed test this could be an exit code that nobody waited for, which is no process to kill.
        assert pid > 1
        return pid

    def wait(self) -> int:
        """The exit code of the run that was started last; negative for a signal."""
        return int(self._answers.readline())

    def finish(self, run: Path, *options: str) -> None:
        """Run to the end."""
        self.start(run, *options)
        assert self.wait() == 0


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    folder = tmp_path_factory.mktemp("interrupt")
    config = folder / "config.yaml"
    # Dropout is on, checkpoints fall between rows of the log, and validation falls between checkpoints.
    made = make_config(
        optim={"duration": f"{_STEPS} steps", "length_warmup": [{"tokens": 20_000, "length": 32}], "accumulate": 2},
        trainer={"checkpoint_every": 5, "log_every": 3, "val_every": 31},
    )
    config.write_text(yaml.safe_dump(made.model_dump(mode="json")))
    # TMPDIR on another file system is what breaks checkpoints that are written there and moved.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": "/dev/shm"}
    server = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("forking_runner.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT,
        env=environment | {"PYTHONPATH": str(_ROOT)},
    )  # fmt: skip
    yield Runner(server, config, write_genome(folder / "genome.fa"))
    assert server.stdin is not None
    server.stdin.close()
    assert server.wait(timeout=30) == 0


@pytest.fixture(scope="module")
def reference(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run, without workers."""
    run = tmp_path_factory.mktemp("reference") / "run"
    runner.finish(run)
    return run


def _assert_same(run: Path, reference: Path) -> None:
    assert (run / "metrics.csv").read_bytes() == (reference / "metrics.csv").read_bytes()
    assert (run / "model/model.safetensors").read_bytes() == (reference / "model/model.safetensors").read_bytes()
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert not [path for path in run.rglob("*") if ".tmp." in path.name]


def _kill_and_resume(runner: Runner, folder: Path, reference: Path, kills: int, workers: int) -> None:
    """Kill runs with SIGKILL at random moments, `kills` times in all; finish and compare each of them."""
    rng = random.Random(workers)
    options = ("--set", f"trainer.workers={workers}")
    killed = number = 0
    while killed < kills:
        run = folder / f"run{number}"
        number += 1
        code = -signal.SIGKILL
        while code == -signal.SIGKILL:
            pid = runner.start(run, *options)
            if killed < kills:
                # Half of the moments early, where the folder is made and the checkpoint read, half in the steps.
                time.sleep(rng.uniform(0.0, rng.choice([0.3, 1.5])))
                # A fast machine may be done by then.
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            code = runner.wait()
            killed += code == -signal.SIGKILL
            newest = latest_checkpoint(run / "checkpoints")
            if newest is not None:
                read_state(newest)
        assert code == 0
        _assert_same(run, reference)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_killed_at_random_points_ends_the_same(
    runner: Runner, reference: Path, tmp_path: Path, workers: int
) -> None:
    _kill_and_resume(runner, tmp_path, reference, 3, workers)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_killed_25_times_ends_the_same(runner: Runner, reference: Path, tmp_path: Path, workers: int) -> None:
    _kill_and_resume(runner, tmp_path, reference, 25, workers)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 143)], ids=str
)
def test_a_signal_writes_a_checkpoint_and_the_run_goes_on_from_it(
    runner: Runner, reference: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    run = tmp_path / "run"
    pid = runner.start(run, "--set", "trainer.checkpoint_every=100000")
    deadline = time.monotonic() + 60
    # No periodic checkpoint comes in the way: one that is there was made because of the signal.
    while not (run / "metrics.csv").exists() or (run / "metrics.csv").read_bytes().count(b"\n") < 9:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    rows = (run / "metrics.csv").read_text().splitlines()
    os.kill(pid, number)
    assert runner.wait() == code
    newest = latest_checkpoint(run / "checkpoints")
    assert newest is not None
    step = read_state(newest).step
    assert int(rows[-1].split(",")[0]) <= step < _STEPS
    # At most the running step was finished: the log holds nothing beyond the checkpoint.
    assert int((run / "metrics.csv").read_text().splitlines()[-1].split(",")[0]) <= step
    assert json.loads((run / "run.json").read_text())["status"] == "stopped"
    runner.finish(run, "--set", "trainer.checkpoint_every=100000")
    _assert_same(run, reference)


def test_a_finished_run_is_left_as_it_is(runner: Runner, reference: Path) -> None:
    before = (reference / "metrics.csv").read_bytes()
    runner.finish(reference)
    assert (reference / "metrics.csv").read_bytes() == before
    _assert_same(reference, reference)


def test_a_second_run_in_the_folder_is_refused(runner: Runner, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pid = runner.start(run)
    while not (run / "metrics.csv").exists():
        time.sleep(0.005)
    os.kill(pid, signal.SIGSTOP)
    found = subprocess.run(
        [sys.executable, "-m", "pipelines", "pretrain", "-g", runner.genome, "-c", runner.config, "-o", run, "--resume",
         "--device", "cpu"],
        capture_output=True, text=True, cwd=_ROOT, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    os.kill(pid, signal.SIGKILL)
    runner.wait()
    assert found.returncode == 2
    assert "another run is using this folder" in found.stderr
