"""One optimiser step of a fine-tuning: strands, forward, backward, clip, update. No loop, no files."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyena_dna.errors import RunError
from hyena_dna.model.classifier import SequenceClassifier, reverse_complement_rows
from hyena_dna.training.engine import Precision, step_seed
from hyena_dna.training.finetune_batches import BatchShape, DeviceExamples, Examples, autocast
from hyena_dna.training.finetune_config import FinetuneConfig
from hyena_dna.training.finetune_loss import weighted_loss
from hyena_dna.training.finetune_optim import finetune_optimizer
from hyena_dna.training.graphed_pass import GraphedPass, suits_graph
from hyena_dna.training.optim import clip_coefficient, set_lr_scale
from hyena_dna.training.resources import activation_bytes
from hyena_dna.training.schedule import lr_scale

__all__ = ["FinetuneEngine"]

_log = logging.getLogger("hyena_dna")

_CPU_PASS_TOKENS = 1 << 14
_GPU_SHARE = 0.6


class FinetuneEngine:
    """Makes optimiser steps. Nothing in a step waits for a GPU.

    On a GPU, passes of the usual shape are recorded as a CUDA graph where they suit it: small, in one pass per step,
    without dropout and loss scale. Passes of other shapes, such as the last of an epoch, are launched as they come, and
    give the same gradients.

    Attributes:
        optimizer: AdamW over the parameters that require gradients.
        scaler: the loss scale of fp16; disabled at other precisions.

    Args:
        classifier: on its device.
        examples: all examples.
        config: the run.
        weights: (labels,) weight of each class in the loss, on the device, or None.
        total_steps: of the fit.
        usual: the shape that most batches have.
        longest: tokens of the longest training example.
        precision: arithmetic of the linear layers.
        seed: of strands and dropout.
        fold: number of the split, which gets random numbers of its own.
    """

    def __init__(
        self,
        classifier: SequenceClassifier,
        examples: DeviceExamples,
        config: FinetuneConfig,
        weights: Tensor | None,
        *,
        total_steps: int,
        usual: BatchShape,
        longest: int,
        precision: Precision,
        seed: int,
        fold: int,
    ) -> None:
        self._classifier, self._examples, self._config = classifier, examples, config.optim
        self._total_steps, self._seed, self._fold = total_steps, seed, fold
        self.optimizer = finetune_optimizer(classifier, config.optim)
        self.scaler = torch.amp.GradScaler(examples.device.type, enabled=precision == "fp16")
        self._all = list(classifier.parameters())
        self._trained = [parameter for parameter in self._all if parameter.requires_grad]
        self._pass_rows = self._rows_per_pass(longest, precision)
        # Bound to parts instead of to the engine: a cycle of references would keep the memory of a graph after its fit.
        self._run = partial(_pass, classifier, self.scaler, weights, precision)
        self._usual = usual
        self._graphed: GraphedPass[Examples] | None = None
        if config.trainer.graph and precision != "fp16" and self._suits_graph():
            norm = classifier.classifier.norm
            self._graphed = GraphedPass(self._run, self._trained, () if norm is None else norm.parameters())
        if self._graphed is not None:
            _log.info("steps of %d x %d tokens run as a CUDA graph", usual.rows, usual.width)
        elif examples.device.type == "cuda":
            _log.info("steps run without a CUDA graph")

    def step(self, step: int, rows: NDArray[np.int64], on_device: Tensor) -> Tensor:
        """Make one optimiser step.

        Args:
            step: its index, 0-based.
            rows: numbers of its examples.
            on_device: the same on the device.

        Returns:
            (2,) float32 on the device: the sum of losses, and that of their weights.

        Raises:
            RunError: GPU memory is too small.
        """
        torch.manual_seed(step_seed(self._seed, step, self._fold))
        set_lr_scale(self.optimizer, lr_scale(step, self._total_steps, self._config))
        # A graph adds to the gradients that it was recorded with.
        self.optimizer.zero_grad(set_to_none=self._graphed is None)
        sums = torch.zeros(2, device=self._examples.device)
        try:
            for part in self._parts(len(rows)):
                batch = self._gather(rows[part], on_device[part])
                graphed = self._graphed if batch.shape == self._usual else None
                sums += (self._run if graphed is None else graphed)(batch, len(rows))
        except torch.OutOfMemoryError as error:
            error.__traceback__ = None
            raise RunError(
                f"out of GPU memory with {self._pass_rows} examples per forward pass: set optim.batch_size lower"
            ) from None
        self._update(len(rows) / sums[1])
        return sums

    def _update(self, factor: Tensor) -> None:
        """Update the parameters; `factor` turns their gradients, which were divided by rows, into those of the mean."""
        self.scaler.unscale_(self.optimizer)
        gradients = [value.grad for value in self._trained if value.grad is not None]
        _, coefficient = clip_coefficient(gradients, factor, self._config.clip)
        torch._foreach_mul_(gradients, coefficient)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # Fused optimisers and graphs write to parameters without counting it, and what evaluation keeps is trusted by
        # that count.
        torch.autograd.graph.increment_version(self._all)

    def _gather(self, rows: NDArray[np.int64], on_device: Tensor) -> Examples:
        """A batch, each row on a random strand where predictions are means of both."""
        batch, task = self._examples.batch(rows, on_device), self._classifier.task
        if task.both_strands or not task.average_strands:
            return batch
        ids, padding = batch.input_ids, batch.padding
        lengths = None if padding is None else (~padding).sum(1)
        coin = torch.rand(len(ids), 1, device=ids.device) < 0.5
        return batch._replace(input_ids=torch.where(coin, reverse_complement_rows(ids, lengths), ids))

    def _parts(self, count: int) -> Iterator[slice]:
        for start in range(0, count, self._pass_rows):
            yield slice(start, start + self._pass_rows)

    def _rows_per_pass(self, longest: int, precision: Precision) -> int:
        """Rows whose activations fit in memory at once; more than that are several passes of one step."""
        device, model = self._examples.device, self._classifier.model
        if device.type != "cuda":
            return max(1, _CPU_PASS_TOKENS // longest)
        # What an earlier fit left behind is free, too.
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(device)
        per_row = longest * self._strands * activation_bytes(model.config, precision, recompute=False)
        return max(1, int(_GPU_SHARE * free / per_row))

    def _suits_graph(self) -> bool:
        rows, width, _ = self._usual
        # What a graph keeps lies in memory beside a pass that is launched.
        if 2 * rows > self._pass_rows or self._classifier.classifier.dropout.p > 0:
            return False
        return suits_graph(self._classifier.model, rows * width * self._strands, self._examples.device)

    @property
    def _strands(self) -> int:
        """How many strands of an example a pass reads."""
        return 2 if self._classifier.task.both_strands else 1


def _pass(
    classifier: SequenceClassifier,
    scaler: torch.amp.GradScaler,
    weights: Tensor | None,
    precision: Precision,
    batch: Examples,
    of: int,
) -> Tensor:
    """Add the gradients of a batch, divided by `of`; the sums of losses and weights, (2,). Nothing waits for a GPU."""
    with autocast(batch.input_ids.device, precision):
        logits = classifier(batch.input_ids, batch.padding)
    loss, weight = weighted_loss(classifier.task, logits.float(), batch.targets, weights)
    scaler.scale(loss / of).backward()  # type: ignore[no-untyped-call]
    return torch.stack([loss.detach(), weight])
