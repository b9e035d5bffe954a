"""A language model with a head that classifies sequences, or predicts numbers of them; its files.

A fine-tuned model is an ordinary model directory: the weights of the language model have their usual names, those of
the head begin with `classifier.`, and `config.json` has one more section, `task`.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from hyena_dna.errors import InputError
from hyena_dna.model.card import ModelCard
from hyena_dna.model.checkpoint import HEAD_PREFIX, LoadedModel, read_model, save_model
from hyena_dna.model.model import HyenaDNA
from hyena_dna.model.names import check_names
from hyena_dna.model.task import Pooling, TaskConfig, TaskKind
from hyena_dna.tokenizer import BASE_IDS, PAD

__all__ = [
    "ClassifierHead",
    "FeatureNorm",
    "Pooling",
    "SequenceClassifier",
    "TaskConfig",
    "TaskKind",
    "classifier_from",
    "load_classifier",
    "pool_positions",
    "reverse_complement_rows",
    "save_classifier",
]

_LEAST_VARIANCE = 1e-12


class FeatureNorm(nn.Module):
    """Standardises pooled features while a classifier is trained, by running means and variances.

    A linear map of features that have small spreads around large means has large weights, and then every small change
    of the model below shifts all logits at once. Statistics that follow the features take such shifts out. They are
    constants to the gradient, and become part of the linear map when training is over (`ClassifierHead.fold_norm`).

    Args:
        center: (features,) means to start from.
        spread: (features,) standard deviations to start from.
        momentum: share of each batch in the running statistics.
    """

    def __init__(self, center: torch.Tensor, spread: torch.Tensor, *, momentum: float = 0.1) -> None:
        super().__init__()
        # Parameters, so that checkpoints hold them.
        self.center = nn.Parameter(center.clone(), requires_grad=False)
        self.variance = nn.Parameter(spread.square().clamp(min=_LEAST_VARIANCE), requires_grad=False)
        self.momentum = momentum

    @property
    def spread(self) -> torch.Tensor:
        """Standard deviations, (features,)."""
        return self.variance.clamp(min=_LEAST_VARIANCE).sqrt()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, features) -> (batch, features)."""
        if self.training:
            with torch.no_grad():
                self.center.lerp_(features.mean(0), self.momentum)
                self.variance.lerp_((features - self.center).square().mean(0), self.momentum)
        return (features - self.center) / self.spread


class ClassifierHead(nn.Module):
    """Pooling with, for `attention`, a learnt query; then a linear map to the logits.

    Attributes:
        norm: standardises the features in training; None in models that are done.

    Args:
        task: the task.
        width: channels of the hidden states of one strand, those of all pooled layers together.
        dropout: probability that a pooled feature is dropped in training.
        initializer_range: standard deviation of the initial weights.
    """

    def __init__(self, task: TaskConfig, width: int, *, dropout: float = 0.0, initializer_range: float = 0.02) -> None:
        super().__init__()
        self.pooling = task.pooling
        self.dropout = nn.Dropout(dropout)
        self.norm: FeatureNorm | None = None
        features = width * len(task.pooling.split("+")) * (2 if task.both_strands else 1)
        # A query of zero starts as the mean.
        self.query = nn.Parameter(torch.zeros(width)) if task.pooling == "attention" else None
        self.output = nn.Linear(features, task.n_outputs)
        nn.init.normal_(self.output.weight, std=initializer_range)
        nn.init.zeros_(self.output.bias)

    def pool(self, hidden: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        """(batch, length, width) -> (batch, features of one strand) float32; see `pool_positions`."""
        return pool_positions(hidden, lengths, self.pooling, self.query)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, features) -> (batch, n_outputs) float32, whatever autocast says: the logits are few."""
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(self.output.weight.dtype)
            if self.norm is not None:
                features = self.norm(features)
            logits: torch.Tensor = self.output(self.dropout(features))
        return logits

    @torch.no_grad()
    def set_norm(self, norm: FeatureNorm, *, keep: bool) -> None:
        """Standardise features from now on.

        Args:
            norm: how.
            keep: change the linear map so that the logits stay the same; else it is one of standardised features.
        """
        assert self.norm is None, "one norm at a time"
        self.norm = norm.to(self.output.weight.device).train(self.training)
        if keep:
            weight = self.output.weight.double()
            self.output.bias.add_((weight @ norm.center.double()).to(self.output.bias.dtype))
            self.output.weight.copy_(weight * norm.spread.double())

    @torch.no_grad()
    def fold_norm(self) -> None:
        """Make the standardisation a part of the linear map, with the same logits; without one nothing happens."""
        if self.norm is None:
            return
        weight = self.output.weight.double() / self.norm.spread.double()
        self.output.bias.sub_((weight @ self.norm.center.double()).to(self.output.bias.dtype))
        self.output.weight.copy_(weight)
        self.norm = None


def pool_positions(
    hidden: torch.Tensor, lengths: torch.Tensor | None, pooling: Pooling, query: torch.Tensor | None = None
) -> torch.Tensor:
    """Combine the hidden states of all real positions of each row.

    Args:
        hidden: (batch, length, width).
        lengths: (batch,) real positions of each row, at least 1, the rest being padding on the right; None: all.
        pooling: `mean`, `max`, either side by side with others (`mean+max`, `mean+std`, `mean+max+std`; std: the
            standard deviation over positions), the `last` real position, or `attention`: a mean weighted by
            softmax(hidden . query / sqrt(width)).
        query: (width,), for `attention`.

    Returns:
        (batch, width), for n vectors side by side (batch, n * width); float32, or float64 of a float64 model.
    """
    hidden = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    outside = None
    if lengths is not None:
        outside = (torch.arange(hidden.shape[1], device=hidden.device) >= lengths[:, None])[..., None]

    def mean(values: torch.Tensor = hidden) -> torch.Tensor:
        if outside is None or lengths is None:
            return values.mean(1)
        return values.masked_fill(outside, 0).sum(1) / lengths[:, None].to(values.dtype)

    def largest() -> torch.Tensor:
        return (hidden if outside is None else hidden.masked_fill(outside, -torch.inf)).amax(1)

    def deviation() -> torch.Tensor:
        # The least variance keeps the gradient of the root finite where all positions are alike.
        squares = (hidden - mean()[:, None]).square()
        return mean(squares).clamp(min=_LEAST_VARIANCE).sqrt()

    match pooling:
        case "mean" | "max" | "mean+max" | "mean+std" | "mean+max+std":
            parts = {"mean": mean, "max": largest, "std": deviation}
            return torch.cat([parts[name]() for name in pooling.split("+")], -1)
        case "last":
            if lengths is None:
                return hidden[:, -1]
            return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]
    assert query is not None, "attention pooling has a query"
    with torch.autocast(hidden.device.type, enabled=False):
        scores = (hidden @ query[:, None].to(hidden.dtype)) * hidden.shape[-1] ** -0.5
        if outside is not None:
            scores = scores.masked_fill(outside, -torch.inf)
            # What padded positions hold has no meaning: a weight of zero is not enough against infinity.
            hidden = hidden.masked_fill(outside, 0)
        pooled: torch.Tensor = (scores.softmax(1).transpose(1, 2) @ hidden)[:, 0]
    return pooled


def reverse_complement_rows(input_ids: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
    """Reverse-complement rows of token ids on their device; padding stays on the right.

    Args:
        input_ids: (batch, length), integer.
        lengths: (batch,) real tokens of each row; None where no row is padded.

    Returns:
        A new tensor of the same shape and dtype.
    """
    if lengths is None:
        flipped = input_ids.flip(1)
    else:
        at = torch.arange(input_ids.shape[1], device=input_ids.device)
        source = lengths[:, None] - 1 - at
        flipped = input_ids.gather(1, source.clamp(min=0)).masked_fill(source < 0, PAD)
    low, high = BASE_IDS[0], BASE_IDS[-1]
    return torch.where((flipped >= low) & (flipped <= high), low + high - flipped, flipped)


class SequenceClassifier(nn.Module):
    """A language model and a head.

    Attributes:
        model: the language model.
        task: what is predicted.
        classifier: the head.

    Args:
        model: the language model, which becomes part of this module.
        task: what to predict.
        dropout: probability that a pooled feature is dropped in training.

    Raises:
        InputError: the task asks for a block that the model does not have, or for windows longer than it reads.
    """

    def __init__(self, model: HyenaDNA, task: TaskConfig, *, dropout: float = 0.0) -> None:
        super().__init__()
        config = model.config
        if any(layer > config.n_layer for layer in task.layers):
            raise InputError(f"layers {task.layers}: the model has blocks 1 to {config.n_layer}")
        if task.window is not None and task.window > config.max_length:
            raise InputError(
                f"windows of {task.window:,} bp are longer than the model reads, {config.max_length:,} tokens",
                remedy="give a shorter --window or a model with a longer context",
            )
        self.model = model
        self.task = task
        width = config.d_model * max(1, len(task.layers))
        self.classifier = ClassifierHead(task, width, dropout=dropout, initializer_range=config.initializer_range)

    def forward(self, input_ids: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of sequences as they are given, on one strand (which, with `both_strands`, sees the other too).

        Args:
            input_ids: (batch, length), token ids of any integer dtype, padded on the right.
            padding: (batch, length), true where a row has ended; None where no row is padded. Every row has a base.

        Returns:
            (batch, n_outputs) float32; regression: the predicted number, in the unit of the labels.

        Raises:
            InputError: rows are longer than the model reads.
        """
        return self.logits(self.features(input_ids, padding))

    def predict(self, input_ids: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
        """Logits as the task wants them: with `average_strands` the mean of both strands; else as `forward`."""
        if not self.task.average_strands:
            return self.logits(self.features(input_ids, padding))
        if self.task.both_strands:
            features = self.features(input_ids, padding)
            swapped = features.roll(features.shape[1] // 2, 1)
        else:
            lengths = _lengths(padding)
            features = self._pooled(input_ids, lengths)
            swapped = self._pooled(reverse_complement_rows(input_ids, lengths), lengths)
        return (self.logits(features) + self.logits(swapped)) / 2

    def features(self, input_ids: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
        """What the head's linear map reads: (batch, features), arguments as `forward`.

        Side by side: by strand, in each by statistic in the order of the pooling's name, in each by layer.
        """
        lengths = _lengths(padding)
        features = self._pooled(input_ids, lengths)
        if self.task.both_strands:
            other = self._pooled(reverse_complement_rows(input_ids, lengths), lengths)
            features = torch.cat([features, other], -1)
        return features

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, features) -> (batch, n_outputs), in the unit of the labels for a regression."""
        logits: torch.Tensor = self.classifier(features)
        return logits * self.task.scale + self.task.shift if self.task.kind == "regression" else logits

    def _pooled(self, input_ids: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        if not self.task.layers:
            return self.classifier.pool(self.model.hidden(input_ids, lengths=lengths), lengths)
        backbone = self.model.backbone
        residuals = backbone(backbone.embeddings(input_ids), lengths=lengths, output_residuals=True).residuals
        return self.classifier.pool(torch.cat([residuals[layer - 1] for layer in self.task.layers], -1), lengths)


def _lengths(padding: torch.Tensor | None) -> torch.Tensor | None:
    return None if padding is None else (~padding).sum(1)


def save_classifier(
    classifier: SequenceClassifier,
    directory: str | PathLike[str],
    *,
    card: Mapping[str, Any] | ModelCard | None = None,
    dtype: torch.dtype = torch.float32,
    force: bool = False,
) -> None:
    """Write a fine-tuned model as a model directory; arguments and errors as `save_model`."""
    assert classifier.classifier.norm is None, "standardisation is folded into the head before it is saved"
    facts = card if isinstance(card, ModelCard) else ModelCard.model_validate(dict(card or {}))
    facts = ModelCard.model_validate({**facts.facts(), "task": classifier.task.describe()})
    head = {f"{HEAD_PREFIX}{name}": value for name, value in classifier.classifier.named_parameters()}
    task = classifier.task.model_dump(mode="json")
    save_model(classifier.model, directory, card=facts, dtype=dtype, force=force, task=task, head=head)


def load_classifier(source: str | PathLike[str], *, device: str | torch.device = "cpu") -> SequenceClassifier:
    """Load a fine-tuned model in evaluation mode, float32. No code is run from any file.

    Args:
        source: a model or run directory that `hyena-dna finetune` wrote; see `hyena_dna.model.checkpoint.load_model`.
        device: where to put it.

    Raises:
        InputError: as `load_model`; or the model was not fine-tuned.
    """
    return classifier_from(read_model(source)).to(device)


def classifier_from(loaded: LoadedModel) -> SequenceClassifier:
    """The classifier of a model that has been read.

    Raises:
        InputError: it was not fine-tuned, or its task or head are damaged.
    """
    if loaded.task is None:
        raise InputError(
            "is a language model that predicts no labels",
            file=loaded.path.parent,
            remedy="fine-tune it first: hyena-dna finetune --model MODEL ...",
        )
    config = loaded.path.with_name("config.json")
    try:
        task = TaskConfig.model_validate(loaded.task)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["task", *(str(part) for part in first["loc"])])
        raise InputError(f"{place}: {first['msg']}", file=config) from None
    # Initial values are drawn and overwritten; the caller's random state must not notice.
    with torch.random.fork_rng(devices=[]):
        classifier = SequenceClassifier(loaded.model, task)
    expected = {f"{HEAD_PREFIX}{name}": value for name, value in classifier.classifier.named_parameters()}
    try:
        check_names(loaded.head, {name: value.shape for name, value in expected.items()})
    except InputError as error:
        raise InputError(error.reason, file=loaded.path) from None
    with torch.no_grad():
        for name, parameter in expected.items():
            parameter.copy_(loaded.head[name])
    return classifier.eval()
