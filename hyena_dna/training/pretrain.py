"""A pretraining run from configuration to model directory and report."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from hyena_dna.config import dump_yaml, load_yaml
from hyena_dna.datasets.batches import LossWeights
from hyena_dna.errors import InputError, RunError
from hyena_dna.model.checkpoint import save_model
from hyena_dna.model.device import select_device
from hyena_dna.model.model import HyenaDNA
from hyena_dna.ops.heap import keep_heap
from hyena_dna.ops.tier import tier_name
from hyena_dna.output.report import write_report
from hyena_dna.training.baseline import MarkovTable, best_order, markov_table
from hyena_dna.training.card import model_card
from hyena_dna.training.checkpoints import RunState, latest_checkpoint, load_checkpoint, read_state
from hyena_dna.training.config import PretrainConfig
from hyena_dna.training.corpus import Corpus
from hyena_dna.training.device_store import DeviceCutter, fits_on_device
from hyena_dna.training.module import PretrainModule, Session
from hyena_dna.training.plan import StepPlan
from hyena_dna.training.progress import Progress
from hyena_dna.training.resources import (
    build_trainer,
    device_name,
    peak_memory,
    quiet_lightning,
    resolve,
)
from hyena_dna.training.resume import adopt_resolved, check_same_config, check_same_data
from hyena_dna.training.run_folder import RunFolder, open_run_folder
from hyena_dna.training.run_record import now, piece, read_record, start_record, write_record
from hyena_dna.training.signals import StopSignals
from hyena_dna.training.sources import open_corpus
from hyena_dna.training.step_data import HostCutter, StepData, WindowCutter
from hyena_dna.training.validation import Validation, validate_each

__all__ = ["Outcome", "RunOptions", "pretrain"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """What a run is asked besides its configuration.

    Attributes:
        name: what the run is called in its report.
        device: auto, cpu, cuda or cuda:INDEX.
        devices: devices of this machine.
        num_nodes: machines that take part.
        resume: go on with an earlier run in the folder, if there is one.
        force: delete an earlier run in the folder.
        quiet: no progress.
    """

    name: str
    device: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    resume: bool = False
    force: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        folder: of the run.
        exit_code: 0 when it finished; 130 or 143 when a signal stopped it.
        record: the content of `run.json`; empty on all but the first process of a distributed run.
    """

    folder: Path
    exit_code: int
    record: dict[str, Any]


def pretrain(config: PretrainConfig, output: Path, options: RunOptions) -> Outcome:
    """Run a pretraining, or the rest of one.

    Args:
        config: the run.
        output: the run's folder, made where it is missing.
        options: device, resuming, progress.

    Raises:
        InputError: the input is not sound, the folder cannot be used, the run cannot be resumed as asked, the disk is
            full, or GPU memory is too small.
        RunError: the loss diverged, or a data worker was lost.
    """
    device = select_device(options.device)
    if device.type == "cpu":
        keep_heap()
    with quiet_lightning():
        trainer = build_trainer(device, options.devices, options.num_nodes)
    first = trainer.global_rank == 0
    folder = RunFolder(output)
    saved = None
    if options.resume and folder.has_run():
        saved = load_yaml(folder.config, PretrainConfig)
        config = adopt_resolved(config, saved)
    config = resolve(config, trainer.strategy.root_device, trainer.world_size)
    if saved is not None:
        check_same_config(config, saved, folder)
    corpus = open_corpus(config)
    # Only the first process owns the folder; the others read a checkpoint from it and write nothing.
    place = open_run_folder(output, resume=options.resume, force=options.force) if first else _as_it_is(folder)
    with place:
        return _Run(config, corpus, folder, options, trainer, first).run()


@contextlib.contextmanager
def _as_it_is(folder: RunFolder) -> Iterator[RunFolder]:
    yield folder


class _Run:
    """The parts of one process's run, in the order that they are needed."""

    def __init__(
        self,
        config: PretrainConfig,
        corpus: Corpus,
        folder: RunFolder,
        options: RunOptions,
        trainer: Trainer,
        first: bool,
    ) -> None:
        self.config = config
        self.corpus = corpus
        self.folder = folder
        self.options = options
        self.trainer = trainer
        self.first = first
        self.device = trainer.strategy.root_device
        self.plan = StepPlan.make(config, corpus.train_bases, world_size=trainer.world_size)
        self.val_windows = corpus.validation_windows(config.data.window, config.trainer.val_windows)
        self.fingerprints = {**corpus.fingerprints(), "number of devices": str(trainer.world_size)}
        self.record: dict[str, Any] = {}

    def run(self) -> Outcome:
        resume_from = self._find_checkpoint()
        done = resume_from[1].step if resume_from else 0
        torch.manual_seed(self.config.trainer.seed)
        model = HyenaDNA(self.config.model)
        model.set_recompute(self.config.trainer.recompute)
        cutter = self._cutter()
        if self.first:
            self._begin(done, model, cutter)
        try:
            exit_code = 0
            validation = None
            if done < self.plan.total_steps:
                exit_code, validation = self._train(model, cutter, resume_from)
            elif resume_from:
                load_checkpoint(resume_from[0], model)
            if not self.first:
                return Outcome(self.folder.path, exit_code, {})
            if exit_code == 0:
                self._finish(model, validation)
            else:
                self._save_record(status="stopped", ended=now())
            write_report(self.folder.path)
        except (InputError, RunError) as error:
            if self.first:
                # The error itself matters more than a record that the same full disk may refuse.
                with contextlib.suppress(InputError):
                    self._save_record(status=f"failed: {error}", ended=now())
            raise
        return Outcome(self.folder.path, exit_code, self.record)

    def _find_checkpoint(self) -> tuple[Path, RunState] | None:
        path = latest_checkpoint(self.folder.checkpoints) if self.options.resume else None
        if path is None:
            return None
        state = read_state(path)
        check_same_data(self.fingerprints, state, self.folder)
        return path, state

    def _cutter(self) -> WindowCutter:
        weights = LossWeights(n=self.config.data.weight_n, soft_masked=self.config.data.weight_soft_masked)
        wanted = self.config.trainer.token_store
        if wanted == "device" or (wanted == "auto" and fits_on_device(self.corpus.stores, self.device)):
            return DeviceCutter(self.corpus.stores, weights, self.device)
        return HostCutter(self.corpus.stores, weights, self.device)

    def _begin(self, done: int, model: HyenaDNA, cutter: WindowCutter) -> None:
        config = self.config
        data = {
            **self.corpus.describe(),
            "window": config.data.window,
            "validation_windows": sum(map(len, self.val_windows)),
            "token_store": "the device" if isinstance(cutter, DeviceCutter) else "the CPU",
        }
        facts = {
            "seed": config.trainer.seed,
            "device": device_name(self.device),
            "operators": tier_name(self.device),
            "devices": self.trainer.world_size,
            "precision": config.optim.precision,
            "threads": torch.get_num_threads(),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "total_steps": self.plan.total_steps,
            "total_tokens": self.plan.total_tokens,
            "inputs": self.corpus.inputs,
            "data": data,
            "config": config.model_dump(mode="json"),
        }
        again = self.options.resume and self.folder.record.exists()
        self.record = read_record(self.folder.record) | facts if again else start_record(self.options.name, facts)
        self.record["pieces"].append(piece(done))
        dump_yaml(config, self.folder.config)
        self._save_record(status="running", ended=None)
        _log.info(
            "%s: %s parameters, %s steps of %s tokens on %s (%s), %s windows",
            self.folder.path,
            f"{facts['parameters']:,}",
            f"{self.plan.total_steps:,}",
            f"{self.plan.shapes[-1].tokens:,}",
            facts["device"],
            config.optim.precision,
            f"{config.data.window:,} bp",
        )
        if done:
            _log.info("resuming after step %s", f"{done:,}")

    def _train(
        self, model: HyenaDNA, cutter: WindowCutter, resume_from: tuple[Path, RunState] | None
    ) -> tuple[int, Validation | None]:
        config, plan = self.config, self.plan
        samplers = {shape.length: self.corpus.sampler(shape.length, config.trainer.seed) for shape in plan.shapes}
        assert config.optim.accumulate != "auto"
        assert config.optim.precision != "auto"
        data = StepData(
            plan,
            samplers,
            cutter,
            accumulate=config.optim.accumulate,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )
        quiet = self.options.quiet or not self.first
        with StopSignals() as signals:
            session = Session(
                name=self.options.name,
                config=config,
                corpus=self.corpus,
                precision=config.optim.precision,
                plan=plan,
                data=data,
                cutter=cutter,
                val_windows=self.val_windows,
                fingerprints=self.fingerprints,
                folder=self.folder,
                resume_from=resume_from,
                signals=signals,
                progress=Progress(plan.total_steps, plan.total_tokens, quiet=quiet),
            )
            module = PretrainModule(model, session)
            with quiet_lightning(), _worker_loss(self.folder):
                self.trainer.fit(module)
        if self.first:
            self.record["peak_memory_bytes"] = {"training": peak_memory(self.device)}
            self.record["step"], self.record["tokens"] = module.done, plan.tokens_before(module.done)
            self.record["pieces"][-1] |= {"ended": now(), "to_step": module.done}
            self.record["seconds"] |= {"training": module.training_seconds, "validation": module.validation_seconds}
        return module.exit_code or 0, module.last_validation

    def _finish(self, model: HyenaDNA, validation: Validation | None) -> None:
        if validation is None:
            validation = validate_each(model.to(self.device), self.val_windows, self.corpus.names)
        result: dict[str, Any] = {
            "val_loss": validation.loss,
            "val_perplexity": validation.perplexity,
            "val_bits_per_base": validation.bits_per_base,
            "val_bases": validation.bases,
        }
        if validation.genomes:
            result["genomes"] = {
                name: {"val_bits_per_base": one.bits_per_base, "val_bases": one.bases}
                for name, one in validation.genomes.items()
            }
        if self.config.trainer.markov:
            result |= self._compare(validation, result.get("genomes", {}))
        self.record["result"] = result
        self.record["peak_memory_bytes"]["process"] = peak_memory(torch.device("cpu"))
        self._save_record(status="finished", ended=now())
        save_model(model.cpu(), self.folder.model, card=model_card(self.record), force=True)

    def _compare(self, validation: Validation, genomes: dict[str, dict[str, Any]]) -> dict[str, Any]:
        table: MarkovTable = markov_table(self.corpus, self.val_windows, self.folder)
        self.record["seconds"]["markov"] = table.seconds
        best = table.bits_per_base[table.best_order]
        _log.info(
            "validation: network %.4f bits per base, best Markov model (order %d) %.4f, difference %+.4f",
            validation.bits_per_base,
            table.best_order,
            best,
            validation.bits_per_base - best,
        )
        for name, found in genomes.items():
            found["markov_bits_per_base"] = table.genomes[name]
            order = best_order(table.genomes[name])
            _log.info(
                "  %s: network %.4f, best Markov model (order %d) %.4f",
                name,
                found["val_bits_per_base"],
                order,
                table.genomes[name][order],
            )
        return {
            "markov_bits_per_base": table.bits_per_base,
            "markov_best_order": table.best_order,
            "bits_over_best_markov": validation.bits_per_base - best,
        }

    def _save_record(self, **changes: Any) -> None:
        self.record |= changes
        write_record(self.folder.record, self.record)


@contextlib.contextmanager
def _worker_loss(folder: RunFolder) -> Iterator[None]:
    """Say in one line that a data worker died, which is nearly always the machine running out of memory."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise RunError(
            f"{folder.path}: a data worker was killed, as happens when memory runs out; the last checkpoint is intact "
            "(go on with --resume, and trainer.workers=0 or smaller batches)"
        ) from error
