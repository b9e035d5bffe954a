"""One fine-tuning: steps, validation after each epoch, early stopping, checkpoints."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hyena_dna.errors import InputError, RunError
from hyena_dna.evaluation.calibration import probabilities
from hyena_dna.evaluation.metrics import MAIN_METRIC, evaluate
from hyena_dna.evaluation.tasks import Targets
from hyena_dna.model.classifier import SequenceClassifier, TaskConfig
from hyena_dna.training.checkpoints import (
    RunState,
    checkpoint_path,
    latest_checkpoint,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from hyena_dna.training.engine import Precision
from hyena_dna.training.finetune_batches import DeviceExamples, predict_logits
from hyena_dna.training.finetune_config import FinetuneConfig
from hyena_dna.training.finetune_engine import FinetuneEngine
from hyena_dna.training.finetune_loss import class_weights, weighted_loss
from hyena_dna.training.metrics_log import CsvLog
from hyena_dna.training.progress import Progress
from hyena_dna.training.schedule import lr_scale
from hyena_dna.training.signals import StopSignals

__all__ = ["Fit", "FitOptions", "fit", "is_better", "validation_value"]

_BEST = "best-weights.safetensors"
_LOWER_IS_BETTER = frozenset({"mse", "mae"})
# Batches that the shape of most is told from.
_SHAPED_BATCHES = 1000
_SHOWN_SECONDS = 2.0


@dataclass(frozen=True)
class FitOptions:
    """What one fit works with besides data and configuration.

    Attributes:
        seed: of order, strands and dropout.
        fold: number of the split, for the log.
        folder: where its checkpoints go.
        log: rows of metrics.csv.
        precision: arithmetic of the linear layers.
        fingerprints: of model and data; a checkpoint of others is refused.
        signals: the open signal context.
        quiet: no progress.
        resume: go on from a checkpoint in the folder.
        judge_start: what the fit starts from is a candidate too, because its head already works.
        checkpoint_seconds: least time between checkpoints.
    """

    seed: int
    fold: int
    folder: Path
    log: CsvLog
    precision: Precision
    fingerprints: dict[str, str]
    signals: StopSignals
    quiet: bool = False
    resume: bool = False
    judge_start: bool = False
    checkpoint_seconds: float = 20.0


@dataclass
class Fit:
    """How far a fit has come.

    Attributes:
        step: steps done.
        tokens: trained on, by the mean length of the examples.
        best_epoch: epoch with the best validation metric, from 1; 0 where none was better than the start.
        best_value: that metric.
        worse: epochs since.
        loss_sum: weighted losses of the epoch that is under way.
        weight_sum: their weights.
        seconds: time spent training.
        exit_code: set where a signal stopped it.
        history: a row per epoch.
    """

    step: int = 0
    tokens: int = 0
    best_epoch: int = 0
    best_value: float = -math.inf
    worse: int = 0
    loss_sum: float = 0.0
    weight_sum: float = 0.0
    seconds: float = 0.0
    exit_code: int | None = None
    history: list[dict[str, float]] = field(default_factory=list)


def is_better(metric: str, value: float, best: float) -> bool:
    """Whether a metric's value is better than the best so far, where -inf is none."""
    if not math.isfinite(value):
        return False
    if not math.isfinite(best):
        return True
    return value < best if metric in _LOWER_IS_BETTER else value > best


def validation_value(
    task: TaskConfig, targets: Targets, logits: NDArray[np.float32], metric: str | None
) -> tuple[str, float]:
    """The name and value of the metric that chooses between models.

    Raises:
        InputError: the task has no such metric.
    """
    found = evaluate(task.kind, task.labels, targets, probabilities(task.kind, logits), n_bootstrap=0).metrics
    name = MAIN_METRIC[task.kind] if metric is None else metric
    if name not in found:
        raise InputError(f"there is no metric {name!r} for a {task.kind} task", remedy=f"one of {', '.join(found)}")
    return name, found[name].value


class _Order:
    """Which examples each step takes: a permutation per epoch, a pure function of seed and epoch."""

    def __init__(self, rows: NDArray[np.int64], batch_size: int, seed: int) -> None:
        self._rows = rows
        self._size = min(batch_size, len(rows))
        self._seed = seed
        self.steps = -(-len(rows) // self._size)

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """All rows in the order of an epoch (0-based)."""
        return np.random.default_rng([self._seed, epoch]).permutation(self._rows)

    def slice(self, step: int) -> slice:
        """Where in the order of its epoch the rows of a step are."""
        start = step % self.steps * self._size
        return slice(start, start + self._size)


def fit(
    classifier: SequenceClassifier,
    examples: DeviceExamples,
    targets: Targets,
    train: NDArray[np.int64],
    val: NDArray[np.int64],
    config: FinetuneConfig,
    options: FitOptions,
) -> Fit:
    """Train a classifier, and leave it with the weights of the epoch that was best on validation, its norm folded.

    Args:
        classifier: on its device; parameters that require no gradient stay as they are.
        examples: all examples.
        targets: of all examples.
        train: rows to learn from.
        val: rows that choose the epoch.
        config: the run.
        options: seed, folder, log.

    Raises:
        InputError: the metric is unknown, or a checkpoint is of another run.
        RunError: the loss is no number, or memory is too small.
    """
    return _Fitting(classifier, examples, targets, train, val, config, options).run()


class _Weights(nn.Module):
    """Weights as a module, which is what checkpoints hold; loading writes into the given tensors."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        for name, value in weights.items():
            self.register_parameter(name.replace(".", "/"), nn.Parameter(value, requires_grad=False))


class _Fitting:
    def __init__(
        self,
        classifier: SequenceClassifier,
        examples: DeviceExamples,
        targets: Targets,
        train: NDArray[np.int64],
        val: NDArray[np.int64],
        config: FinetuneConfig,
        options: FitOptions,
    ) -> None:
        self.classifier, self.examples, self.targets = classifier, examples, targets
        self.val, self.config, self.options = val, config, options
        self.optim = config.optim
        self.order = _Order(train, config.optim.batch_size, options.seed)
        self.total = config.optim.epochs * self.order.steps
        weights = class_weights(classifier.task, targets[train], config.optim.class_weights)
        rows = self.order.epoch(0)
        steps = range(min(self.order.steps, _SHAPED_BATCHES))
        self.engine = FinetuneEngine(
            classifier,
            examples,
            config,
            None if weights is None else weights.to(examples.device),
            total_steps=self.total,
            usual=examples.usual_shape(rows[self.order.slice(step)] for step in steps),
            longest=int(examples.lengths[train].max()),
            precision=options.precision,
            seed=options.seed,
            fold=options.fold,
        )
        trained = {name: value for name, value in classifier.named_parameters() if value.requires_grad}
        # What changes in training: the running statistics of the head do, without a gradient.
        norm = classifier.classifier.norm
        following = {} if norm is None else dict(norm.named_parameters(prefix="classifier.norm"))
        self.changing = {**trained, **following}
        self.best = {name: value.detach().clone() for name, value in self.changing.items()}
        self.state = Fit()
        self.bases = float(examples.lengths[train].mean()) * min(config.optim.batch_size, len(train))
        self.progress = Progress(self.total, int(self.total * self.bases), quiet=options.quiet)

    def run(self) -> Fit:
        options = self.options
        if not (options.resume and self._resume()) and options.judge_start:
            self._end_epoch(0, math.nan)
        state = self.state
        sums = torch.tensor([state.loss_sum, state.weight_sum], device=self.examples.device, dtype=torch.float32)
        rows, on_device = self._begin_epoch(state.step // self.order.steps)
        shown = saved = began = time.monotonic()
        while state.step < self.total and state.worse < self.optim.patience:
            part = self.order.slice(state.step)
            sums += self.engine.step(state.step, rows[part], on_device[part])
            state.step += 1
            state.tokens = int(state.step * self.bases)
            if state.step % self.order.steps == 0:
                epoch = state.step // self.order.steps
                self._end_epoch(epoch, float(sums[0] / sums[1]))
                sums.zero_()
                rows, on_device = self._begin_epoch(epoch)
            now = time.monotonic()
            if now - shown > _SHOWN_SECONDS and state.step % self.order.steps:
                shown = now
                self._show(sums)
            stopped = options.signals.exit_code is not None
            if stopped or now - saved > options.checkpoint_seconds:
                state.seconds += now - began
                self._save(sums)
                saved = began = time.monotonic()
            if stopped:
                state.exit_code = options.signals.exit_code
                return state
        state.seconds += time.monotonic() - began
        self.progress.close()
        with torch.no_grad():
            for name, value in self.changing.items():
                value.copy_(self.best[name])
        self.classifier.classifier.fold_norm()
        self.classifier.eval()
        return state

    def _begin_epoch(self, epoch: int) -> tuple[NDArray[np.int64], Tensor]:
        # Validation leaves it in evaluation mode.
        self.classifier.train()
        rows = self.order.epoch(epoch)
        return rows, self.examples.send(rows)

    def _end_epoch(self, epoch: int, loss: float) -> None:
        """Validate after an epoch, or before the first one."""
        state, task = self.state, self.classifier.task
        if epoch and not math.isfinite(loss):
            raise RunError(f"the loss became {loss} in epoch {epoch}: set optim.lr lower")
        logits = predict_logits(self.classifier, self.examples, self.val, self.options.precision)
        truth = self.targets[self.val]
        metric, value = validation_value(task, truth, logits, self.optim.metric)
        val_loss, weight = weighted_loss(task, torch.from_numpy(logits), _as_tensor(task, truth), None)
        row: dict[str, int | float] = {
            "seed": self.options.seed,
            "fold": self.options.fold,
            "epoch": epoch,
            "step": state.step,
            "val_loss": float(val_loss / weight),
            "val_metric": value,
        }
        if epoch:
            row |= {"loss": loss, "lr": self.optim.lr * lr_scale(state.step - 1, self.total, self.optim)}
        self.options.log.write(row)
        state.history.append(row)
        if is_better(metric, value, state.best_value) or not state.history[1:]:
            state.best_epoch, state.best_value, state.worse = epoch, value, 0
            self.best = {name: parameter.detach().clone() for name, parameter in self.changing.items()}
        else:
            state.worse += 1
        trained = f"loss {loss:.4f}, " if epoch else ""
        self.progress.note(
            f"epoch {epoch}/{self.optim.epochs}: {trained}validation loss {row['val_loss']:.4f}, "
            f"{metric} {value:.4f}{' (best)' if state.best_epoch == epoch else ''}"
        )

    def _show(self, sums: Tensor) -> None:
        loss = float(sums[0] / sums[1].clamp(min=1e-12))
        self.progress.update(self.state.step, self.state.tokens, loss)

    def _save(self, sums: Tensor) -> None:
        state, options = self.state, self.options
        state.loss_sum, state.weight_sum = float(sums[0]), float(sums[1])
        kept = {key: value for key, value in vars(state).items() if key not in ("step", "tokens", "exit_code")}
        # JSON has no infinity.
        kept["best_value"] = state.best_value if math.isfinite(state.best_value) else None
        run = RunState(
            step=state.step,
            tokens=state.tokens,
            training_seconds=state.seconds,
            validation_seconds=0.0,
            config=self.config.model_dump(mode="json"),
            fingerprints=options.fingerprints,
            offsets={"metrics": options.log.sync()},
            scaler=self.engine.scaler.state_dict(),
            finetune=kept,
        )
        options.folder.mkdir(parents=True, exist_ok=True)
        # The best weights first: a checkpoint never speaks of weights that are not there.
        save_checkpoint(options.folder / f"{state.best_epoch}-{_BEST}", _Weights(self.best), None, run)
        save_checkpoint(checkpoint_path(options.folder, state.step), self.classifier, self.engine.optimizer, run)
        prune_checkpoints(options.folder, 1)
        for left in options.folder.glob(f"*-{_BEST}"):
            if left.name != f"{state.best_epoch}-{_BEST}":
                left.unlink()

    def _resume(self) -> bool:
        """Load the newest checkpoint; whether there is one."""
        options = self.options
        path = latest_checkpoint(options.folder)
        if path is None:
            return False
        run = load_checkpoint(path, self.classifier, self.engine.optimizer)
        if run.fingerprints != options.fingerprints:
            raise InputError("the model or the data are not what the run began with", file=path,
                             remedy="begin a new run with another -o")  # fmt: skip
        kept = dict(run.finetune)
        kept["best_value"] = -math.inf if kept["best_value"] is None else kept["best_value"]
        self.state = Fit(step=run.step, tokens=run.tokens, **kept)
        self.engine.scaler.load_state_dict(run.scaler)
        load_checkpoint(options.folder / f"{self.state.best_epoch}-{_BEST}", _Weights(self.best))
        return True


def _as_tensor(task: TaskConfig, targets: Targets) -> Tensor:
    found = torch.from_numpy(np.asarray(targets))
    return found if task.kind == "multiclass" else found.float().reshape(len(found), -1)
