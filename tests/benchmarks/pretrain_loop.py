"""What the training loop costs: the same steps by `hyena-dna pretrain` and by a bare loop over the engine.

    python tests/benchmarks/pretrain_loop.py GENOME [--config tiny-1k] [--steps 64] [--device auto] [--set KEY=VALUE]

Prints one JSON line: seconds of both, and the share of the run that the loop adds. Logs, progress and reading numbers
back are part of the run's time; validation and checkpoints are switched off, because they are not per step.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import torch

from hyena_dna.config import find_config, load_yaml
from hyena_dna.datasets.batches import LossWeights
from hyena_dna.model.device import select_device
from hyena_dna.model.model import HyenaDNA
from hyena_dna.training.config import PretrainConfig
from hyena_dna.training.device_store import DeviceCutter, fits_on_device
from hyena_dna.training.engine import Engine
from hyena_dna.training.optim import build_optimizer
from hyena_dna.training.plan import StepPlan
from hyena_dna.training.pretrain import RunOptions, pretrain
from hyena_dna.training.resources import resolve
from hyena_dna.training.sources import open_corpus
from hyena_dna.training.step_data import HostCutter, StepData, WindowCutter


def bare_seconds(config: PretrainConfig, device: torch.device) -> float:
    """Time of all steps in a plain loop: draw, cut, step, and one wait at the end."""
    config = resolve(config, device, 1)
    assert config.optim.accumulate != "auto"
    assert config.optim.precision != "auto"
    corpus = open_corpus(config)
    plan = StepPlan.make(config, corpus.train_bases)
    weights = LossWeights()
    cutter: WindowCutter = (
        DeviceCutter(corpus.stores, weights, device)
        if fits_on_device(corpus.stores, device)
        else HostCutter(corpus.stores, weights, device)
    )
    samplers = {shape.length: corpus.sampler(shape.length, 0) for shape in plan.shapes}
    data = StepData(plan, samplers, cutter, accumulate=config.optim.accumulate)
    model = HyenaDNA(config.model).to(device)
    optimizer = build_optimizer(model, config.optim)
    engine = Engine(model, optimizer, config.optim, plan, precision=config.optim.precision, seed=0)

    def run(steps: range) -> None:
        for step in steps:
            item = data.item(step)
            engine.step(step, [cutter.load(prepared, item.window) for prepared in item.passes])
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    run(range(3))
    began = time.perf_counter()
    run(range(plan.total_steps))
    return time.perf_counter() - began


def run_seconds(config: PretrainConfig, device: str) -> float:
    """Time of all steps as a run records it."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = pretrain(config, Path(folder) / "run", RunOptions("benchmark", device))
        seconds: float = outcome.record["seconds"]["training"]
        return seconds


def main() -> None:
    """Measure alternately, so that a machine that slows down slows both, and keep the best of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("genome")
    parser.add_argument("--config", default="tiny-1k")
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    options = parser.parse_args()
    quiet = [f"optim.duration={options.steps} steps", "trainer.markov=false", "trainer.val_windows=1",
             "trainer.val_every=1000000", "trainer.checkpoint_every=1000000",
             f"data.genomes={json.dumps([options.genome])}"]  # fmt: skip
    config = load_yaml(find_config(options.config, "pretrain"), PretrainConfig, [*quiet, *options.overrides])
    device = select_device(options.device)
    bare, run = [], []
    for _ in range(options.rounds):
        bare.append(bare_seconds(config, device))
        run.append(run_seconds(config, options.device))
    summary = {
        "steps": options.steps,
        "bare_seconds": min(bare),
        "run_seconds": min(run),
        "overhead": min(run) / min(bare) - 1,
        "overhead_ms_per_step": 1e3 * (min(run) - min(bare)) / options.steps,
    }
    sys.stdout.write(json.dumps(summary) + "\n")


if __name__ == "__main__":
    main()
