"""Linear layers on a CPU, through the library that multiplies faster there.

PyTorch multiplies float32 matrices with MKL, which takes AVX2 on processors that are not Intel's. oneDNN, which PyTorch
has too, takes all of AVX-512: on two cores of an EPYC of family 26, products of 64 rows and more are 2.2 times as fast,
and without autograd GELU costs a tenth of them instead of a half, since it is applied to what is still in registers.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.autograd import forward_ad
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
        if not torch.is_grad_enabled():
            return _onednn(x, weight, bias, gelu=gelu)
        y: torch.Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    else:
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
        rows = x.flatten(0, 1)
        if torch.is_grad_enabled():
            y: torch.Tensor = _Columns.apply(rows, weight, bias)  # type: ignore[no-untyped-call]
        else:
            y = _columns(rows, weight, bias)
        return y.view(len(weight), *x.shape[:2]).transpose(0, 1)
    weight = weight.expand(len(x), -1, -1)
    if bias is None:
        return torch.bmm(weight, x.transpose(1, 2))
    return torch.baddbmm(bias[:, None], weight, x.transpose(1, 2))


def _takes_onednn(x: torch.Tensor, weight: torch.Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and x.numel() >= _LEAST_ROWS * x.shape[-1]
        and has_faster_onednn()
        and bool(torch.backends.mkldnn.enabled)
        # What is differentiated forwards, or by torch.func, needs operators that PyTorch knows all about.
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
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


def _columns(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """(out, rows) of x (rows, in)."""
    # With the sides changed rows come out as columns: nothing is transposed.
    y = _onednn(weight, x, None)
    return y if bias is None else y.add_(bias[:, None])


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        _save(ctx, x, weight)
        ctx.shape, ctx.columns = x.shape, x.stride(-2) == 1
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows = grad.flatten(0, -2)
        d_x = None if weight is None else _of_rows(rows, weight, columns=ctx.columns).view(ctx.shape)
        d_weight = None if x is None else _of_weight(rows, x.flatten(0, -2))
        return d_x, d_weight, rows.sum(0) if ctx.needs_input_grad[2] else None


class _Columns(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        _save(ctx, x, weight)
        return _columns(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        d_x = None if weight is None else _of_rows(grad.t(), weight, columns=True)
        d_weight = None if x is None else _of_weight(grad.t(), x)
        return d_x, d_weight, grad.sum(1) if ctx.needs_input_grad[2] else None


def _save(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> None:
    """Each for the gradient of the other, where that is wanted."""
    of_x, of_weight, *_ = ctx.needs_input_grad
    ctx.save_for_backward(x if of_weight else None, weight if of_x else None)


def _of_rows(grad: torch.Tensor, weight: torch.Tensor, *, columns: bool) -> torch.Tensor:
    """Gradient of rows (rows, in) from that of outputs (rows, out), laid out in columns where asked for or given."""
    if torch.is_grad_enabled():
        # Somebody will differentiate it again.
        return grad @ weight
    if columns or grad.stride(0) == 1:
        return _onednn(weight.t(), grad, None).t()
    return _onednn(grad, weight.t(), None)


def _of_weight(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Gradient of a matrix (out, in), summed over rows of `grad` and `x`.

    oneDNN wants the first side adjacent along rows, or else the smaller one there, and is slower than MKL if they are
    alike: the order makes it three times as fast, or as slow.
    """
    outputs, inputs = grad.shape[1], x.shape[1]
    if not torch.is_grad_enabled():
        if x.stride(0) == 1 or (grad.stride(0) != 1 and 2 * inputs <= outputs):
            return _onednn(x.t(), grad.t(), None).t()
        if grad.stride(0) == 1 or 2 * outputs <= inputs:
            return _onednn(grad.t(), x.t(), None)
    return grad.t() @ x
