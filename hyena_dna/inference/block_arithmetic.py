"""The large matrix products of a block, in float32 or on tensor cores at the accuracy of float32.

A float32 number is the sum of two float16 numbers to about 22 bits. With x = x1 + x2 and W = W1 + W2,

    x W = x1 W1 + x2 W1 + x1 W2 + (x2 W2, below rounding),

one float16 product of three times the depth, summed in float32 by the hardware. Its error is that of float32, its time
a fraction: GPUs for machine learning multiply float16 more than ten times as fast as float32.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch.nn import functional as F

from hyena_dna.errors import InputError
from hyena_dna.model.block import Block
from hyena_dna.model.operator import HyenaOperator
from hyena_dna.ops.workspace import map_rows, rows_per_chunk

__all__ = ["Arithmetic", "BlockProducts", "PlainProducts", "SplitLinear", "SplitProducts", "block_products"]

Arithmetic = Literal["plain", "split"]

# Second halves of weights are some 1e-6, where float16 has no digits left; this is exact and takes them back up.
_LIFT = 64.0


class BlockProducts(Protocol):
    """What a block computes with its large matrices."""

    def project(self, u: torch.Tensor) -> torch.Tensor:
        """Input projections of the mixer: (batch, length, d_model) -> (batch, (order + 1) d_model, length)."""

    def mlp(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, length, d_model) -> the same."""


def block_products(block: Block, arithmetic: Arithmetic) -> BlockProducts:
    """The products of one block.

    Raises:
        InputError: the arithmetic is unknown, or asks of a float64 model what is less than float64.
    """
    if arithmetic not in ("plain", "split"):
        raise InputError(f"arithmetic is plain or split, not {arithmetic!r}")
    if arithmetic == "split" and block.norm1.weight.dtype != torch.float32:
        raise InputError("split arithmetic is for float32 models", remedy="use plain arithmetic")
    return PlainProducts(block) if arithmetic == "plain" else SplitProducts(block)


class PlainProducts:
    """In the dtype of the weights."""

    def __init__(self, block: Block) -> None:
        assert isinstance(block.mixer, HyenaOperator)
        self._in_proj, self._mlp = block.mixer.in_proj, block.mlp

    def project(self, u: torch.Tensor) -> torch.Tensor:
        """As `BlockProducts.project`."""
        weight = self._in_proj.weight.expand(len(u), -1, -1)
        return torch.baddbmm(self._in_proj.bias[:, None], weight, u.transpose(1, 2))

    def mlp(self, x: torch.Tensor) -> torch.Tensor:
        """As `BlockProducts.mlp`."""
        y: torch.Tensor = self._mlp(x)
        return y


class SplitProducts:
    """On tensor cores, by float16 halves; weights are split once."""

    def __init__(self, block: Block) -> None:
        assert isinstance(block.mixer, HyenaOperator)
        self._in_proj, self._in_bias = SplitLinear(block.mixer.in_proj.weight), block.mixer.in_proj.bias
        self._fc1, self._fc1_bias = SplitLinear(block.mlp.fc1.weight), block.mlp.fc1.bias
        self._fc2, self._fc2_bias = SplitLinear(block.mlp.fc2.weight), block.mlp.fc2.bias
        # Both layers' results and what the second is given, of one position.
        self._row_bytes = (4 * 2 + 2 * 3) * block.mlp.fc1.out_features

    def project(self, u: torch.Tensor) -> torch.Tensor:
        """As `BlockProducts.project`."""
        return self._in_proj.channels_first(u).add_(self._in_bias[:, None])

    def mlp(self, x: torch.Tensor) -> torch.Tensor:
        """As `BlockProducts.mlp`."""
        return map_rows(self._transform, x.flatten(0, 1), rows_per_chunk(x.device, self._row_bytes)).view(x.shape)

    def _transform(self, x: torch.Tensor) -> torch.Tensor:
        inner = F.gelu(self._fc1(x).add_(self._fc1_bias), approximate="tanh")
        return self._fc2(inner).add_(self._fc2_bias)


class SplitLinear:
    """Multiplies by one float32 matrix in float16 halves, without bias.

    Inputs beyond 65,504, the largest float16 number, give results that are not finite. On a CPU the same halves are
    multiplied in float32.

    Args:
        weight: (out, in) float32.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        weight = weight.detach()
        first = weight.half()
        second = ((weight - first) * _LIFT).half()
        # The sign belongs to `_split`.
        self._halves = torch.cat([first, -first, second], dim=1)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(rows, in) float32 -> (rows, out) float32."""
        return _product(_split(x), self._halves.T)

    def channels_first(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, length, in) float32 -> (batch, out, length) float32."""
        return _product(self._halves.expand(len(x), -1, -1), _split(x).transpose(1, 2))


def _split(x: torch.Tensor) -> torch.Tensor:
    """(..., in) -> (..., 3 in) float16: the first halves, the negative second ones, and the first ones made smaller."""
    width = x.shape[-1]
    parts = torch.empty(*x.shape[:-1], 3 * width, dtype=torch.float16, device=x.device)
    first, second, small = (parts[..., start : start + width] for start in (0, width, 2 * width))
    first.copy_(x)
    # One kernel, computed in float32 and rounded when written.
    torch.sub(first, x, out=second)
    torch.mul(first, 1 / _LIFT, out=small)
    return parts


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    if a.device.type == "cpu":
        return a.float() @ b.float()
    multiply = torch.mm if a.dim() == 2 else torch.bmm
    return multiply(a, b, out_dtype=torch.float32)
