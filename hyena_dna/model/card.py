"""What is known about a model besides its weights, for programs (`config.json`) and for people (`README.md`)."""

from __future__ import annotations

import json
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from hyena_dna.model.config import HyenaConfig

__all__ = ["ModelCard", "render_card"]

PUBLISHED_LICENCE = "BSD-3-Clause"
"""Licence of the weights that LongSafari published; that of the code they were made with is another."""


class ModelCard(BaseModel):
    """Where a model comes from. Every field may be unknown; further fields are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)

    data: list[str] = Field(default_factory=list, description="What it was trained on: genomes, files, contigs.")
    steps: int | None = Field(default=None, description="Optimiser steps.")
    tokens: int | None = Field(default=None, description="Tokens (bp) trained on.")
    metrics: dict[str, Any] = Field(default_factory=dict, description="Name, with unit, to value.")
    licence: str | None = Field(default=None, description="Licence of the weights, as an SPDX identifier.")
    source: str | None = Field(default=None, description="The file or repository that the weights were taken from.")
    notes: list[str] = Field(default_factory=list, description="Anything else that a user must know.")

    def facts(self) -> dict[str, Any]:
        """The fields that are known."""
        return {name: value for name, value in self.model_dump(mode="json").items() if value not in (None, [], {})}


def render_card(card: ModelCard, config: HyenaConfig, n_parameters: int) -> str:
    """The text of a model directory's README.md, with the header that model hubs read."""
    header: dict[str, Any] = {"library_name": "hyena-dna", "tags": ["dna", "genomics", "hyena", "causal-lm"]}
    if card.licence:
        header["license"] = card.licence.lower()
    mixer = f"Hyena, order {config.order}" if config.mixer == "hyena" else "attention"
    lines = [
        "---", yaml.safe_dump(header, sort_keys=True).rstrip(), "---", "",
        "# DNA language model", "",
        f"A causal model over single nucleotides: {n_parameters:,} parameters, {config.n_layer} layers of width "
        f"{config.d_model} ({mixer}), inputs of up to {config.max_length:,} tokens (bp).", "",
        "```python", "from hyena_dna import load_model", "", 'model = load_model("PATH/TO/THIS/FOLDER")', "```", "",
        "| | |", "|---|---|",
    ]  # fmt: skip
    known = {"licence": "unknown", "data": "unknown", "steps": "unknown"} | card.facts()
    metrics, notes = known.pop("metrics", {}), known.pop("notes", [])
    lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in known.items()]
    if metrics:
        lines += ["", "## Metrics", "", "| metric | value |", "|---|---|"]
        lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in metrics.items()]
    if notes:
        lines += ["", "## Notes", "", *(f"- {_cell(note)}" for note in notes)]
    lines += ["", "Research use only: not for clinical decisions.", ""]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        value = ", ".join(str(item) for item in value)
    elif isinstance(value, dict):
        value = json.dumps(value)
    elif isinstance(value, int):
        value = f"{value:,}"
    return " ".join(str(value).replace("|", "\\|").split())
