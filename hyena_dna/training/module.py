"""The loop of a run as a Lightning module: what happens before, in and after each step."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from lightning.pytorch import LightningModule
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from hyena_dna.errors import InputError
from hyena_dna.model.model import HyenaDNA
from hyena_dna.training.checkpoints import (
    BEST,
    RunState,
    checkpoint_path,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from hyena_dna.training.config import PretrainConfig
from hyena_dna.training.corpus import Corpus
from hyena_dna.training.divergence import report_divergence
from hyena_dna.training.engine import Engine, Precision
from hyena_dna.training.loggers import open_logger
from hyena_dna.training.optim import build_optimizer
from hyena_dna.training.plan import StepPlan
from hyena_dna.training.progress import Progress
from hyena_dna.training.readout import Readout, StepNumbers
from hyena_dna.training.recorder import Recorder
from hyena_dna.training.run_folder import RunFolder
from hyena_dna.training.signals import StopSignals
from hyena_dna.training.step_data import StepData, StepItem, WindowCutter, step_loader
from hyena_dna.training.validation import Validation, validate_each

__all__ = ["PretrainModule", "Session"]


@dataclass(frozen=True)
class Session:
    """Everything that one process of a run works with.

    Attributes:
        name: what the run is called.
        config: the configuration, resolved: nothing that a number depends on is "auto".
        corpus: where windows come from.
        precision: arithmetic of the forward pass.
        plan: the steps.
        data: their batches.
        cutter: what loads the batches on the device.
        val_windows: for each genome (windows, window + 1) token ids to validate on.
        fingerprints: of the data.
        folder: where the run writes.
        resume_from: a checkpoint and what it knows, or None for a fresh start.
        signals: the open signal context.
        progress: shows progress.
    """

    name: str
    config: PretrainConfig
    corpus: Corpus
    precision: Precision
    plan: StepPlan
    data: StepData
    cutter: WindowCutter
    val_windows: tuple[NDArray[np.uint8], ...]
    fingerprints: dict[str, str]
    folder: RunFolder
    resume_from: tuple[Path, RunState] | None
    signals: StopSignals
    progress: Progress


class PretrainModule(LightningModule):
    """Trains a model over the steps of a session, by manual optimisation.

    Lightning places the model, starts the processes of a distributed run and feeds groups of steps. Everything that a
    resumed run depends on happens here at the end of a step: rows of the logs, validation, checkpoints, stopping.

    Attributes:
        done: steps done.
        training_seconds: time spent in steps, over all pieces of the run.
        validation_seconds: time spent validating, likewise.
        best_bits: lowest validation bits per base so far.
        last_validation: result of the latest validation of this piece.
        exit_code: set when a signal stopped the run.
    """

    def __init__(self, model: HyenaDNA, session: Session) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.session = session
        state = session.resume_from[1] if session.resume_from else None
        self.done = state.step if state else 0
        self.training_seconds = state.training_seconds if state else 0.0
        self.validation_seconds = state.validation_seconds if state else 0.0
        self.best_bits = state.best_bits if state else None
        self.last_validation: Validation | None = None
        self.exit_code: int | None = None
        self._recorder: Recorder | None = None
        self._engine: Engine
        self._readout: Readout
        self._clock = 0.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; called once the parameters are on their device."""
        return build_optimizer(self.model, self.session.config.optim)

    def train_dataloader(self) -> DataLoader[list[StepItem]]:
        """Groups of the steps that are left."""
        session = self.session
        return step_loader(session.data, session.plan, start=self.done, workers=session.config.trainer.workers)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leave batches to the cutter, which knows how they travel."""
        return batch

    def on_train_start(self) -> None:
        """Load the checkpoint, open the logs and take the signals over from Lightning."""
        session = self.session
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        distributed = self.trainer.world_size > 1
        self._engine = Engine(
            self.model,
            optimizer,
            session.config.optim,
            session.plan,
            precision=session.precision,
            seed=session.config.trainer.seed,
            rank=self.global_rank,
            world_size=self.trainer.world_size,
            backward=self.manual_backward,
            total=_add_over_devices if distributed else None,
            graph=session.config.trainer.graph,
            **({"accumulating": self._no_sync} if distributed else {}),
        )
        self._readout = Readout(self._engine.device)
        state = None
        if session.resume_from:
            state = load_checkpoint(session.resume_from[0], self.model, optimizer)
            if state.scaler:
                self._engine.scaler.load_state_dict(state.scaler)
        if self.global_rank == 0:
            trainer = session.config.trainer
            self._recorder = Recorder(
                session.folder,
                session.plan,
                log_every=trainer.log_every,
                lr=self._engine.lr,
                genomes=session.corpus.names,
                offsets=state.offsets if state else {},
                partial=state.partial if state else {},
                logger=open_logger(trainer.logger, session.folder.path, session.name, session.config.model_dump()),
            )
        session.signals.install()
        self._clock = time.perf_counter()

    def on_train_end(self) -> None:
        """Close the logs."""
        self.session.progress.close()
        if self._recorder is not None:
            self._recorder.close()

    def training_step(self, items: list[StepItem], _: int) -> None:
        """Make the steps of one group, or fewer when the run is asked to stop."""
        for item in items:
            self._step(item)
            if self.exit_code is not None:
                self.trainer.should_stop = True
                return

    def _step(self, item: StepItem) -> None:
        session, trainer = self.session, self.session.config.trainer
        asked = session.signals.exit_code
        try:
            passes = [session.cutter.load(prepared, item.window) for prepared in item.passes]
            numbers = self._engine.step(item.step, passes, stop=asked is not None)
        except torch.OutOfMemoryError:
            raise InputError(
                f"out of GPU memory at {len(item.passes)} passes of {item.window} bp windows",
                remedy="raise optim.accumulate, or set trainer.recompute=true; the last checkpoint is intact",
            ) from None
        self.done = item.step + 1
        self._take(self._readout.push(item.step, numbers))
        finished = self.done == session.plan.total_steps
        if self.trainer.world_size == 1:
            self.exit_code = session.signals.exit_code
        result = self._validate() if self.done % trainer.val_every == 0 or finished else None
        if self.done % trainer.checkpoint_every == 0 or finished or self.exit_code is not None:
            self._checkpoint(checkpoint_path(session.folder.checkpoints, self.done), result)

    def _take(self, arrived: list[StepNumbers]) -> None:
        """Judge and record the numbers of steps that have arrived."""
        self._tick()
        session = self.session
        for numbers in arrived:
            # The loss scale of fp16 finds its size by steps that overflow and are skipped.
            lost = not math.isfinite(numbers.grad_norm) and session.precision != "fp16"
            if lost or not math.isfinite(numbers.nll):
                windows = session.corpus.intervals(session.data.windows(numbers.step))
                raise report_divergence(numbers, windows, session.folder, write=self.global_rank == 0)
            if numbers.stop:
                self.exit_code = session.signals.exit_code or 143
        if self._recorder is not None and arrived:
            self._recorder.steps(arrived, self.training_seconds)
            last = arrived[-1]
            tokens = session.plan.tokens_before(last.step + 1)
            session.progress.update(last.step + 1, tokens, last.nll / max(last.weight, 1e-12))

    def _validate(self) -> Validation:
        session = self.session
        self._take(self._readout.drain())
        result = validate_each(
            self.model,
            session.val_windows,
            session.corpus.names,
            rank=self.global_rank,
            world_size=self.trainer.world_size,
            total=_add_over_devices if self.trainer.world_size > 1 else None,
        )
        self.validation_seconds += time.perf_counter() - self._clock
        self._clock = time.perf_counter()
        self.last_validation = result
        if self._recorder is not None:
            self._recorder.validation(self.done, result)
            each = ", ".join(f"{name} {one.bits_per_base:.4f}" for name, one in result.genomes.items())
            detail = f" ({each})" if each else ""
            session.progress.note(f"step {self.done:,}: validation {result.bits_per_base:.4f} bits per base{detail}")
        if self.best_bits is None or result.bits_per_base < self.best_bits:
            self.best_bits = result.bits_per_base
            self._checkpoint(session.folder.checkpoints / BEST, result)
        return result

    def _checkpoint(self, path: Path, validation: Validation | None) -> None:
        session = self.session
        # A step that diverged shows here at the latest, before its weights could replace good ones.
        self._take(self._readout.drain())
        if self._recorder is None:
            return
        offsets, partial = self._recorder.sync()
        state = RunState(
            step=self.done,
            tokens=session.plan.tokens_before(self.done),
            training_seconds=self.training_seconds,
            validation_seconds=self.validation_seconds,
            config=session.config.model_dump(mode="json"),
            fingerprints=session.fingerprints,
            offsets=offsets,
            partial=partial,
            scaler=self._engine.scaler.state_dict(),
            best_bits=self.best_bits,
            val_bits=validation.bits_per_base if validation else None,
        )
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        save_checkpoint(path, self.model, optimizer, state)
        prune_checkpoints(session.folder.checkpoints, session.config.trainer.keep_checkpoints)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.training_seconds += now - self._clock
        self._clock = now

    def _no_sync(self) -> AbstractContextManager[None]:
        wrapped = self.trainer.strategy.model
        assert isinstance(wrapped, DistributedDataParallel)
        context: AbstractContextManager[None] = wrapped.no_sync()
        return context


def _add_over_devices(tensor: Tensor) -> None:
    torch.distributed.all_reduce(tensor)
