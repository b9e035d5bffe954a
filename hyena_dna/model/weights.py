"""Weight files of any kind as named tensors, and what every weight must be: floating point, finite, undamaged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hyena_dna.errors import InputError
from hyena_dna.model.untrusted import read_torch_file

__all__ = ["WeightsFile", "check_values", "errors_name", "model_digest", "read_weights", "tensor_digest",
           "write_weights"]  # fmt: skip

_METADATA = "hyena-dna"
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class WeightsFile:
    """The content of a weights file.

    Attributes:
        tensors: name to tensor, on the CPU.
        kind: what the file is, for people.
        step: optimiser steps done, where the file says so.
        digests: sha256 of every tensor by name, where the file has them; they have been checked.
    """

    tensors: dict[str, Tensor]
    kind: str
    step: int | None = None
    digests: dict[str, str] | None = None


@contextmanager
def errors_name(path: str | PathLike[str]) -> Iterator[None]:
    """Errors raised inside that name no file get this one."""
    try:
        yield
    except InputError as error:
        if error.file is not None:
            raise
        raise InputError(error.reason, file=path, remedy=error.remedy) from None


def read_weights(path: Path) -> WeightsFile:
    """Read a safetensors file or a torch checkpoint, told apart by content; nothing in it is run.

    Raises:
        InputError: neither of the two, incomplete, refused (see `read_torch_file`), or damaged: a tensor's sha256 is
            not the one that was written with it.
    """
    try:
        with open(path, "rb") as handle:
            head = handle.read(9)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from None
    if head[8:] != b"{":
        file = read_torch_file(path)
        kind = "torch checkpoint, with objects of other packages left out" if file.restricted else "torch checkpoint"
        return WeightsFile(file.tensors, kind, file.step)
    try:
        with safe_open(path, framework="pt") as archive:
            metadata = archive.metadata() or {}
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise InputError(f"not a complete checkpoint: {error}", file=path, remedy="copy it again") from None
    with errors_name(path):
        return WeightsFile(tensors, "safetensors", digests=_check_digests(tensors, metadata))


def _check_digests(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str] | None:
    if _METADATA not in metadata:
        return None
    try:
        digests = json.loads(metadata[_METADATA])["sha256"]
    except (ValueError, LookupError, TypeError):
        digests = None
    if not isinstance(digests, dict) or set(digests) != set(tensors):
        raise InputError("damaged: its checksums are not those of its tensors", remedy="copy it again")
    for name, tensor in tensors.items():
        if digests[name] != tensor_digest(tensor):
            raise InputError(f"damaged: the sha256 of {name} is not the one written with it", remedy="copy it again")
    return digests


def write_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file with the sha256 of every tensor in its header."""
    digests = {name: tensor_digest(tensor) for name, tensor in sorted(tensors.items())}
    # One metadata entry: the order of several in the file is not fixed, and equal models are to give equal files.
    # Bytes rather than `save_file`, which makes files that only their owner can read.
    path.write_bytes(safetensors.torch.save(dict(tensors), metadata={_METADATA: json.dumps({"sha256": digests})}))


def tensor_digest(tensor: Tensor) -> str:
    """The sha256 of a tensor's elements in memory order, in hexadecimal."""
    return hashlib.sha256(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data).hexdigest()


def model_digest(tensors: Mapping[str, Tensor]) -> str:
    """One sha256 over all weights: names and the sha256 of each, sorted by name."""
    lines = (f"{name} {tensor_digest(tensor)}\n" for name, tensor in sorted(tensors.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check_values(tensors: Mapping[str, Tensor]) -> None:
    """Check that weights are real floating-point numbers.

    Raises:
        InputError: a tensor is complex, integer, quantised, or holds NaN or infinity; names it.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _FLOATS:
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise InputError(f"{name} is {dtype}; weights are float16, bfloat16, float32 or float64")
        bad = tensor.numel() - int(torch.isfinite(tensor).sum())
        if bad:
            raise InputError(f"{name} holds NaN or infinity in {bad:,} of {tensor.numel():,} places")
