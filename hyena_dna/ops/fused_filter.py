"""The implicit filters through fused kernels: from a few thousand parameters to (channels, length), and back.

For the `fast` long convolution: relative L2 error about 4e-4. The definition that this is tested against is
`hyena_dna.model.filter.ImplicitFilter`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton

from hyena_dna.ops import filter_kernels as kernels
from hyena_dna.ops.fused_linear import halves
from hyena_dna.ops.shares import shares

__all__ = ["FilterShape", "fused_filter", "is_supported"]

_MOST_FEATURES = 32
# How each kernel is cut at a width of 64, the fastest by measurement: programs small enough that a multiprocessor holds
# several.
_FORWARD = {"POSITIONS": 64, "CHANNELS": 32, "num_warps": 4}
_SINE = {"POSITIONS": 128, "CHANNELS": 64, "num_warps": 8}
_HIDDEN = {"POSITIONS": 32, "num_warps": 4}
_LAST = {"POSITIONS": 32, "CHANNELS": 128, "num_warps": 8}
# Programs of the backward pass: as many as multiprocessors hold at a time, so that their sums are few.
_PROGRAMS = 264
_Gradients = tuple[torch.Tensor | None, ...]


class FilterShape(NamedTuple):
    """What positions and window are, beside the weights.

    Attributes:
        length: positions evaluated, 0 to length - 1.
        max_length: the length that positions are normalised by.
        shift: added to the window.
        octaves: whether the waves of the features are given per position, as powers of two.
    """

    length: int
    max_length: float
    shift: float
    octaves: bool = False

    @property
    def numbers(self) -> tuple[int, float, float]:
        """What kernels take at run time."""
        return self.length, self.max_length, self.shift


def is_supported(width: int, features: int) -> bool:
    """Whether the kernels take a network of this width, with so many positional features."""
    return width in (16, 32, 64, 128) and features <= _MOST_FEATURES


def fused_filter(
    shape: FilterShape, bands: torch.Tensor, rates: torch.Tensor, weights: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Filters at positions 0 to length - 1, float32. Differentiable once in the weights. Deterministic.

    Args:
        shape: positions and window.
        bands: ((features - 1) / 2,), frequencies of the waves: over `max_length`, or per position.
        rates: (channels,), decay of every channel's window per unit of time.
        weights: first layer (width, features), its bias (width,), frequency of the sine (1, width); weight and bias of
            every inner layer; last layer (channels, width).

    Returns:
        (channels, length).
    """
    y: torch.Tensor = _Filter.apply(shape, bands, rates, *weights)  # type: ignore[no-untyped-call]
    return y


class _Network:
    """Weights as the kernels take them."""

    def __init__(self, weights: Sequence[torch.Tensor], *, octaves: bool) -> None:
        *small, last = weights
        self.last = last.float().contiguous()
        self.pack = torch.cat([value.flatten() for value in small]).float()
        self.parts = torch.stack(halves(self.pack))
        self.width, features = small[0].shape
        # At least as many as a product on tensor cores takes.
        padded = max(16, triton.next_power_of_2(features))
        self.constants = {
            "INNER": (len(small) - 3) // 2, "E": features, "PADDED": padded, "OCTAVES": octaves, "W": self.width,
        }  # fmt: skip

    def launch(self, cut: dict[str, int]) -> dict[str, int]:
        """How a kernel is cut at this width: wider states take more warps to hold."""
        return {**cut, "num_warps": cut["num_warps"] * max(1, self.width // 64)}


class _Filter(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, shape: FilterShape, bands: torch.Tensor, rates: torch.Tensor, *weights: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(bands, rates, *weights)
        ctx.shape = shape
        network = _Network(weights, octaves=shape.octaves)
        channels = len(rates)
        y = rates.new_empty((channels, shape.length))
        largest = network.last.abs().amax(1)
        largest = torch.where(largest > 0, largest, 1.0)
        kernels.filter_forward[(triton.cdiv(shape.length, _FORWARD["POSITIONS"]),)](
            network.pack, network.parts, bands, (network.last / largest[:, None]).half(), largest, rates, y, channels,
            *shape.numbers, **network.constants, **network.launch(_FORWARD),
        )  # fmt: skip
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> _Gradients:
        bands, rates, *weights = ctx.saved_tensors
        shape: FilterShape = ctx.shape
        network, grad = _Network(weights, octaves=shape.octaves), grad.contiguous()
        channels = len(rates)
        states = grad.new_empty((shape.length, network.width))
        kernels.sine_backward[(triton.cdiv(shape.length, _SINE["POSITIONS"]),)](
            grad, network.last, rates, states, channels, *shape.numbers,
            W=network.width, **network.launch(_SINE), num_stages=1,
        )  # fmt: skip
        programs, per_program = shares(triton.cdiv(shape.length, _HIDDEN["POSITIONS"]), _PROGRAMS)
        of_pack = grad.new_empty((programs, len(network.pack)))
        kernels.hidden_backward[(programs,)](
            network.pack, network.parts, bands, states, of_pack, shape.length, shape.max_length, per_program,
            **network.constants, **network.launch(_HIDDEN), num_stages=1,
        )  # fmt: skip
        of_channels = triton.cdiv(channels, _LAST["CHANNELS"])
        programs, per_program = shares(triton.cdiv(shape.length, _LAST["POSITIONS"]), max(1, _PROGRAMS // of_channels))
        of_last = grad.new_empty((programs, *network.last.shape))
        kernels.last_backward[(of_channels, programs)](
            grad, states, rates, of_last, channels, *shape.numbers, per_program,
            W=network.width, **network.launch(_LAST), num_stages=1,
        )  # fmt: skip
        *small, last = weights
        found = torch.split(of_pack.sum(0), [value.numel() for value in small])
        typed = (part.view_as(value).to(value.dtype) for part, value in zip(found, small, strict=True))
        return None, None, None, *typed, of_last.sum(0).to(last.dtype)
