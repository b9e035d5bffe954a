"""Labelled examples on the device: all tokens are sent once, batches are gathered where they are used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyena_dna.model.classifier import SequenceClassifier
from hyena_dna.training.engine import Precision
from hyena_dna.training.finetune_data import LabelledData

__all__ = ["BatchShape", "DeviceExamples", "Examples", "autocast", "predict_logits", "strand_features"]

# Tokens of one forward pass without gradients. On a CPU speed is flat from 2,048 tokens on, and new memory is dear.
_PASS_TOKENS = {"cpu": 1 << 12, "cuda": 1 << 19}
# Rows are padded to a multiple of this many tokens, so that few lengths of filters are made.
_MULTIPLE = 64


class BatchShape(NamedTuple):
    """What decides how the tensors of a batch are shaped.

    Attributes:
        rows: examples.
        width: tokens of a row, padding included.
        padded: whether there is padding.
    """

    rows: int
    width: int
    padded: bool


class Examples(NamedTuple):
    """A batch on the device.

    Attributes:
        input_ids: (batch, length) uint8.
        padding: (batch, length), true where a row has ended; None where no row is padded.
        targets: (batch,) int64 for multiclass, else (batch, outputs) float32.
    """

    input_ids: Tensor
    padding: Tensor | None
    targets: Tensor

    @property
    def shape(self) -> BatchShape:
        """Of the batch."""
        rows, width = self.input_ids.shape
        return BatchShape(rows, width, self.padding is not None)


class DeviceExamples:
    """All examples of a run in the memory of a device.

    Args:
        data: the examples and their targets.
        device: where they go.
    """

    def __init__(self, data: LabelledData, device: torch.device) -> None:
        self.device = device
        self.lengths = data.examples.lengths
        self._ids = torch.from_numpy(data.examples.ids).to(device)
        self._lengths = torch.from_numpy(data.examples.lengths).to(device)
        targets = torch.from_numpy(np.asarray(data.labelling.targets))
        if data.labelling.kind != "multiclass":
            targets = targets.float().reshape(len(targets), -1)
        self._targets = targets.to(device)

    def send(self, rows: NDArray[np.int64]) -> Tensor:
        """Row numbers as a tensor on the device; nothing waits for a GPU."""
        numbers = torch.from_numpy(rows)
        return numbers.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else numbers

    def batch(self, rows: NDArray[np.int64], on_device: Tensor | None = None) -> Examples:
        """Gather a batch.

        Args:
            rows: row numbers.
            on_device: the same on the device, where they are there already.
        """
        _, width, padded = self.shape(rows)
        at = self.send(rows) if on_device is None else on_device
        padding = torch.arange(width, device=self.device) >= self._lengths[at, None] if padded else None
        return Examples(self._ids[at, :width], padding, self._targets[at])

    def shape(self, rows: NDArray[np.int64]) -> BatchShape:
        """What `batch` makes of these rows, without a look at the device."""
        lengths = self.lengths[rows]
        longest = int(lengths.max())
        if (lengths == longest).all():
            return BatchShape(len(rows), longest, False)
        return BatchShape(len(rows), min(-(-longest // _MULTIPLE) * _MULTIPLE, self._ids.shape[1]), True)

    def usual_shape(self, batches: Iterable[NDArray[np.int64]]) -> BatchShape:
        """The shape that most of these batches, each given by its rows, have; the first of several such."""
        return Counter(map(self.shape, batches)).most_common(1)[0][0]


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which linear layers compute at a precision."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


def _passes(examples: DeviceExamples, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Positions in `rows`, rows of like length together, as many per pass as suits the device."""
    lengths = examples.lengths[rows]
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, _PASS_TOKENS[examples.device.type] // int(lengths[order[start]]))
        yield order[start : start + count]
        start += count


@torch.inference_mode()
def predict_logits(
    classifier: SequenceClassifier, examples: DeviceExamples, rows: NDArray[np.int64], precision: Precision
) -> NDArray[np.float32]:
    """Logits (rows, outputs) as the task wants them, in the order of `rows`."""
    classifier.eval()
    found = np.empty((len(rows), classifier.task.n_outputs), np.float32)
    # Kept on the device until all are there: nothing waits in between.
    parts = []
    for part in _passes(examples, rows):
        batch = examples.batch(rows[part])
        with autocast(examples.device, precision):
            parts.append((part, classifier.predict(batch.input_ids, batch.padding)))
    for part, logits in parts:
        found[part] = logits.float().cpu().numpy()
    return found


@torch.inference_mode()
def strand_features(
    classifier: SequenceClassifier, examples: DeviceExamples, rows: NDArray[np.int64], precision: Precision
) -> NDArray[np.float32]:
    """Features (rows, features) that the head reads, in the order of `rows`."""
    classifier.eval()
    found = np.empty((len(rows), classifier.classifier.output.in_features), np.float32)
    for part in _passes(examples, rows):
        batch = examples.batch(rows[part])
        with autocast(examples.device, precision):
            features = classifier.features(batch.input_ids, batch.padding)
        found[part] = features.float().cpu().numpy()
    return found
