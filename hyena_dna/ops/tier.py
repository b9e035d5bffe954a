"""Which family of operators runs: fused Triton kernels on a GPU that has tensor cores, PyTorch's own everywhere else.

The choice is made once per device, checked against PyTorch at first use, and can be asked for (`tier_name`), so that a
log can say what ran. `HYENA_DNA_TIER=torch` in the environment turns the fused kernels off.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch

from hyena_dna.errors import InputError

__all__ = ["is_fused", "tier_name"]

_log = logging.getLogger(__name__)
_VARIABLE = "HYENA_DNA_TIER"


def is_fused(device: torch.device) -> bool:
    """Whether operators on this device run through the fused kernels.

    Raises:
        InputError: the environment variable holds something else than auto, torch or triton, or asks for Triton where
            it cannot run.
    """
    if device.type != "cuda":
        return False
    index = torch.cuda.current_device() if device.index is None else device.index
    return _decide(index, os.environ.get(_VARIABLE, "auto"))


def tier_name(device: torch.device) -> str:
    """`triton` or `torch`."""
    return "triton" if is_fused(device) else "torch"


@lru_cache(maxsize=16)
def _decide(index: int, wanted: str) -> bool:
    if wanted not in ("auto", "torch", "triton"):
        raise InputError(f"{_VARIABLE} is auto, torch or triton, not {wanted!r}")
    if wanted == "torch":
        return False
    reason = _obstacle(index)
    if reason is None:
        return True
    if wanted == "triton":
        raise InputError(f"fused kernels cannot be used: {reason}", remedy=f"unset {_VARIABLE}")
    _log.warning("fused kernels are not used: %s; PyTorch's own operators run in their place", reason)
    return False


def _obstacle(index: int) -> str | None:
    if torch.cuda.get_device_capability(index) < (8, 0):
        return "the GPU is older than compute capability 8.0"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    try:
        # Triton is there on GPUs only, and even its import can fail.
        from hyena_dna.ops.kernel_checks import wrong_kernel

        # In a thread of its own, which the caller's modes of autograd, autocast and hooks do not reach.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(wrong_kernel, torch.device("cuda", index)).result()
    except Exception as exception:
        # Whatever keeps a compiler from working on a user's machine must not keep the model from working.
        return (
            f"they fail to run ({type(exception).__name__}: {str(exception).splitlines()[0] if str(exception) else ''})"
        )
