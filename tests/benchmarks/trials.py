"""Short training runs: equal seconds each, each with a GPU of its own, resumable over calls.

What `architectures.py` and `recipe.py` have in common. A trial is a configuration with changes, and a seed. It times a
few steps, lays the learning-rate schedule over as many steps as fit into the seconds, trains, and scores the held-out
pieces of every genome. Results are appended to RESULTS as JSON lines; trials that are there are not run again. One GPU
runs trials one after the other in one process: side by side they would get unequal shares of it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hyena_dna.config import find_config, load_yaml
from hyena_dna.datasets.batches import LossWeights
from hyena_dna.model.device import select_device
from hyena_dna.model.model import HyenaDNA
from hyena_dna.training.config import PretrainConfig
from hyena_dna.training.corpus import Corpus
from hyena_dna.training.device_store import DeviceCutter, fits_on_device
from hyena_dna.training.engine import Engine
from hyena_dna.training.optim import build_optimizer
from hyena_dna.training.plan import StepPlan
from hyena_dna.training.resources import device_name, resolve
from hyena_dna.training.sources import open_corpus
from hyena_dna.training.step_data import HostCutter, StepData
from hyena_dna.training.validation import validate_each

_WARM_STEPS, _TIMED_STEPS = 5, 20


@dataclass(frozen=True)
class Trial:
    """One run.

    Attributes:
        name: what is tried.
        changes: settings as `--set` takes them.
        seed: of weights, windows and dropout.
    """

    name: str
    changes: tuple[str, ...] = ()
    seed: int = 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of every script of trials."""
    parser.add_argument("-g", "--genome", action="append", required=True, help="as pretrain takes them; repeat")
    parser.add_argument("--config", default="release-tiny", help="configuration that trials change")
    parser.add_argument("--seconds", type=float, default=30, help="training time of each trial")
    parser.add_argument("--scored-bases", type=int, default=3_000_000, help="bases of each held-out split to score")
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, ... of each trial")
    parser.add_argument("--devices", type=int, default=1, help="GPUs to spread trials over")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--budget", type=float, default=float("inf"), help="start no trial after this many seconds")
    parser.add_argument("--only", default="", help="comma-separated beginnings of names of trials")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON lines; appended to")
    parser.add_argument("--one", help=argparse.SUPPRESS)


def run_all(arguments: argparse.Namespace, trials: Iterable[Trial]) -> None:
    """Run the trials that have no result yet, or the one that a child process is for, and print a table."""
    if arguments.one:
        content = json.loads(arguments.one)
        trial = Trial(content["name"], tuple(content["changes"]), content["seed"])
        _append(arguments.output, run_trial(arguments, trial))
        return
    wanted = [dataclasses.replace(trial, seed=seed) for trial in trials for seed in range(arguments.seeds)]
    chosen = [trial for trial in wanted if trial.name.startswith(tuple(arguments.only.split(",")))]
    done = {_key(row) for row in read_results(arguments.output)}
    left = [trial for trial in chosen if _key(dataclasses.asdict(trial) | {"seconds": arguments.seconds}) not in done]
    _start(arguments, left)
    sys.stdout.write(table(read_results(arguments.output)) + "\n")


def run_trial(arguments: argparse.Namespace, trial: Trial) -> dict[str, Any]:
    """Train for the given seconds and score every genome's held-out pieces."""
    device = select_device(arguments.device)
    changes = [f"data.genomes={json.dumps([os.path.abspath(path) for path in arguments.genome])}", *trial.changes]
    config = resolve(_load(arguments.config, changes), device, 1)
    corpus = open_corpus(config)
    torch.manual_seed(trial.seed)
    probe = _Training(config, corpus, device, trial.seed, _WARM_STEPS + _TIMED_STEPS)
    probe.run(range(_WARM_STEPS))
    seconds_per_step = probe.run(range(_WARM_STEPS, _WARM_STEPS + _TIMED_STEPS)) / _TIMED_STEPS
    steps = max(1, round(arguments.seconds / seconds_per_step))
    torch.manual_seed(trial.seed)
    training = _Training(config, corpus, device, trial.seed, steps)
    took = training.run(range(steps))
    model = training.model.eval()
    window = config.data.window
    found: dict[str, dict[str, float]] = {}
    for split in ("val", "test"):
        found[split] = {}
        if all(getattr(source.splits, split) for source in corpus.sources):
            rows = corpus.validation_windows(window, max(1, arguments.scored_bases // window), split)
            scored = validate_each(model, rows, corpus.names)
            each = scored.genomes or {corpus.sources[0].name: scored}
            found[split] = {name: round(one.bits_per_base, 5) for name, one in each.items()}
    tokens = training.plan.total_tokens
    return {
        "name": trial.name, "changes": list(trial.changes), "seed": trial.seed, "seconds": arguments.seconds,
        "took": round(took, 2), "steps": steps, "tokens": tokens, "tokens_per_s": round(tokens / took),
        "parameters": sum(parameter.numel() for parameter in model.parameters()), "window": window,
        "device": device_name(device), "torch": torch.__version__, **found,
    }  # fmt: skip


class _Training:
    """A bare loop over the engine, as `pretrain` runs it, without logs and checkpoints."""

    def __init__(self, config: PretrainConfig, corpus: Corpus, device: torch.device, seed: int, steps: int) -> None:
        assert config.optim.accumulate != "auto"
        assert config.optim.precision != "auto"
        accumulate, precision = config.optim.accumulate, config.optim.precision
        optim = config.optim.model_copy(update={"duration": f"{steps} steps", "length_warmup": ()})
        config = config.model_copy(update={"optim": optim})
        weights = LossWeights(n=config.data.weight_n, soft_masked=config.data.weight_soft_masked)
        on_device = fits_on_device(corpus.stores, device)
        self._cutter = (DeviceCutter if on_device else HostCutter)(corpus.stores, weights, device)
        self.plan = StepPlan.make(config, corpus.train_bases)
        samplers = {shape.length: corpus.sampler(shape.length, seed) for shape in self.plan.shapes}
        self._data = StepData(self.plan, samplers, self._cutter, accumulate=accumulate)
        self.model = HyenaDNA(config.model).to(device)
        optimizer = build_optimizer(self.model, optim)
        self._engine = Engine(self.model, optimizer, optim, self.plan, precision=precision, seed=seed)
        self._device = device

    def run(self, steps: range) -> float:
        """Make steps; returns seconds."""
        began = time.perf_counter()
        for step in steps:
            item = self._data.item(step)
            self._engine.step(step, [self._cutter.load(prepared, item.window) for prepared in item.passes])
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - began


def read_results(path: Path) -> list[dict[str, Any]]:
    """The results so far."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def table(results: Sequence[dict[str, Any]]) -> str:
    """Mean and spread over seeds of the bits per base of every genome, best mean of validation first."""
    groups: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for row in results:
        groups.setdefault((row["name"], json.dumps(row["changes"]), row["seconds"]), []).append(row)
    lines = []
    for (name, _, seconds), rows in groups.items():
        cells = []
        for split in ("val", "test"):
            for genome in rows[0][split]:
                values = torch.tensor([row[split][genome] for row in rows], dtype=torch.float64)
                spread = f" ±{values.std():.4f}" if len(rows) > 1 else ""
                cells.append(f"{values.mean():.4f}{spread}")
        value = sum(sum(row["val"].values()) / len(row["val"]) for row in rows) / len(rows)
        rate = sum(row["tokens_per_s"] for row in rows) / len(rows)
        cells = [name, f"{rows[0]['parameters']:,}", f"{seconds:g}", str(len(rows)), f"{rate / 1e6:.2f}",
                 f"{value:.4f}", *cells]  # fmt: skip
        lines.append((rows[0]["window"], value, "| " + " | ".join(cells) + " |"))
    if not lines:
        return "no results"
    genomes = [f"{split} {genome}" for split in ("val", "test") for genome in results[0][split]]
    head = ["trial", "parameters", "s", "seeds", "M tokens/s", "val mean", *genomes]
    return "\n".join(
        ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *(line for _, _, line in sorted(lines))]
    )


def _start(arguments: argparse.Namespace, trials: Sequence[Trial]) -> None:
    began, waiting, running = time.monotonic(), list(trials), dict[subprocess.Popen[bytes], int]()
    free = list(range(arguments.devices))
    if waiting:
        # The token stores are made once, before several processes want them.
        genomes = f"data.genomes={json.dumps([os.path.abspath(path) for path in arguments.genome])}"
        open_corpus(_load(arguments.config, [genomes]))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    failed = 0
    while waiting or running:
        late = time.monotonic() - began > arguments.budget
        if waiting and arguments.devices == 1 and not late:
            _append(arguments.output, run_trial(arguments, waiting.pop(0)))
            continue
        while waiting and free and not late:
            trial, device = waiting.pop(0), free.pop(0)
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": str(device)}
            command = [sys.executable, *sys.argv, "--one", json.dumps(dataclasses.asdict(trial))]
            running[subprocess.Popen(command, env=environment, stdout=sys.stderr)] = device
        if late and waiting:
            sys.stderr.write(f"{len(waiting)} trials are left for another call\n")
            waiting = []
        for process in [process for process in running if process.poll() is not None]:
            failed += process.returncode != 0
            free.append(running.pop(process))
        time.sleep(0.2)
    if failed:
        sys.stderr.write(f"{failed} trials failed; see above\n")


def _load(name: str, changes: Sequence[str]) -> PretrainConfig:
    path = find_config(name, "pretrain")
    config = load_yaml(path, PretrainConfig, changes)
    folds = config.data.folds
    if folds and not Path(folds).exists():
        config = load_yaml(path, PretrainConfig, [*changes, f"data.folds={path.parent / folds}"])
    return config


def _key(row: dict[str, Any]) -> str:
    return json.dumps([row["name"], list(row["changes"]), row["seed"], row["seconds"]])


def _append(path: Path, row: dict[str, Any]) -> None:
    # One write of one line: processes side by side do not mix theirs.
    with open(path, "ab", buffering=0) as handle:
        handle.write((json.dumps(row) + "\n").encode())
