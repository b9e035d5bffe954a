"""Linear layers with what surrounds them, in float32 accuracy on tensor cores, without autograd.

For an input x of any strides, y = f(norm(x) W^T + b), where the norm in front, GELU behind, and adding into what the
output holds are each optional: `torch.nn.functional.layer_norm`, `linear` and `gelu` in PyTorch, which this is tested
against in float64. The precision is that of `hyena_dna.ops.linear_kernels`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton

from hyena_dna.ops import linear_kernels as kernels

__all__ = ["TILES", "Moments", "SplitLinear", "Tiles", "fused_linear", "row_moments", "split_linear"]

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


# Hopper: two programs of one warp group on a multiprocessor (240 registers a thread, 72 KiB of shared memory each), so
# that one splits operands or writes while the other multiplies.
TILES = Tiles(rows=64, outputs=128, depth=32, apart=True, warps=4, stages=2)


class SplitLinear(NamedTuple):
    """A matrix of weights as two that TF32 holds exactly, and a bias."""

    high: torch.Tensor
    """(outputs, width)"""

    low: torch.Tensor
    """(outputs, width)"""

    bias: torch.Tensor
    """(outputs,)"""

    def outputs(self, part: slice) -> SplitLinear:
        """The layer that gives a part of the outputs."""
        return SplitLinear(self.high[part], self.low[part], self.bias[part])


class Moments(NamedTuple):
    """Mean and 1 / sqrt(variance + eps) of every row of (batch, rows, width), each (batch, rows)."""

    mean: torch.Tensor
    rstd: torch.Tensor


def split_linear(weight: torch.Tensor, bias: torch.Tensor, norm: torch.nn.LayerNorm | None = None) -> SplitLinear:
    """Prepare a linear layer.

    Args:
        weight: (outputs, width), float32.
        bias: (outputs,).
        norm: the layer norm in front, whose gain and offset become part of the layer.

    Returns:
        The layer, on the same device, without autograd.
    """
    exact, offset = weight.detach().double(), bias.detach().double()
    if norm is not None:
        offset = offset + exact @ norm.bias.detach().double()
        exact = exact * norm.weight.detach().double()
    high = _tf32(exact.float())
    return SplitLinear(high, _tf32((exact - high.double()).float()), offset.float())


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
        x, layer.high, layer.low, layer.bias, mean, rstd, out, rows, width, outputs, *x.stride(), *out.stride(),
        HAS_BIAS=with_bias, NORM=moments is not None, GELU=gelu, ADD=add, ROWS=tiles.rows, OUTPUTS=tiles.outputs,
        DEPTH=tiles.depth, APART=tiles.apart, num_warps=tiles.warps, num_stages=tiles.stages,
    )  # fmt: skip
    return out


def _tf32(x: torch.Tensor) -> torch.Tensor:
    """Round float32 to nearest, to the 11 significant bits that TF32 keeps."""
    return ((x.contiguous().view(torch.int32) + 0x1000) & -0x2000).view(torch.float32)
