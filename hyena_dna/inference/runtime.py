"""How a model runs: arithmetic, threads, and going on with smaller batches when memory runs out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, Self, TypeVar

import torch

from hyena_dna.errors import InputError, RunError

__all__ = ["Sliceable", "autocast", "batch_tokens", "run_batches", "select_precision", "set_threads"]

_log = logging.getLogger("hyena_dna")

# Tokens of one batch times d_model. CPU: activations of a block stay near the caches. CUDA: enough to keep every
# multiprocessor busy at a few GB of activations.
_BATCH_VALUES = {"cpu": 1 << 21, "cuda": 1 << 26}


class Sliceable(Protocol):
    """A batch that can be cut into parts, such as an array of row numbers."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Self: ...


Batch = TypeVar("Batch", bound=Sliceable)
Result = TypeVar("Result")


def select_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype of the linear layers that `auto`, `fp32`, `bf16` or `fp16` means on a device.

    `auto` is bfloat16 on a GPU that has it and float32 elsewhere. Filters, long convolutions, norms and the residual
    stream are float32 or better under all of them.

    Raises:
        InputError: float16 on a CPU, or an unknown name.
    """
    match name:
        case "auto":
            bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
            return torch.bfloat16 if bf16 else torch.float32
        case "fp32":
            return torch.float32
        case "bf16":
            return torch.bfloat16
        case "fp16" if device.type == "cpu":
            raise InputError("--precision fp16 needs a GPU", remedy="use fp32 or bf16")
        case "fp16":
            return torch.float16
    raise InputError(f"--precision {name!r} is none of auto, fp32, bf16, fp16")


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager[object]:
    """The context in which linear layers compute in `dtype`; nothing changes for float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def set_threads(count: int | None) -> None:
    """Use `count` CPU threads; None keeps what torch chose, one per core."""
    if count is not None:
        torch.set_num_threads(count)


def batch_tokens(device: torch.device, d_model: int) -> int:
    """Tokens of one batch where the user leaves the batch size to the program.

    It depends on the kind of device and the width of the model alone, not on how much memory is free, so that a
    resumed run forms the same batches.
    """
    return _BATCH_VALUES.get(device.type, _BATCH_VALUES["cuda"]) // d_model


def run_batches(function: Callable[[Batch], Result], batches: Iterable[Batch]) -> Iterator[tuple[Batch, Result]]:
    """Apply a function to batches, in order; where the device runs out of memory, to halves, and to halves of those.

    Once a size did not fit, later batches are cut to the size that did.

    Args:
        function: computes one batch; called again with less after running out of memory.
        batches: batches, such as arrays of row numbers; their length is what is halved.

    Yields:
        Each batch, or part of one, with its result.

    Raises:
        RunError: a single row does not fit.
    """
    most: int | None = None
    for batch in batches:
        start = 0
        while start < len(batch):
            stop = len(batch) if most is None else min(start + most, len(batch))
            part = batch if (start, stop) == (0, len(batch)) else batch[start:stop]
            try:
                result = function(part)
            except torch.OutOfMemoryError as error:
                size = stop - start
                # The traceback holds the tensors of the failed pass alive.
                error.__traceback__ = None
                if size == 1:
                    raise RunError(
                        "out of GPU memory with one window per batch: use a shorter --window or --device cpu"
                    ) from None
                most = size // 2
            else:
                yield part, result
                start = stop
                continue
            torch.cuda.empty_cache()
            _log.warning("out of GPU memory with %d windows per batch: going on with %d", size, most)
