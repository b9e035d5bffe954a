"""Checkpoints of a run: everything that the next step depends on, in one file that is whole or absent.

A checkpoint is a safetensors file: parameters under `model.`, optimiser moments under `optimizer.`, and in its header
one JSON text with the rest and a sha256 of every tensor. Nothing is ever unpickled. Batches and dropout noise are pure
functions of seed and step, so there is no sampler position and no random state beyond the step itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from hyena_dna.errors import InputError
from hyena_dna.files import atomic_open

__all__ = [
    "BEST",
    "RunState",
    "checkpoint_path",
    "latest_checkpoint",
    "load_checkpoint",
    "prune_checkpoints",
    "read_state",
    "save_checkpoint",
]

BEST = "best.safetensors"
"""Name of the checkpoint with the lowest validation loss so far."""

_FORMAT = "hyena-dna training checkpoint 1"


@dataclass(frozen=True)
class RunState:
    """What a checkpoint knows besides tensors.

    Attributes:
        step: optimiser steps done.
        tokens: tokens trained on.
        training_seconds: time spent in steps, over all pieces of the run.
        validation_seconds: time spent validating, likewise.
        config: the resolved configuration.
        fingerprints: of the data: token stores and splits.
        offsets: size of each log file, in bytes, when the checkpoint was written.
        partial: sums over the steps since the last row of metrics.csv.
        scaler: state of the fp16 loss scale; empty at other precisions.
        best_bits: lowest validation bits per base so far.
        val_bits: result of a validation at this very step.
        finetune: what a fine-tuning remembers besides: its best epoch, and sums since the last row.
    """

    step: int
    tokens: int
    training_seconds: float
    validation_seconds: float
    config: dict[str, Any]
    fingerprints: dict[str, str]
    offsets: dict[str, int]
    partial: dict[str, float] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)
    best_bits: float | None = None
    val_bits: float | None = None
    finetune: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, state: RunState) -> None:
    """Write a checkpoint atomically; without an optimiser it holds weights only.

    Raises:
        InputError: the disk is full or the folder cannot be written; an older file of that name is untouched.
    """
    tensors: dict[str, Tensor] = {f"model.{name}": value for name, value in model.named_parameters()}
    for name, parameter in _optimized(optimizer) if optimizer is not None else ():
        for key, value in optimizer.state[parameter].items():  # type: ignore[union-attr]
            tensors[f"optimizer.{key}.{name}"] = value
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {
        "format": _FORMAT,
        "state": json.dumps(asdict(state)),
        "sha256": json.dumps({name: _digest(tensor) for name, tensor in tensors.items()}),
    }
    data = safetensors.torch.save(tensors, metadata=header)
    with atomic_open(path) as handle:
        handle.write(data)
    assert path.stat().st_size == len(data)


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> RunState:
    """Load a checkpoint into a model and its optimiser.

    Raises:
        InputError: not a complete checkpoint, damaged, or of another architecture.
    """
    state, tensors = _read(path)
    parameters = dict(model.named_parameters())
    stored = {name.removeprefix("model.") for name in tensors if name.startswith("model.")}
    if stored != set(parameters):
        raise InputError(f"holds other parameters: {', '.join(sorted(stored ^ set(parameters))[:3])}", file=path)
    with torch.no_grad():
        for name, parameter in parameters.items():
            _check_shape(path, name, tensors[f"model.{name}"], parameter)
            parameter.copy_(tensors[f"model.{name}"])
    if optimizer is not None:
        _load_moments(path, optimizer, tensors)
    return state


def read_state(path: Path) -> RunState:
    """Read what a checkpoint knows besides tensors.

    Raises:
        InputError: not a complete checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return _state(path, file.metadata())
    except (SafetensorError, OSError) as error:
        raise InputError(f"not a complete checkpoint: {error}", file=path) from None


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest periodic checkpoint in a folder."""
    return max(folder.glob("step-*.safetensors"), default=None)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies; names sort by step."""
    return folder / f"step-{step:09d}.safetensors"


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` periodic checkpoints; the best one has a name of its own and stays."""
    for path in sorted(folder.glob("step-*.safetensors"))[:-keep]:
        path.unlink()


def _read(path: Path) -> tuple[RunState, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            state = _state(path, metadata)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise InputError(f"not a complete checkpoint: {error}", file=path) from None
    digests = json.loads(metadata["sha256"])
    for name, tensor in tensors.items():
        if digests.get(name) != _digest(tensor):
            remedy = "delete it to resume from the one before"
            raise InputError(f"damaged: the checksum of {name} differs", file=path, remedy=remedy)
    return state, tensors


def _state(path: Path, metadata: Mapping[str, str] | None) -> RunState:
    if not metadata or metadata.get("format") != _FORMAT:
        raise InputError("not a training checkpoint of this version", file=path)
    return RunState(**json.loads(metadata["state"]))


def _load_moments(path: Path, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    keys = sorted({name.split(".", 2)[1] for name in tensors if name.startswith("optimizer.")})
    fused = bool(optimizer.defaults.get("fused"))
    for name, parameter in _optimized(optimizer):
        moments = {}
        for key in keys:
            value = tensors.get(f"optimizer.{key}.{name}")
            if value is None:
                raise InputError(f"the optimiser's {key} of {name} is missing", file=path)
            # The step counter lives on the device for the fused update only.
            moments[key] = value.clone() if value.ndim == 0 and not fused else value.to(parameter.device, copy=True)
        optimizer.state[parameter] = moments


def _optimized(optimizer: torch.optim.Optimizer) -> list[tuple[str, nn.Parameter]]:
    return [pair for group in optimizer.param_groups for pair in zip(group["names"], group["params"], strict=True)]


def _check_shape(path: Path, name: str, found: Tensor, wanted: Tensor) -> None:
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        raise InputError(
            f"{name} is {tuple(found.shape)} {found.dtype}, the model's {tuple(wanted.shape)} {wanted.dtype}", file=path
        )


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
