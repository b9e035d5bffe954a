"""The loss of every kind of task, with weights of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hyena_dna.errors import InputError
from hyena_dna.model.classifier import TaskConfig

__all__ = ["class_weights", "weighted_loss"]


def class_weights(
    task: TaskConfig, targets: NDArray[np.generic], wanted: Literal["none", "balanced"] | Mapping[str, float]
) -> Tensor | None:
    """Weight of each class in the loss, (labels,); None where all count alike or there are no classes.

    `balanced` is n / (classes * examples of the class); for multilabel (examples without) / (examples with), which is
    what an example with the label then counts.

    Args:
        task: the task.
        targets: of the training examples.
        wanted: how.

    Raises:
        InputError: a weight is given for a class that does not exist, or the task is a regression.
    """
    if wanted == "none":
        return None
    if task.kind == "regression":
        raise InputError("a regression has no class weights", remedy="set optim.class_weights=none")
    if isinstance(wanted, Mapping):
        unknown = sorted(set(wanted) - set(task.labels))
        if unknown:
            raise InputError(f"class_weights names {unknown[0]!r}; the classes are {', '.join(task.labels)}")
        return torch.tensor([wanted.get(label, 1.0) for label in task.labels])
    if task.kind == "multilabel":
        having = np.asarray(targets, np.float64).sum(0)
        return torch.from_numpy((len(targets) - having) / np.maximum(1, having)).float()
    counts = np.bincount(np.asarray(targets, np.int64), minlength=len(task.labels))
    return torch.from_numpy(len(targets) / (len(task.labels) * np.maximum(1, counts))).float()


def weighted_loss(task: TaskConfig, logits: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sum of the losses of a batch, and the sum of their weights: cross-entropy in nats, or squared error.

    Args:
        task: the task.
        logits: (batch, outputs), float32.
        targets: (batch,) int64 for multiclass, else (batch, outputs) float32.
        weights: (labels,) on the device, or None.
    """
    if task.kind == "regression":
        # In units of the spread of the labels, so that one learning rate suits all of them.
        error = (logits - targets) / task.scale
        # Filled on the device: a number of the host's would have to be waited for.
        return error.square().sum(), error.new_full((), error.numel())
    if task.kind == "multiclass":
        losses = functional.cross_entropy(logits, targets, reduction="none")
        factor = torch.ones_like(losses) if weights is None else weights[targets]
        return (losses * factor).sum(), factor.sum()
    losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if weights is None:
        factor = torch.ones_like(losses)
    elif task.kind == "binary":
        factor = torch.where(targets > 0.5, weights[1], weights[0])
    else:
        factor = torch.where(targets > 0.5, weights, 1.0)
    return (losses * factor).sum(), factor.sum()
