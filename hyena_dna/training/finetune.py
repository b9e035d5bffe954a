"""A fine-tuning run from configuration to model directory, metrics and report."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hyena_dna.config import dump_yaml, load_yaml
from hyena_dna.errors import InputError, RunError
from hyena_dna.model.card import ModelCard
from hyena_dna.model.checkpoint import parameters_digest
from hyena_dna.model.classifier import TaskConfig, load_classifier, save_classifier
from hyena_dna.ops.heap import keep_heap
from hyena_dna.training.checkpoints import latest_checkpoint, read_state
from hyena_dna.training.engine import Precision
from hyena_dna.training.finetune_batches import DeviceExamples, predict_logits
from hyena_dna.training.finetune_config import FinetuneConfig
from hyena_dna.training.finetune_data import describe_counts
from hyena_dna.training.finetune_fit import Fit, FitOptions, fit, is_better, validation_value
from hyena_dna.training.finetune_output import FinetuneResults, write_results
from hyena_dna.training.finetune_prepare import FinetuneOptions, Prepared, prepare
from hyena_dna.training.finetune_results import (
    Predicted,
    calibrated,
    fit_baseline,
    held_out,
    load_predicted,
    save_predicted,
)
from hyena_dna.training.finetune_start import Start
from hyena_dna.training.lora import merge_adapters
from hyena_dna.training.metrics_log import CsvLog
from hyena_dna.training.resources import device_name, peak_memory
from hyena_dna.training.resume import check_same_settings
from hyena_dna.training.run_folder import RunFolder, open_run_folder
from hyena_dna.training.run_record import now, piece, read_record, start_record, write_record
from hyena_dna.training.signals import StopSignals

__all__ = ["FinetuneOptions", "FinetuneOutcome", "Prepared", "finetune", "prepare"]

_log = logging.getLogger("hyena_dna")

FINETUNE_COLUMNS = ("seed", "fold", "epoch", "step", "loss", "lr", "val_loss", "val_metric")
"""Columns of a fine-tuning's metrics.csv; losses are cross-entropy in nats, or squared error in units of variance."""

# What a resumed run may change, because no number depends on it; where files lie plays no part either.
_RESUMABLE = frozenset(
    {"trainer.checkpoint_seconds", "trainer.graph", "data.genome", "data.regions", "data.train", "data.dev",
     "data.test", "data.folds"}
)  # fmt: skip


@dataclass(frozen=True)
class FinetuneOutcome:
    """How a run ended.

    Attributes:
        folder: of the run.
        exit_code: 0 when it finished; 130 or 143 when a signal stopped it.
        record: the content of `run.json`.
    """

    folder: Path
    exit_code: int
    record: dict[str, Any]


def finetune(config: FinetuneConfig, output: Path, options: FinetuneOptions) -> FinetuneOutcome:
    """Run a fine-tuning, or the rest of one.

    Args:
        config: the run.
        output: the run's folder, made where it is missing.
        options: model, device, resuming, progress.

    Raises:
        InputError: the input is not sound, the folder cannot be used, or the run cannot be resumed as asked.
        RunError: the loss is no number, or GPU memory is too small.
    """
    folder = RunFolder(output)
    saved = load_yaml(folder.config, FinetuneConfig) if options.resume and folder.has_run() else None
    if saved is not None and config.optim.precision == "auto":
        optim = config.optim.model_copy(update={"precision": saved.optim.precision})
        config = config.model_copy(update={"optim": optim})
    prepared = prepare(config, options)
    if prepared.device.type == "cpu":
        keep_heap()
    if saved is not None:
        check_same_settings(prepared.config, saved, folder, _RESUMABLE)
    with open_run_folder(output, resume=options.resume, force=options.force):
        return _Run(prepared, folder, options).run()


class _Run:
    """The fits of a run, one per seed and fold, then baselines, metrics and report."""

    def __init__(self, prepared: Prepared, folder: RunFolder, options: FinetuneOptions) -> None:
        self.prepared, self.folder, self.options = prepared, folder, options
        self.config, self.data, self.device = prepared.config, prepared.data, prepared.device
        precision = self.config.optim.precision
        assert precision != "auto", "resolved"
        self.precision: Precision = precision
        self.examples = DeviceExamples(self.data, self.device)
        self.fingerprints = {"model": parameters_digest(prepared.model), "data": self.data.fingerprint()}
        if self.config.mode == "scratch":
            # Only the architecture counts; weights that are drawn anew have no digest to compare.
            self.fingerprints["model"] = prepared.model.config.model_dump_json()
        self.start = Start(prepared, self.examples, precision)
        self.record: dict[str, Any] = {}

    def run(self) -> FinetuneOutcome:
        began = time.monotonic()
        self._begin()
        try:
            with StopSignals() as signals:
                runs, exit_code = self._fits(signals)
                if exit_code == 0:
                    baselines, exit_code = self._baselines(runs, signals)
                self.record["seconds"]["total"] += time.monotonic() - began
                self.record["pieces"][-1]["ended"] = now()
                if exit_code:
                    self._save_record(status="stopped", ended=now())
                    return FinetuneOutcome(self.folder.path, exit_code, self.record)
                self._finish(runs, baselines)
        except (InputError, RunError) as error:
            # The error itself matters more than a record that the same full disk may refuse.
            with contextlib.suppress(InputError):
                self._save_record(status=f"failed: {error}", ended=now())
            raise
        return FinetuneOutcome(self.folder.path, 0, self.record)

    def _begin(self) -> None:
        facts = {
            **self.prepared.describe(),
            "seed": self.config.trainer.seed,
            "device": device_name(self.device),
            "precision": self.precision,
            "threads": torch.get_num_threads(),
            "model": self.options.model,
            "model_sha256": self.fingerprints["model"] if self.config.mode != "scratch" else None,
            "inputs": [{"path": path, **found} for path, found in self.data.examples.inputs.items()],
            "fingerprints": self.fingerprints,
            "config": self.config.model_dump(mode="json"),
        }
        again = self.options.resume and self.folder.record.exists()
        new = {**facts, "seconds": {"training": 0.0, "baselines": 0.0, "total": 0.0}}
        self.record = read_record(self.folder.record) if again else start_record(self.options.name, new)
        if again and self.record["fingerprints"] != self.fingerprints:
            raise InputError("the model or the data are not what the run began with", file=self.folder.path,
                             remedy="begin a new run with another -o")  # fmt: skip
        self.record |= facts
        self.record["pieces"].append(piece(self.record["step"]))
        dump_yaml(self.config, self.folder.config)
        self._save_record(status="running", ended=None)
        _log.info("%s: %s, %s parameters, on %s (%s)", self.folder.path, facts["task"], f"{facts['parameters']:,}",
                  facts["device"], self.precision)  # fmt: skip
        _log.info("splits: %s", facts["splits"])
        for line in describe_counts(facts["counts"]):
            _log.info("  %s", line)
        shared = {pair: count for overlap in self.data.overlaps for pair, count in overlap.items() if count}
        if shared:
            verb = "were taken out of training" if self.config.data.overlap == "drop" else "are kept"
            found = ", ".join(f"{count:,} of {pair}" for pair, count in shared.items())
            _log.warning("examples share sequence between splits (%s); they %s", found, verb)

    def _fits(self, signals: StopSignals) -> tuple[list[Predicted], int]:
        seeds = range(self.config.trainer.seed, self.config.trainer.seed + self.config.trainer.seeds)
        jobs = [(seed, fold) for seed in seeds for fold in range(len(self.data.splits))]
        finished = {job: load_predicted(self._job(*job) / "result") for job in jobs} if self.options.resume else {}
        runs: list[Predicted] = []
        with CsvLog(self.folder.metrics, FINETUNE_COLUMNS, offset=self._log_offset(jobs, finished)) as log:
            for seed, fold in jobs:
                known = finished.get((seed, fold))
                if known is None:
                    if len(jobs) > 1:
                        _log.info("seed %d, fold %d (%d of %d)", seed, fold + 1, len(runs) + 1, len(jobs))
                    known, exit_code = self._one(seed, fold, log, signals)
                    if known is None:
                        return runs, exit_code
                runs.append(known)
        return runs, 0

    def _job(self, seed: int, fold: int) -> Path:
        return self.folder.checkpoints / f"seed{seed}-fold{fold}"

    def _log_offset(self, jobs: list[tuple[int, int]], finished: dict[tuple[int, int], Predicted | None]) -> int | None:
        """Size of metrics.csv at what is resumed from: the newest checkpoint, or the last finished fit."""
        if not self.options.resume or not self.folder.metrics.is_file():
            return None
        offset = None
        for job in jobs:
            known = finished.get(job)
            if known is not None:
                offset = int(known.facts["log_offset"])
                continue
            path = latest_checkpoint(self._job(*job))
            return offset if path is None else read_state(path).offsets["metrics"]
        return offset

    def _one(self, seed: int, fold: int, log: CsvLog, signals: StopSignals) -> tuple[Predicted | None, int]:
        """One fit, its calibration and its predictions; None where a signal stopped it."""
        split, targets = self.data.splits[fold], self.data.labelling.targets
        began = time.monotonic()
        if self.config.mode == "probe":
            classifier, facts = self.start.probe(seed, split)
            log.write({"seed": seed, "fold": fold, "val_metric": facts["val_value"]})
        else:
            options = FitOptions(
                seed=seed,
                fold=fold,
                folder=self._job(seed, fold),
                log=log,
                precision=self.precision,
                fingerprints=self.fingerprints,
                signals=signals,
                quiet=self.options.quiet,
                resume=self.options.resume,
                judge_start=self.start.from_probe,
                checkpoint_seconds=self.config.trainer.checkpoint_seconds,
            )
            classifier = self.start.classifier(seed, split)
            state = fit(classifier, self.examples, targets, split.train, split.val, self.config, options)
            self.record |= {"step": state.step, "tokens": state.tokens}
            if state.exit_code is not None:
                return None, state.exit_code
            if self.config.mode == "lora":
                merge_adapters(classifier)
            facts = self._facts(state) | {"strands": _strands(classifier.task)}
        if signals.exit_code is not None:
            return None, signals.exit_code
        val_logits = predict_logits(classifier, self.examples, split.val, self.precision)
        task = calibrated(classifier.task, targets[split.val], val_logits)
        classifier.task = task
        metric, value = validation_value(task, targets[split.val], val_logits, self.config.optim.metric)
        of, rows = held_out(split)
        logits = predict_logits(classifier, self.examples, rows, self.precision)
        scores = task.probabilities(torch.from_numpy(logits).double()).double().numpy()
        facts |= {
            "seed": seed,
            "fold": fold,
            "metric": metric,
            "val_value": value,
            "evaluated_on": of,
            "temperature": task.temperature,
            "thresholds": list(task.thresholds),
            "seconds": time.monotonic() - began,
            "log_offset": log.sync(),
        }
        predicted = Predicted(facts, rows, scores, task.thresholds)
        place = self._job(seed, fold)
        place.mkdir(parents=True, exist_ok=True)
        save_classifier(classifier.cpu(), place / "model", card=self._card(facts), force=True)
        save_predicted(place / "result", predicted)
        for left in place.glob("*.safetensors"):
            left.unlink()
        self.record["seconds"]["training"] += facts["seconds"]
        return predicted, 0

    def _facts(self, state: Fit) -> dict[str, Any]:
        return {"best_epoch": state.best_epoch, "epochs": len(state.history), "step": state.step,
                "history": state.history}  # fmt: skip

    def _card(self, facts: dict[str, Any]) -> ModelCard:
        files = [Path(path).name for path in self.data.examples.inputs]
        before = self.prepared.card
        kept = [] if self.config.mode == "scratch" else before.data
        return ModelCard(
            data=[*kept, *files],
            steps=facts.get("step"),
            metrics={f"validation {facts['metric']}": round(facts["val_value"], 4)},
            licence=None if self.config.mode == "scratch" else before.licence,
            source=None if self.config.mode == "scratch" else self.options.model,
            notes=[f"Fine-tuned, mode {self.config.mode}, seed {facts['seed']}.",
                   f"Splits: {self.data.splits[facts['fold']].description}."],
        )  # fmt: skip

    def _baselines(self, runs: list[Predicted], signals: StopSignals) -> tuple[dict[str, list[Predicted]], int]:
        """Predictions of every baseline on every split."""
        found: dict[str, list[Predicted]] = {}
        for name in self.config.trainer.baselines:
            found[name] = []
            for fold, split in enumerate(self.data.splits):
                path = self.folder.checkpoints / f"baseline-{name}-fold{fold}"
                known = load_predicted(path) if self.options.resume else None
                if known is None:
                    began = time.monotonic()
                    known = fit_baseline(
                        name,
                        self.data,
                        split,
                        strands=runs[fold].facts["strands"] in ("average", "mean", "each"),
                        seed=self.config.trainer.seed,
                        device=self.device,
                    )
                    known.facts["seconds"] = time.monotonic() - began
                    self.record["seconds"]["baselines"] += known.facts["seconds"]
                    save_predicted(path, known)
                found[name].append(known)
                if signals.exit_code is not None:
                    return found, signals.exit_code
        return found, 0

    def _finish(self, runs: list[Predicted], baselines: dict[str, list[Predicted]]) -> None:
        best = runs[0]
        for run in runs[1:]:
            if is_better(run.facts["metric"], run.facts["val_value"], best.facts["val_value"]):
                best = run
        classifier = load_classifier(self._job(best.facts["seed"], best.facts["fold"]) / "model")
        # As it became: pooling and strands may have been left to validation.
        self.record["task"] = classifier.task.describe()
        results = FinetuneResults(self.options.name, self.config, self.data, runs, baselines, self.record)
        self.record["result"] = write_results(results, self.folder)
        card = self._card(best.facts)
        metrics = {
            f"{best.facts['evaluated_on']} {name}": round(found["mean"], 4)
            for name, found in self.record["result"]["summary"].items()
            if found["mean"] is not None
        }
        card = card.model_copy(update={"metrics": card.metrics | metrics})
        save_classifier(classifier, self.folder.model, card=card, force=True)
        self.record["peak_memory_bytes"] = {
            "training": peak_memory(self.device),
            "process": peak_memory(torch.device("cpu")),
        }
        self._save_record(status="finished", ended=now())

    def _save_record(self, **changes: Any) -> None:
        self.record |= changes
        write_record(self.folder.record, self.record)


def _strands(task: TaskConfig) -> str:
    """How a classifier uses strands, in the words of `HeadConfig`."""
    return "both" if task.both_strands else "average" if task.average_strands else "given"
