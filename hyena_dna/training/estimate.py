"""What a run would do and what it would need, found by a short probe of the real thing.

A few optimiser steps and validation passes run on the device with the run's own model, windows and precision, and
nothing is kept. Time of a step: a step of one forward pass and one of two are timed, which gives the cost of a pass and
that of the update; a real step has `accumulate` passes. Memory: the highest that the process (CPU) or the device (GPU)
reached in the probe, since more passes or steps need no more, or what fitting Markov models needs where that is higher.

On a CPU, passes of more than 65,536 tokens are probed at that size, with shorter windows if one window is longer, and
scaled: memory by tokens, time by tokens times the logarithm of the window. A pass of 4,096 tokens is timed first. Where
it says that all of this takes more than half a minute, the update is taken as nothing beside a pass, which spares the
step of two passes, fewer repeats are made, and at last passes are made smaller still.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dna.datasets.batches import LossWeights
from hyena_dna.errors import InputError
from hyena_dna.model.device import select_device
from hyena_dna.model.model import HyenaDNA
from hyena_dna.ops.heap import keep_heap
from hyena_dna.training.config import PretrainConfig
from hyena_dna.training.corpus import Corpus
from hyena_dna.training.engine import Engine, TokenBatch
from hyena_dna.training.optim import build_optimizer
from hyena_dna.training.plan import StepPlan
from hyena_dna.training.progress import format_seconds
from hyena_dna.training.resources import device_name, peak_memory, resolve
from hyena_dna.training.sources import open_corpus
from hyena_dna.training.step_data import HostCutter
from hyena_dna.training.validation import validate

__all__ = ["Estimate", "estimate"]

_CPU_PROBE_TOKENS = 1 << 16
_CPU_TRIAL_TOKENS = 1 << 12
_CPU_SECONDS = 30.0
_REPEATS = 3
# A validation pass has no backward pass, which takes about twice as long as the forward one.
_VALIDATION_SHARE = 1 / 3

# Fitting Markov models: mostly tables of every order, whatever the genome (measured on one core, 1.8 and 86.5 Mb).
_MARKOV_BYTES = 700_000_000
_MARKOV_SECONDS = 6.0
_MARKOV_SECONDS_PER_BASE = 3e-8


@dataclass(frozen=True)
class Estimate:
    """What a run would do and need.

    Attributes:
        device: what it would run on.
        parameters: of the model.
        training_bases: bases of the training segments.
        window: bases of a window at the end of the run.
        steps: optimiser steps.
        tokens: tokens of all steps.
        epochs: how often that is the training bases.
        tokens_per_step: tokens of one step at the end of the run.
        passes_per_step: forward passes of one step, on each device.
        precision: arithmetic.
        validation_windows: fixed windows that each validation scores.
        validations: how often.
        peak_memory_bytes: of the process (CPU) or on the device (GPU).
        training_seconds: time of all steps.
        validation_seconds: time of all validations.
        markov_seconds: time of the Markov models.
        splits: how the splits were chosen.
    """

    device: str
    parameters: int
    training_bases: int
    window: int
    steps: int
    tokens: int
    epochs: float
    tokens_per_step: int
    passes_per_step: int
    precision: str
    validation_windows: int
    validations: int
    peak_memory_bytes: int
    training_seconds: float
    validation_seconds: float
    markov_seconds: float
    splits: str

    def summary(self) -> dict[str, object]:
        """Everything as plain values."""
        return asdict(self)

    def text(self) -> str:
        """Everything for people."""
        rows = {
            "device": f"{self.device}, {self.precision}",
            "model": f"{self.parameters:,} parameters",
            "splits": self.splits,
            "training": f"{self.training_bases:,} bp, windows of {self.window:,} bp",
            "steps": f"{self.steps:,} of {self.tokens_per_step:,} tokens, {self.passes_per_step} passes each",
            "tokens": f"{self.tokens:,}, {self.epochs:.2f} epochs",
            "validation": f"{self.validations} times on {self.validation_windows:,} windows",
            "peak memory": f"{self.peak_memory_bytes / 1e9:.2f} GB",
            "time": f"{format_seconds(self.training_seconds)} training, {format_seconds(self.validation_seconds)} "
            f"validation, {format_seconds(self.markov_seconds)} Markov models",
        }
        return "\n".join(f"{name:<12} {value}" for name, value in rows.items())


def estimate(config: PretrainConfig, device_option: str, world_size: int) -> Estimate:
    """Probe a run; writes nothing but the cached token store of its sequence.

    Args:
        config: the run.
        device_option: auto, cpu, cuda or cuda:INDEX.
        world_size: devices that would share each step; one is probed.

    Raises:
        InputError: the input is not sound, or one forward pass does not fit into GPU memory.
    """
    device = select_device(device_option)
    if device.type == "cpu":
        # As the run itself does.
        keep_heap()
    config = resolve(config, device, world_size)
    corpus = open_corpus(config)
    plan = StepPlan.make(config, corpus.train_bases, world_size=world_size)
    windows = np.concatenate(corpus.validation_windows(config.data.window, config.trainer.val_windows))
    probe = _Probe(config, corpus, plan, device, world_size)
    try:
        step_seconds = probe.step_seconds()
        window_seconds = probe.validation_seconds(windows)
    except torch.OutOfMemoryError:
        raise InputError(
            f"one forward pass of {probe.rows} windows of {config.data.window} bp does not fit into GPU memory",
            remedy="raise optim.accumulate, or set trainer.recompute=true",
        ) from None
    validations = -(-plan.total_steps // config.trainer.val_every)
    markov = _MARKOV_SECONDS * len(corpus.sources) + _MARKOV_SECONDS_PER_BASE * corpus.train_bases
    return Estimate(
        device=device_name(device),
        parameters=sum(parameter.numel() for parameter in probe.model.parameters()),
        training_bases=corpus.train_bases,
        window=config.data.window,
        steps=plan.total_steps,
        tokens=plan.total_tokens,
        epochs=plan.total_tokens / corpus.train_bases,
        tokens_per_step=plan.shapes[-1].tokens,
        passes_per_step=probe.passes,
        precision=config.optim.precision,
        validation_windows=len(windows),
        validations=validations,
        peak_memory_bytes=probe.peak_memory(),
        training_seconds=step_seconds * plan.total_tokens / plan.shapes[-1].tokens,
        validation_seconds=window_seconds * len(windows) * validations,
        markov_seconds=(_MARKOV_SECONDS * len(corpus.sources) + _MARKOV_SECONDS_PER_BASE * corpus.train_bases)
        if markov
        else 0.0,
        splits=corpus.rule,
    )


class _Probe:
    """A model with its optimiser, ready to make steps that nobody keeps."""

    def __init__(
        self, config: PretrainConfig, corpus: Corpus, plan: StepPlan, device: torch.device, world_size: int
    ) -> None:
        assert config.optim.accumulate != "auto"
        assert config.optim.precision != "auto"
        share = max(1, plan.shapes[-1].windows // world_size)
        self.passes = min(config.optim.accumulate, share)
        self.rows = math.ceil(share / self.passes)
        self._real_rows, self._repeats, self._two_passes = self.rows, _REPEATS, self.passes > 1
        self.window = config.data.window
        self._config, self._corpus, self._device = config, corpus, device
        self._baseline = peak_memory(device)
        torch.manual_seed(config.trainer.seed)
        self.model = HyenaDNA(config.model).to(device)
        self.model.set_recompute(config.trainer.recompute)
        optimizer = build_optimizer(self.model, config.optim)
        self._engine = Engine(self.model, optimizer, config.optim, plan, precision=config.optim.precision, seed=0)
        if device.type == "cpu":
            self._shorten()
        self._memory_scale = self._real_rows * config.data.window / (self.rows * self.window)
        self._time_scale = self._memory_scale * math.log2(config.data.window) / math.log2(self.window)

    def _shorten(self) -> None:
        """Make the probe small and short enough for a CPU."""
        self._resize(_CPU_TRIAL_TOKENS)
        batch = self._batch()
        self._seconds(lambda: self._engine.step(0, [batch]), 1)
        token_seconds = self._seconds(lambda: self._engine.step(0, [batch]), 1) / (self.rows * self.window)
        self._resize(_CPU_PROBE_TOKENS)
        # Passes that are affordable; one of training and one of validation warm up.
        affordable = _CPU_SECONDS / (token_seconds * self.rows * self.window)
        pair = 1 + _VALIDATION_SHARE
        if affordable >= pair * (1 + _REPEATS) + 2 * _REPEATS * self._two_passes:
            return
        self._two_passes = False
        self._repeats = max(1, min(_REPEATS, int(affordable / pair) - 1))
        if affordable < 2 * pair:
            self._resize(max(_CPU_TRIAL_TOKENS, int(_CPU_SECONDS / (2 * pair * token_seconds))))

    def _resize(self, tokens: int) -> None:
        """Windows of the probe that have `tokens` at most, no more and no longer than the real ones."""
        self.window = min(self._config.data.window, tokens)
        self.rows = max(1, min(self._real_rows, tokens // self.window))

    def _batch(self) -> TokenBatch:
        cutter = HostCutter(self._corpus.stores, LossWeights(), self._device)
        sampler = self._corpus.sampler(self.window, self._config.trainer.seed)
        return cutter.load(cutter.prepare(sampler.sample(0, self.rows), self.window), self.window)

    def step_seconds(self) -> float:
        """Time of one real step."""
        batch = self._batch()
        self._seconds(lambda: self._engine.step(0, [batch]), 1)
        one = self._seconds(lambda: self._engine.step(0, [batch]), self._repeats)
        if not self._two_passes:
            return one * self.passes * self._time_scale
        two = self._seconds(lambda: self._engine.step(0, [batch, TokenBatch(*batch)]), self._repeats)
        per_pass = max(two - one, 0.0)
        return max(one - per_pass, 0.0) + per_pass * self.passes * self._time_scale

    def validation_seconds(self, windows: NDArray[np.uint8]) -> float:
        """Time of one real validation window."""
        part = np.ascontiguousarray(windows[: self.rows, : self.window + 1])
        self._seconds(lambda: validate(self.model, part), 1)
        seconds = self._seconds(lambda: validate(self.model, part), self._repeats)
        full, short = self._config.data.window, self.window
        return seconds / len(part) * (full / short) * (math.log2(full) / math.log2(short))

    def peak_memory(self) -> int:
        """Highest memory of the real run, in bytes."""
        reached = peak_memory(self._device)
        training = self._baseline + (reached - self._baseline) * self._memory_scale
        if self._device.type == "cuda" or not self._config.trainer.markov:
            return round(training)
        return round(max(training, self._baseline + _MARKOV_BYTES))

    def _seconds(self, work: Callable[[], object], repeats: int) -> float:
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            work()
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            times.append(time.perf_counter() - began)
        return statistics.median(times)
