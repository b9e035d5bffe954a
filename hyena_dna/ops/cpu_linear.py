"""Linear layers of inference on a CPU, through the library that multiplies faster there.

PyTorch multiplies float32 matrices with MKL, which takes AVX2 on processors that are not Intel's. oneDNN, which PyTorch
has too, takes all of AVX-512: on two cores of an EPYC of family 26, products of 64 rows and more are 2.2 times as fast,
and GELU costs a tenth of them instead of a half, since it is applied to what is still in registers.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import torch
from torch.nn import functional as F

__all__ = ["has_faster_onednn", "linear", "linear_channels_first"]

# Below it what oneDNN does before a product takes longer than the product.
_LEAST_ROWS = 32


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *, gelu: bool = False) -> torch.Tensor:
    """x W^T + b, as `torch.nn.functional.linear` gives it on every device; with `gelu` its GELU, tanh form.

    Args:
        x: (..., in).
        weight: (out, in).
        bias: (out,).
        gelu: whether GELU follows.

    Returns:
        (..., out).
    """
    if _takes_onednn(x, weight):
        return _onednn(x, weight, bias, gelu=gelu)
    y = F.linear(x, weight, bias)
    return F.gelu(y, approximate="tanh") if gelu else y


def linear_channels_first(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`linear` with channels before positions in the output.

    Args:
        x: (batch, length, in).
        weight: (out, in).
        bias: (out,), or None.

    Returns:
        (batch, out, length), of any strides.
    """
    if _takes_onednn(x, weight):
        # With the sides changed rows come out as columns: nothing is transposed.
        y = _onednn(weight, x.flatten(0, 1), None)
        if bias is not None:
            y += bias[:, None]
        return y.view(len(weight), *x.shape[:2]).transpose(0, 1)
    weight = weight.expand(len(x), -1, -1)
    if bias is None:
        return torch.bmm(weight, x.transpose(1, 2))
    return torch.baddbmm(bias[:, None], weight, x.transpose(1, 2))


def _takes_onednn(x: torch.Tensor, weight: torch.Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and x.numel() >= _LEAST_ROWS * x.shape[-1]
        and has_faster_onednn()
        and bool(torch.backends.mkldnn.enabled)
    )


@cache
def has_faster_onednn() -> bool:
    """Whether the processor is one that oneDNN multiplies faster on: AMD's with AVX-512."""
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return wide and onednn and "AuthenticAMD" in _processor()


def _processor() -> str:
    """What the system says of the processor, its maker included where it knows."""
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()


def _onednn(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *, gelu: bool = False) -> torch.Tensor:
    name, form = ("gelu", "tanh") if gelu else ("none", "")
    y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], form)
    return y
