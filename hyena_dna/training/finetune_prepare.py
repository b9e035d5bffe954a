"""Model and data of a fine-tuning, read and checked before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from hyena_dna.errors import InputError
from hyena_dna.model.card import ModelCard
from hyena_dna.model.checkpoint import read_model
from hyena_dna.model.classifier import SequenceClassifier, TaskConfig
from hyena_dna.model.device import select_device
from hyena_dna.model.model import HyenaDNA
from hyena_dna.training.finetune_config import FinetuneConfig
from hyena_dna.training.finetune_data import LabelledData, build_data
from hyena_dna.training.probe_fit import HEAD_POOLINGS, PROBE_POOLINGS, Way, all_layers, probe_task, widest_pooling
from hyena_dna.training.resources import select_training_precision

__all__ = ["FinetuneOptions", "Prepared", "prepare"]


@dataclass(frozen=True)
class FinetuneOptions:
    """What a run is asked besides its configuration.

    Attributes:
        name: what the run is called in its report.
        model: the language model: see `hyena_dna.model.checkpoint.load_model`; None where the configuration has an
            architecture to train from scratch.
        device: auto, cpu, cuda or cuda:INDEX.
        resume: go on with an earlier run in the folder, if there is one.
        force: delete an earlier run in the folder.
        quiet: no progress.
    """

    name: str
    model: str | None = None
    device: str = "auto"
    resume: bool = False
    force: bool = False
    quiet: bool = False


@dataclass(frozen=True, eq=False)
class Prepared:
    """A run that is ready to start.

    Attributes:
        config: resolved: nothing that a number depends on is "auto".
        model: the language model, on the CPU.
        card: what is known of it.
        data: examples, targets, splits.
        task: what is predicted, but for what training decides.
        device: where it will run.
    """

    config: FinetuneConfig
    model: HyenaDNA
    card: ModelCard
    data: LabelledData
    task: TaskConfig
    device: torch.device

    def describe(self) -> dict[str, Any]:
        """The run in plain data: task, splits and their counts, what will be trained."""
        split = self.data.splits[0]
        return {
            "mode": self.config.mode,
            "task": self.task.describe(),
            "kind": self.task.kind,
            "labels": list(self.task.labels),
            "examples": len(self.data.examples),
            "longest": int(self.data.examples.lengths.max()),
            "splits": split.description if len(self.data.splits) == 1 else f"{len(self.data.splits)} random folds",
            "counts": self.data.counts(split),
            "overlaps": self.data.overlaps[0],
            "runs": self.config.trainer.seeds * len(self.data.splits),
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
        }


def prepare(config: FinetuneConfig, options: FinetuneOptions) -> Prepared:
    """Read model and data, and check that the one can learn the other.

    Raises:
        InputError: as `build_data`; there is no model; or head and model do not fit.
    """
    device = select_device(options.device)
    precision = select_training_precision(config.optim.precision, device)
    config = config.model_copy(update={"optim": config.optim.model_copy(update={"precision": precision})})
    card = ModelCard()
    if options.model is not None:
        if config.model is not None:
            raise InputError("the configuration has an architecture, and --model gives another",
                             remedy="leave one of them out")  # fmt: skip
        loaded = read_model(options.model)
        model, card = loaded.model, loaded.card
    elif config.model is not None:
        model = HyenaDNA(config.model)
    else:
        raise InputError("there is no model to fine-tune", remedy="give it with --model")
    data = build_data(config.data, seed=config.trainer.seed, longest=model.config.max_length)
    head = config.head
    task = TaskConfig(
        kind=data.labelling.kind,
        labels=data.labelling.labels,
        window=config.data.window,
        stranded=config.data.stranded,
        pooling=widest_pooling(HEAD_POOLINGS) if head.pooling == "auto" else head.pooling,
        layers=all_layers(head.layers, model.config.n_layer),
        both_strands=head.strands == "both",
        average_strands=head.strands not in ("both", "given"),
    )
    if config.mode == "probe":
        pooling = widest_pooling(PROBE_POOLINGS) if config.probe.pooling == "auto" else config.probe.pooling
        task = probe_task(task, config.probe, model.config.n_layer, Way("concat", pooling))
    SequenceClassifier(model, task)  # fails where head and model do not fit
    return Prepared(config, model, card, data, task, device)
