"""What a fine-tuned model predicts: the `task` section of its config.json."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Pooling", "TaskConfig", "TaskKind"]

TaskKind = Literal["binary", "multiclass", "multilabel", "regression"]
Pooling = Literal["mean", "last", "max", "attention", "mean+max", "mean+std", "mean+max+std"]
"""How positions become one vector; names with + put the vectors of their parts side by side, in that order."""


class TaskConfig(BaseModel):
    """What a fine-tuned model predicts, and how it reads a sequence to do so.

    Raises:
        pydantic.ValidationError: a field is unknown or does not fit the others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: TaskKind = Field(description="binary, multiclass (one of several), multilabel (any of several), regression.")
    labels: tuple[str, ...] = Field(
        min_length=1,
        description="Names of the classes in the order of the outputs; binary: the negative, then the positive class; "
        "regression: the name of each number.",
    )
    window: int | None = Field(
        default=None, ge=1, description="Length in bp that regions are centred in; None: regions as long as they are."
    )
    stranded: bool = Field(default=False, description="Regions on - are read from that strand, instead of all from +.")
    pooling: Pooling = Field(default="mean", description="How hidden states of all positions become one vector.")
    layers: tuple[int, ...] = Field(
        default=(),
        description="Blocks, from 1, whose residual streams are pooled side by side; none: the last norm.",
    )
    both_strands: bool = Field(
        default=False, description="Pool the sequence and its reverse complement, side by side, for one prediction."
    )
    average_strands: bool = Field(
        default=True, description="Predict the mean of the logits of the sequence and of its reverse complement."
    )
    temperature: float = Field(
        default=1.0, gt=0, description="Logits are divided by this before they become probabilities."
    )
    thresholds: tuple[float, ...] = Field(
        default=(), description="Probability from which each output's label is assigned; none: 0.5. Unused: multiclass."
    )
    shift: float = Field(default=0.0, description="Regression: added to the scaled output of the head.")
    scale: float = Field(default=1.0, gt=0, description="Regression: what the output of the head is multiplied by.")

    @model_validator(mode="after")
    def _check(self) -> TaskConfig:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("two labels have the same name")
        if self.kind == "binary" and len(self.labels) != 2:
            raise ValueError(f"a binary task has two labels, not {len(self.labels)}")
        if self.kind == "multiclass" and len(self.labels) < 3:
            raise ValueError("a multiclass task has at least three labels")
        if self.kind == "regression" and len(self.labels) != 1:
            raise ValueError("a regression has one number")
        if self.thresholds and (self.kind in ("multiclass", "regression") or len(self.thresholds) != self.n_outputs):
            raise ValueError("there is one threshold per output, for binary and multilabel tasks only")
        if any(layer < 1 for layer in self.layers) or len(set(self.layers)) != len(self.layers):
            raise ValueError("blocks count from 1, and each is pooled once")
        return self

    @property
    def n_outputs(self) -> int:
        """Logits per sequence: 1 for binary (of the positive class, `labels[1]`) and regression, else one per label."""
        return 1 if self.kind in ("binary", "regression") else len(self.labels)

    @property
    def output_labels(self) -> tuple[str, ...]:
        """The label that each output speaks of."""
        return self.labels[1:] if self.kind == "binary" else self.labels

    def describe(self) -> str:
        """One line for people."""
        where = "last norm" if not self.layers else f"block {','.join(map(str, self.layers))}"
        window = "regions as long as they are" if self.window is None else f"window of {self.window:,} bp"
        strands = ", both strands side by side" if self.both_strands else ""
        averaged = ", mean of both strands" if self.average_strands else ""
        return f"{self.kind} of {', '.join(self.labels)}; {window}; {self.pooling} of {where}{strands}{averaged}"

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """What a user is shown for logits: calibrated probabilities; for regression the numbers themselves.

        Args:
            logits: (..., n_outputs).

        Returns:
            (..., n_outputs) float32: for binary the probability of `labels[1]`, for multilabel one independent
            probability per label.
        """
        logits = logits.float()
        if self.kind == "regression":
            return logits
        scaled = logits / self.temperature
        return scaled.softmax(-1) if self.kind == "multiclass" else scaled.sigmoid()
