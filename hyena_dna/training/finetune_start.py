"""What the training of a classifier starts from: a language model, and a head that a linear model gives."""

from __future__ import annotations

import copy
import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dna.datasets.label_splits import Split
from hyena_dna.model.classifier import FeatureNorm, Pooling, SequenceClassifier, TaskConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.training.engine import Precision
from hyena_dna.training.finetune_batches import DeviceExamples, strand_features
from hyena_dna.training.finetune_config import ProbeConfig
from hyena_dna.training.finetune_optim import freeze_unused
from hyena_dna.training.finetune_prepare import Prepared
from hyena_dna.training.lora import add_adapters
from hyena_dna.training.probe_fit import (
    HEAD_POOLINGS,
    PROBE_POOLINGS,
    ProbeFit,
    Strands,
    Way,
    fit_probe,
    probe_task,
    ways_of,
    widest,
)

__all__ = ["Start"]

_log = logging.getLogger("hyena_dna")

# How a head uses strands, in the words of the probe that it starts from: single strands are what training goes on
# with, where it draws one of them for each example.
_PROBE_STRANDS: dict[str, Strands] = {"average": "each", "both": "concat", "given": "fwd"}
_HEAD_STRANDS = {probe: head for head, probe in _PROBE_STRANDS.items()}
# A head to start from is settled by so many examples.
_GUIDE_ROWS = 20_000
# Means and spreads of features are known well enough from so many.
_NORM_ROWS = 2048


class Start:
    """Makes classifiers to be trained, and probes, which are done at once.

    Args:
        prepared: the run.
        examples: all examples on the device.
        precision: arithmetic of the linear layers.
    """

    def __init__(self, prepared: Prepared, examples: DeviceExamples, precision: Precision) -> None:
        self.prepared, self.config, self.data = prepared, prepared.config, prepared.data
        self.device = prepared.device
        self.examples, self.precision = examples, precision
        # Of all examples, once for all seeds and folds.
        self._features: NDArray[np.float32] | None = None

    def classifier(self, seed: int, split: Split) -> SequenceClassifier:
        """A model with a new head, ready to be trained."""
        torch.manual_seed(seed)
        scratch = self.config.mode == "scratch"
        model = HyenaDNA(self.prepared.model.config) if scratch else copy.deepcopy(self.prepared.model)
        head = self.config.head
        guide = self._guide(seed, split, model) if self.from_probe or "auto" in (head.strands, head.pooling) else None
        strands = _HEAD_STRANDS[guide.way.strands] if guide is not None else head.strands
        update: dict[str, Any] = {"both_strands": strands == "both", "average_strands": strands == "average"}
        if guide is not None and head.pooling == "auto":
            update["pooling"] = guide.way.pooling
        task = self.scaled(split).model_copy(update=update)
        classifier = SequenceClassifier(model, task, dropout=head.dropout)
        if self.from_probe and guide is not None:
            classifier.classifier.load_state_dict(guide.classifier.classifier.state_dict())
        classifier.to(self.device)
        sample = np.random.default_rng(seed).permutation(split.train)[:_NORM_ROWS]
        features = torch.from_numpy(strand_features(classifier, self.examples, np.sort(sample), self.precision))
        norm = FeatureNorm(features.mean(0), features.std(0, correction=0))
        classifier.classifier.set_norm(norm, keep=self.from_probe)
        if self.config.mode == "lora":
            add_adapters(classifier, self.config.lora)
            classifier.to(self.device)
        freeze_unused(classifier)
        return classifier

    @property
    def from_probe(self) -> bool:
        """Whether the head starts as that of a probe, so that the start is a candidate too."""
        # Attention has a query, which no linear model fits.
        head = self.config.head
        return head.from_probe and self.config.mode in ("full", "lora") and head.pooling != "attention"

    def scaled(self, split: Split) -> TaskConfig:
        """The task; a regression with mean and spread of its training values."""
        task = self.prepared.task
        if task.kind != "regression":
            return task
        values = self.data.labelling.targets[split.train]
        return task.model_copy(update={"shift": float(values.mean()), "scale": float(values.std())})

    def probe(self, seed: int, split: Split) -> tuple[SequenceClassifier, dict[str, Any]]:
        """A linear model on frozen features, and how it came to be."""
        config, train, model = self.config.probe, split.train, self.prepared.model
        if config.max_train is not None and len(train) > config.max_train:
            train = np.sort(np.random.default_rng(seed).permutation(train)[: config.max_train])
        poolings = PROBE_POOLINGS if config.pooling == "auto" else (config.pooling,)
        ways = ways_of(("mean", "concat") if config.strands == "auto" else (config.strands,), poolings)
        if self._features is None:
            self._features = self._read(np.arange(len(self.data.examples)), model, config, ways)
        features = self._features[train], self._features[split.val]
        found = self._fit(seed, split, copy.deepcopy(model), config, ways, train, features)
        facts = {**found.way._asdict(), "C": found.strength, "tried": found.tried, "train_rows": len(train)}
        return found.classifier, facts | {"val_value": found.value}

    def _guide(self, seed: int, split: Split, model: HyenaDNA) -> ProbeFit:
        """A probe of what the head is going to read: it says how to use strands, and gives a head to start from."""
        head, train = self.config.head, split.train
        strands: tuple[Strands, ...] = (_PROBE_STRANDS[head.strands],) if head.strands != "auto" else ("each", "concat")
        # A query for attention is learnt later; until then it is the mean.
        poolings: tuple[Pooling, ...] = HEAD_POOLINGS
        if head.pooling != "auto":
            poolings = ("mean" if head.pooling == "attention" else head.pooling,)
        ways = ways_of(strands, poolings)
        config = ProbeConfig(layers=self.prepared.task.layers)
        if len(train) > _GUIDE_ROWS:
            train = np.sort(np.random.default_rng(seed).permutation(train)[:_GUIDE_ROWS])
        features = self._read(train, model, config, ways), self._read(split.val, model, config, ways)
        return self._fit(seed, split, model, config, ways, train, features)

    def _read(
        self, rows: NDArray[np.int64], model: HyenaDNA, config: ProbeConfig, ways: tuple[Way, ...]
    ) -> NDArray[np.float32]:
        """Features of a frozen model that hold those of all ways."""
        task = probe_task(self.prepared.task, config, model.config.n_layer, widest(ways))
        reader = SequenceClassifier(model, task)
        return strand_features(reader.to(self.device), self.examples, rows, self.precision)

    def _fit(
        self,
        seed: int,
        split: Split,
        model: HyenaDNA,
        config: ProbeConfig,
        ways: tuple[Way, ...],
        train: NDArray[np.int64],
        features: tuple[NDArray[np.float32], NDArray[np.float32]],
    ) -> ProbeFit:
        targets = self.data.labelling.targets
        found = fit_probe(
            model,
            self.scaled(split),
            config,
            (features[0], targets[train]),
            (features[1], targets[split.val]),
            ways=ways,
            metric=self.config.optim.metric,
            balanced=self.config.optim.class_weights == "balanced",
            seed=seed,
        )
        _log.info("probe: %s features of %s examples, pooling %s, strands %s, C %g, validation %s %.4f",
                  f"{found.classifier.classifier.output.in_features:,}", f"{len(train):,}", found.way.pooling,
                  found.way.strands, found.strength, found.metric, found.value)  # fmt: skip
        return found
