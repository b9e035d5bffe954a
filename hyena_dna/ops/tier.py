"""Which family of operators runs: fused Triton kernels on a GPU that has tensor cores, PyTorch's own everywhere else.

The choice is made once per device, checked against PyTorch at first use, and can be asked for (`tier_name`), so that a
log can say what ran. `HYENA_DNA_TIER=torch` in the environment turns the fused kernels off.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
from functools import lru_cache

import torch

from hyena_dna.errors import InputError

__all__ = ["is_fused", "tier_name"]

_log = logging.getLogger(__name__)
_VARIABLE = "HYENA_DNA_TIER"
# Rounding of float16 operands gives up to 1e-3; a wrong kernel gives more than this.
_TOLERANCE = 3e-3
# Split operands give below 1e-6; a term of their product left out gives 3e-4.
_LINEAR_TOLERANCE = 5e-6


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
    device = torch.device("cuda", index)
    try:
        checks = (
            (_self_check(device), _TOLERANCE),
            (_filter_check(device), _TOLERANCE),
            (_linear_check(device), _LINEAR_TOLERANCE),
        )
    except Exception as exception:
        # Whatever keeps a compiler from working on a user's machine must not keep the model from working.
        return (
            f"they fail to run ({type(exception).__name__}: {str(exception).splitlines()[0] if str(exception) else ''})"
        )
    wrong = [error for error, limit in checks if not error <= limit]
    return f"they compute wrong (relative error {wrong[0]:.1e})" if wrong else None


def _self_check(device: torch.device) -> float:
    """Largest relative error of fused long convolutions, in one kernel and in three, against float64."""
    from hyena_dna.ops.long_conv.fft import fft_long_conv
    from hyena_dna.ops.long_conv.monarch import monarch_long_conv

    generator = torch.Generator(device).manual_seed(0)
    worst = 0.0
    for length in (1_000, 5_000):
        u = torch.randn(2, 2, length, device=device, generator=generator)
        kernel = torch.randn(2, length, device=device, generator=generator)
        expected = fft_long_conv(u.double(), kernel.double())
        worst = max(worst, float((monarch_long_conv(u, kernel) - expected).norm() / expected.norm()))
    return worst


def _filter_check(device: torch.device) -> float:
    """Relative error against float64 of fused filters on ten octaves, at positions from 0 to 999."""
    from hyena_dna.ops.fused_filter import FilterShape, fused_filter

    generator = torch.Generator(device).manual_seed(0)

    def draw(*size: int, std: float) -> torch.Tensor:
        return torch.randn(*size, device=device, generator=generator) * std

    periods = 2.0 ** torch.arange(2, 12, device=device)
    rates = torch.linspace(3, 15, 16, device=device)
    frequency = torch.full((1, 64), 10.0, device=device)
    first, inner, last = draw(64, 21, std=0.1), draw(64, 64, std=0.02), draw(16, 64, std=0.1)
    biases = draw(2, 64, std=0.02)
    weights = (first, biases[0], frequency, inner, biases[1], last)
    found = fused_filter(FilterShape(1000, 1000.0, 0.05, octaves=True), 1 / periods, rates, weights)
    positions = torch.arange(1000, dtype=torch.float64, device=device)
    time, angle = positions / 999, 2 * math.pi * positions[:, None] / periods.double()
    x = torch.cat([time[:, None], angle.cos(), -angle.sin()], 1)
    for weight, bias in ((first, biases[0]), (inner, biases[1])):
        x = torch.sin(10 * (x @ weight.double().T + bias.double()))
    window = torch.exp(-rates.double()[:, None] * time) + 0.05
    expected = (last.double() @ x.T) * window
    return float((found - expected).norm() / expected.norm())


def _linear_check(device: torch.device) -> float:
    """Relative error against float64 of two linear layers, one of each format, with all that may surround them."""
    from hyena_dna.ops.fused_linear import fused_linear, row_moments, split_linear

    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(2, 150, 256, device=device, generator=generator)
    weight = torch.randn(320, 256, device=device, generator=generator) / 16
    back = torch.randn(256, 320, device=device, generator=generator) / 16
    norm, zero = torch.nn.LayerNorm(256, device=device), torch.zeros(320, device=device)
    normed = torch.nn.functional.layer_norm(x.double(), (256,), eps=norm.eps)
    middle = torch.nn.functional.gelu(normed @ weight.double().T, approximate="tanh")
    expected = x.double() + middle @ back.double().T
    layer = split_linear(weight, zero, norm, bound=16.0)
    found = fused_linear(x, layer, moments=row_moments(x, norm.eps), gelu=True)
    # Channels first, as mixers hand them on.
    found = found.transpose(1, 2).contiguous().transpose(1, 2)
    found = fused_linear(found, split_linear(back, zero[:256]), out=x.clone(), add=True)
    return float((found - expected).norm() / expected.norm())
