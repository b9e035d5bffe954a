"""Linear layers with what surrounds them, in float32 accuracy from tensor cores, without autograd.

For an input x of any strides, y = f(norm(x) W^T + b), where the norm in front, GELU behind, and adding into what the
output holds are each optional: `torch.nn.functional.layer_norm`, `linear` and `gelu` in PyTorch, which this is tested
against in float64. The precision is that of `hyena_dna.ops.linear_kernels`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton

from hyena_dna.ops import linear_kernels as kernels

__all__ = ["TILES", "Moments", "SplitLinear", "Tiles", "fused_linear", "halves", "row_moments", "split_linear"]

_ELEMENTS = 4096


class Tiles(NamedTuple):
    """How a linear layer is cut into programs."""

    rows: int
    outputs: int
    depth: int
    apart: bool
    """Whether every `depth` products are summed on their own: tensor cores cut sums off instead of rounding them, so
    long sums of theirs drift towards zero."""

    warps: int
    stages: int


# Hopper: traffic from the L2 cache bounds smaller tiles, because both parts of the weights come again for every tile of
# rows, and 255 registers a thread bound larger ones whose sums are apart (two accumulators, both parts of the input).
TILES = Tiles(rows=128, outputs=128, depth=32, apart=True, warps=8, stages=3)


class SplitLinear(NamedTuple):
    """A matrix of weights as two parts that TF32 or float16 hold exactly, and a bias."""

    high: torch.Tensor
    """(outputs, width), float32 of no more bits than TF32, or float16."""

    low: torch.Tensor
    """(outputs, width)"""

    bias: torch.Tensor
    """(outputs,), float32."""

    x_scale: float
    """Power of two that the input is multiplied by; 1 for TF32."""

    y_scale: float
    """Power of two that undoes the scales of input and weights; 1 for TF32."""

    def outputs(self, part: slice) -> SplitLinear:
        """The layer that gives a part of the outputs."""
        return self._replace(high=self.high[part], low=self.low[part], bias=self.bias[part])


class Moments(NamedTuple):
    """Mean and 1 / sqrt(variance + eps) of every row of (batch, rows, width), each (batch, rows)."""

    mean: torch.Tensor
    rstd: torch.Tensor


def split_linear(
    weight: torch.Tensor, bias: torch.Tensor, norm: torch.nn.LayerNorm | None = None, *, bound: float | None = None
) -> SplitLinear:
    """Prepare a linear layer.

    Args:
        weight: (outputs, width), float32.
        bias: (outputs,).
        norm: the layer norm in front, whose gain and offset become part of the layer.
        bound: what no input exceeds in absolute value, after the norm but before its gain (sqrt(width) there); the
            layer then runs in float16. None where there is no bound: TF32.

    Returns:
        The layer, on the same device, without autograd.
    """
    exact, offset = weight.detach().double(), bias.detach().double()
    if norm is not None:
        offset = offset + exact @ norm.bias.detach().double()
        exact = exact * norm.weight.detach().double()
    if bound is None:
        high = _tf32(exact.float())
        return SplitLinear(high, _tf32((exact - high.double()).float()), offset.float(), 1.0, 1.0)
    x_scale, scale = _half_scale(bound), _half_scale(float(exact.abs().max()))
    exact = exact * scale
    return SplitLinear(*halves(exact), offset.float(), x_scale, 1 / (x_scale * scale))


def halves(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two float16 tensors that add up to `x`, float32 or float64, in 22 bits, down to 3e-8."""
    high = x.half()
    return high, (x - high.to(x.dtype)).half()


def row_moments(x: torch.Tensor, eps: float) -> Moments:
    """Mean and 1 / sqrt(variance + eps) of rows.

    Args:
        x: (batch, rows, width), float32, adjacent along `width`.
        eps: added to the variance.

    Raises:
        ValueError: `x` is not adjacent along its last dimension.
    """
    if x.stride(-1) != 1:
        raise ValueError(f"rows must be adjacent in memory, not of stride {x.stride(-1)}")
    batch, rows, width = x.shape
    mean, rstd = x.new_empty((2, batch, rows))
    padded = triton.next_power_of_2(width)
    per_block = max(1, _ELEMENTS // padded)
    kernels.row_moments[(batch * triton.cdiv(rows, per_block),)](
        x, mean, rstd, rows, width, eps, x.stride(0), x.stride(1), ROWS=per_block, WIDTH=padded
    )
    return Moments(mean, rstd)


def fused_linear(
    x: torch.Tensor,
    layer: SplitLinear,
    *,
    moments: Moments | None = None,
    with_bias: bool = True,
    gelu: bool = False,
    out: torch.Tensor | None = None,
    add: bool = False,
    tiles: Tiles = TILES,
) -> torch.Tensor:
    """Apply a linear layer, and what surrounds it.

    Args:
        x: (batch, rows, width), float32, any strides.
        layer: made by `split_linear`.
        moments: of `x`, where a layer norm comes first.
        with_bias: whether to add the bias.
        gelu: whether GELU follows, in its tanh form.
        out: (batch, rows, outputs), float32, any strides, where to write; by default a new tensor.
        add: whether to add to what `out` holds, rather than to replace it.
        tiles: how the work is cut; changes speed and rounding only.

    Returns:
        (batch, rows, outputs): `out`, or the new tensor.

    Raises:
        ValueError: shapes or dtypes do not fit, or there is nothing to add to.
    """
    batch, rows, width = x.shape
    outputs = len(layer.high)
    if add and out is None:
        raise ValueError("adding needs an output to add to")
    if out is None:
        out = x.new_empty((batch, rows, outputs))
    if layer.high.shape[1] != width or out.shape != (batch, rows, outputs):
        raise ValueError(f"{tuple(layer.high.shape)} does not take {tuple(x.shape)} to {tuple(out.shape)}")
    if x.dtype != torch.float32 or out.dtype != torch.float32:
        raise ValueError(f"input and output must be float32, not {x.dtype} and {out.dtype}")
    mean, rstd = (None, None) if moments is None else moments
    programs = batch * triton.cdiv(rows, tiles.rows) * triton.cdiv(outputs, tiles.outputs)
    kernels.linear_forward[(programs,)](
        x, layer.high, layer.low, layer.bias, mean, rstd, out, layer.x_scale, layer.y_scale, rows, width, outputs,
        *x.stride(), *out.stride(),
        HAS_BIAS=with_bias, NORM=moments is not None, GELU=gelu, ADD=add, ROWS=tiles.rows, OUTPUTS=tiles.outputs,
        DEPTH=tiles.depth, WHOLE_DEPTHS=width % tiles.depth == 0, APART=tiles.apart,
        num_warps=tiles.warps, num_stages=tiles.stages,
    )  # fmt: skip
    return out


def _tf32(x: torch.Tensor) -> torch.Tensor:
    """Round float32 to nearest, to the 11 significant bits that TF32 keeps."""
    return ((x.contiguous().view(torch.int32) + 0x1000) & -0x2000).view(torch.float32)


def _half_scale(bound: float) -> float:
    """The power of two that brings numbers up to a bound to at most 2^15, half of what float16 holds."""
    # Scales of input and weights together stay inside float32.
    return 2.0 ** max(-60, min(60, math.floor(15 - math.log2(bound)))) if bound > 0 else 1.0
