"""A small convolutional network trained from scratch: the baseline that learns motifs."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hyena_dna.baselines.linear import BaselineFit, LabelledSequences, dev_score
from hyena_dna.datasets.cut import cut_windows
from hyena_dna.errors import InputError
from hyena_dna.evaluation.calibration import probabilities
from hyena_dna.evaluation.metrics import MAIN_METRIC
from hyena_dna.evaluation.tasks import Targets, TaskKind
from hyena_dna.tokenizer import A, T

__all__ = ["MotifNetwork", "fit_predict_cnn"]

_CHANNELS = 64
_BATCH_BASES = 1 << 16
_MOST_BATCH = 128
_LEARNING_RATE = 1e-3
_PATIENCE = 4
# Bases read in training, so that long windows do not take hours on a CPU: they have more bases to learn from.
_BUDGET = 1.2e8
_EPOCHS = (3, 25)


class MotifNetwork(nn.Module):
    """Motif scanners, a layer that combines them nearby, and their maximum and mean over the sequence.

    Args:
        n_outputs: logits per sequence.
    """

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.scan = nn.Conv1d(4, _CHANNELS, 15, padding=7)
        self.combine = nn.Conv1d(_CHANNELS, _CHANNELS, 7, padding=3)
        self.norms = nn.ModuleList([nn.BatchNorm1d(_CHANNELS) for _ in range(2)])
        self.dropout = nn.Dropout(0.3)
        self.output = nn.Linear(2 * _CHANNELS, n_outputs)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits `(batch, n_outputs)` of token ids `(batch, length)`; what is no base is a row of zeros."""
        bases = torch.arange(A, T + 1, device=input_ids.device, dtype=input_ids.dtype)
        known = input_ids[:, None] == bases[:, None]
        x = functional.relu(self.norms[0](self.scan(known.float())))
        # Maxima over four neighbours, of short sequences too.
        x = functional.max_pool1d(x, 4, ceil_mode=True)
        x = functional.relu(self.norms[1](self.combine(x)))
        inside = functional.max_pool1d(known.any(1, keepdim=True).float(), 4, ceil_mode=True)
        mean = (x * inside).sum(2) / inside.sum(2).clamp(min=1)
        # After the rectifier nothing lies below the zero that positions outside get.
        pooled = torch.cat([(x * inside).amax(2), mean], 1)
        logits: Tensor = self.output(self.dropout(pooled))
        return logits


def fit_predict_cnn(
    train: LabelledSequences,
    dev: LabelledSequences,
    test: Sequence[NDArray[np.uint8]],
    kind: TaskKind,
    n_labels: int,
    *,
    strands: bool = True,
    seed: int = 0,
    device: torch.device | None = None,
) -> BaselineFit:
    """Train the network, keep the epoch that is best on dev, and predict.

    Args:
        train: what it learns from.
        dev: where training stops, by the main metric of the task.
        test: sequences to predict; they choose nothing.
        kind: the kind of task.
        n_labels: classes, or labels.
        strands: train on both strands in turn and predict their mean logit; else on sequences as they stand.
        seed: of the initial weights and the order of rows.
        device: where to run; None for the CPU.

    Raises:
        InputError: there are no dev rows.
    """
    if not len(dev.sequences):
        raise InputError("the CNN baseline stops training by validation rows, and there are none")
    place = device or torch.device("cpu")
    rng = np.random.default_rng(seed)
    rows = _Rows(train.sequences)
    targets, shift, scale = _training_targets(kind, train.targets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = MotifNetwork(1 if kind in ("binary", "regression") else n_labels).to(place)
        low, high = _EPOCHS
        epochs = int(min(high, max(low, _BUDGET // max(1, rows.bases))))
        batches = rows.batches(rng)
        optimizer = torch.optim.AdamW(network.parameters(), _LEARNING_RATE, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3 * _LEARNING_RATE, epochs * len(batches))
        dev_rows = _Rows(dev.sequences)
        best, best_epoch, kept = -math.inf, 0, copy.deepcopy(network.state_dict())
        for epoch in range(1, epochs + 1):
            network.train()
            for batch in batches:
                ids = torch.from_numpy(rows.cut(batch, bool(strands and rng.integers(2)))).to(place)
                loss = _loss(kind, network(ids), torch.from_numpy(targets[batch]).to(place))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
            batches = rows.batches(rng)
            value = dev_score(kind, n_labels, dev.targets, probabilities(kind, _logits(network, dev_rows, strands)))
            if value > best:
                best, best_epoch, kept = value, epoch, copy.deepcopy(network.state_dict())
            elif epoch - best_epoch >= _PATIENCE:
                break
    network.load_state_dict(kept)
    scores, dev_scores = (
        probabilities(kind, _logits(network, part, strands)) * scale + shift for part in (_Rows(test), dev_rows)
    )
    settings = {
        "layers": "2 convolutions of 64 channels",
        "epochs": best_epoch,
        "strands": "both" if strands else "given",
        f"dev_{MAIN_METRIC[kind]}": best if math.isfinite(best) else None,
    }
    return BaselineFit("small CNN", scores, dev_scores, settings)


class _Rows:
    """Sequences one after the other, cut into padded batches."""

    def __init__(self, sequences: Sequence[NDArray[np.uint8]]) -> None:
        self.lengths = np.array([len(sequence) for sequence in sequences], np.int64)
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.tokens = np.concatenate([np.empty(0, np.uint8), *sequences])
        self.bases = int(self.lengths.sum())

    def batches(self, rng: np.random.Generator | None = None) -> list[NDArray[np.int64]]:
        """Row numbers of each batch; rows of similar length together, shuffled where there is a generator."""
        longest = max(1, int(self.lengths.max(initial=1)))
        size = max(1, min(_MOST_BATCH, _BATCH_BASES // longest))
        order = np.arange(len(self.lengths)) if rng is None else rng.permutation(len(self.lengths))
        cuts = range(size, len(order), size)
        # A last batch of one row has no spread to normalise by: it joins the one before.
        return np.split(order, [cut for cut in cuts if rng is None or len(order) - cut > 1])

    def cut(self, batch: NDArray[np.int64], reverse: bool) -> NDArray[np.uint8]:
        """Token ids (batch, longest), on one strand or the other."""
        lengths = self.lengths[batch]
        backwards = np.full(len(batch), reverse)
        return cut_windows(self.tokens, self.starts[batch], lengths, int(lengths.max()), backwards).ids


@torch.inference_mode()
def _logits(network: MotifNetwork, rows: _Rows, strands: bool) -> NDArray[np.float64]:
    network.eval()
    place = next(network.parameters()).device
    found = []
    for batch in rows.batches():
        passes = [
            network(torch.from_numpy(rows.cut(batch, reverse)).to(place)) for reverse in ((False, True)[: 1 + strands])
        ]
        found.append(torch.stack(passes).mean(0).double().cpu().numpy())
    return np.concatenate(found)


def _training_targets(kind: TaskKind, targets: Targets) -> tuple[NDArray[np.generic], float, float]:
    """Targets as the loss takes them; for regression standardised, with what undoes it."""
    if kind == "multiclass":
        return np.asarray(targets, np.int64), 0.0, 1.0
    values = np.asarray(targets, np.float64)
    if kind == "regression":
        shift, scale = float(values.mean()), float(values.std()) or 1.0
        return ((values - shift) / scale).astype(np.float32)[:, None], shift, scale
    return values.astype(np.float32).reshape(len(values), -1), 0.0, 1.0


def _loss(kind: TaskKind, logits: Tensor, targets: Tensor) -> Tensor:
    if kind == "multiclass":
        return functional.cross_entropy(logits, targets)
    if kind == "regression":
        return functional.mse_loss(logits, targets)
    return functional.binary_cross_entropy_with_logits(logits, targets)
