"""Models from one layout to another: any published one in, ours, Hugging Face's or the official code's out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor

from hyena_dna.errors import InputError
from hyena_dna.files import atomic_directory
from hyena_dna.model import names, official_config
from hyena_dna.model.card import PUBLISHED_LICENCE, ModelCard, render_card
from hyena_dna.model.checkpoint import CONFIG, README, WEIGHTS, LoadedModel, check_replaceable, save_model
from hyena_dna.model.half import HalfError, check_half
from hyena_dna.model.model import HyenaDNA
from hyena_dna.model.presets import is_published_name
from hyena_dna.model.tables import make_tables

__all__ = ["Conversion", "Target", "convert", "export_model"]

Target = Literal["native", "hf", "standalone"]


@dataclass(frozen=True)
class Conversion:
    """What a conversion found and wrote.

    Attributes:
        source_layout: naming of the file that was read.
        source_kind: what that file is.
        layout: naming that was written.
        parameters: number of parameters.
        tables: positional tables in the file, all compared with their formula.
        tied: whether embeddings and LM head are one matrix.
        modulation_shift: as recorded.
        ignored: names in the file that are no part of a model.
        bytes_before: size of the weights file that was read.
        bytes_after: size of the weights file that was written.
        half: what half precision changes; None at full precision.
    """

    source_layout: names.Layout
    source_kind: str
    layout: names.Layout
    parameters: int
    tables: int
    tied: bool
    modulation_shift: float
    ignored: list[str]
    bytes_before: int
    bytes_after: int
    half: HalfError | None = None


def convert(
    loaded: LoadedModel,
    source: str,
    directory: str | PathLike[str],
    *,
    to: Target = "native",
    half: bool = False,
    force: bool = False,
) -> Conversion:
    """Write a loaded model in another layout.

    Args:
        loaded: from `read_model`, which has checked names, shapes, values and tables.
        source: what the model was loaded from, for the card.
        directory: the directory to write.
        to: the layout.
        half: store all but the filter networks in float16, once `check_half` has found that this changes nothing that
            matters; native layout only.
        force: replace a model directory that is there.

    Raises:
        InputError: the layout cannot express the model, half precision would change its predictions, or the directory
            cannot be written.
    """
    if half and to != "native":
        raise InputError("half precision is for this project's own layout", remedy="leave --half or --to out")
    card, config = _card(loaded, source), loaded.model.config
    before = loaded.path.stat().st_size
    if to == "native":
        error = check_half(loaded.model) if half else None
        dtype = torch.float16 if half else torch.float32
        save_model(
            loaded.model, directory, card=card, dtype=dtype, force=force,
            task=loaded.task, head=loaded.head, embedding=loaded.embedding,
        )  # fmt: skip
    else:
        error = None
        export_model(loaded.model, directory, layout=to, card=card, force=force)
    return Conversion(
        loaded.layout, loaded.kind, to, sum(parameter.numel() for parameter in loaded.model.parameters()),
        loaded.tables, config.tie_embeddings, config.modulation_shift, loaded.ignored, before,
        (Path(directory) / WEIGHTS).stat().st_size, error,
    )  # fmt: skip


def _card(loaded: LoadedModel, source: str) -> ModelCard:
    if loaded.layout == "native":
        return loaded.card
    shift = loaded.model.config.modulation_shift
    origin = "from its configuration" if loaded.stored_shift else "not stored in the file"
    facts: dict[str, Any] = {
        "source": source,
        "notes": [f"Converted from the {loaded.layout} layout; modulation shift {shift} ({origin})."],
    }
    # The name alone says whose weights these are: `hf:LongSafari/NAME@revision`, or a folder called NAME.
    if any(is_published_name(part) for part in source.split("@")[0].replace(":", "/").split("/")):
        facts["licence"] = PUBLISHED_LICENCE
    return loaded.card.model_copy(update=facts)


def export_model(
    model: HyenaDNA,
    directory: str | PathLike[str],
    *,
    layout: Literal["hf", "standalone"],
    card: ModelCard | None = None,
    force: bool = False,
) -> None:
    """Write a model as others' tools read it: config.json and model.safetensors with positional tables, README.md.

    Args:
        model: the model.
        directory: the directory to write; its parent must exist.
        layout: names and settings of the Hugging Face port, or of the official standalone code.
        card: what is known about the model.
        force: replace a model directory that is there.

    Raises:
        InputError: the layout cannot express the model, or the directory cannot be written.
    """
    check_replaceable(directory)
    config = model.config
    if layout == "standalone" and not config.tie_embeddings:
        raise InputError("the standalone layout has no LM head of its own", remedy="use --to hf or --to native")
    content = official_config.to_hf(config) if layout == "hf" else official_config.to_official(config)
    parameters = {name: value.detach().float().cpu() for name, value in model.named_parameters()}
    tensors = names.from_native(parameters, make_tables(config), config, layout)
    facts = card or ModelCard()
    count = sum(value.numel() for value in parameters.values())
    with atomic_directory(directory, force=force) as folder:
        (folder / CONFIG).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        (folder / README).write_text(render_card(facts, config, count), encoding="utf-8")
        # Hugging Face's loader insists on this entry.
        (folder / WEIGHTS).write_bytes(safetensors.torch.save(_unshared(tensors), metadata={"format": "pt"}))


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses tensors that share memory, as copies of one table do.
    return {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
