"""The implicit filters through fused kernels: from a few thousand parameters to (channels, length), and back.

For the `fast` long convolution: relative L2 error about 5e-4. The definition that this is tested against is
`hyena_dna.model.filter.ImplicitFilter`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton

from hyena_dna.ops import filter_kernels as kernels
from hyena_dna.ops.fused_linear import halves
from hyena_dna.ops.scaled_kernel import ScaledKernel
from hyena_dna.ops.shares import shares

__all__ = ["FilterNetwork", "FilterShape", "fused_filter", "fused_filter_backward", "is_supported"]

_MOST_FEATURES = 32
_MOST_WINDOW = 7.0
# How each kernel is cut at a width of 64, the fastest by measurement: programs small enough that a multiprocessor holds
# several.
_FORWARD = {"POSITIONS": 64, "CHANNELS": 32, "num_warps": 4}
_SINE = {"POSITIONS": 64, "CHANNELS": 128, "num_warps": 4}
_HIDDEN = {"POSITIONS": 32, "num_warps": 4}
_LAST = {"POSITIONS": 64, "CHANNELS": 128, "num_warps": 8}
# Programs of the backward pass: as many as multiprocessors hold at a time, so that their sums are few.
_PROGRAMS = 264


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


def is_supported(width: int, features: int, shift: float) -> bool:
    """Whether the kernels take a network of this width, with so many positional features and such a window.

    Gradients times the window are float16 and must not overflow (`hyena_dna.ops.long_conv.monarch`).
    """
    return width in (16, 32, 64, 128) and features <= _MOST_FEATURES and 1 + abs(shift) <= _MOST_WINDOW


class FilterNetwork(NamedTuple):
    """What filters are made of."""

    shape: FilterShape
    """Positions and window."""

    bands: torch.Tensor
    """((features - 1) / 2,), frequencies of the waves: over `max_length`, or per position."""

    rates: torch.Tensor
    """(channels,), decay of every channel's window per unit of time."""

    weights: tuple[torch.Tensor, ...]
    """First layer (width, features), its bias (width,), frequency of the sine (1, width); weight and bias of every
    inner layer; last layer (channels, width)."""


def fused_filter(network: FilterNetwork) -> ScaledKernel:
    """Filters at positions 0 to length - 1, float16. Without autograd: `fused_filter_backward` has the gradients.

    Returns:
        (channels, length); the scale of a channel is the largest weight of its last layer.
    """
    shape, bands, rates, _ = network
    packed = _Packed(network)
    values = rates.new_empty((len(rates), shape.length), dtype=torch.float16)
    scale = _largest(packed.last, 1)
    kernels.filter_forward[(triton.cdiv(shape.length, _FORWARD["POSITIONS"]),)](
        packed.pack, packed.parts, bands, (packed.last / scale[:, None]).half(), rates, values, len(rates),
        *shape.numbers, **packed.constants, **packed.launch(_FORWARD),
    )  # fmt: skip
    return ScaledKernel(values, scale)


def fused_filter_backward(network: FilterNetwork, grad: ScaledKernel) -> list[torch.Tensor]:
    """Gradients of the weights, in their dtypes, from those of the filters, float16. Deterministic."""
    shape, bands, rates, weights = network
    packed, values, channels = _Packed(network), grad.values, len(rates)
    d_sines = values.new_empty((shape.length, packed.width), dtype=torch.float32)
    last = packed.last * grad.scale[:, None]
    factor = _largest(last)
    kernels.sine_backward[(triton.cdiv(shape.length, _SINE["POSITIONS"]),)](
        values, (last / factor).half(), factor, rates, d_sines, channels, *shape.numbers,
        W=packed.width, **packed.launch(_SINE), num_stages=1,
    )  # fmt: skip
    sines = torch.empty_like(d_sines, dtype=torch.float16)
    programs, per_program = shares(triton.cdiv(shape.length, _HIDDEN["POSITIONS"]), _PROGRAMS)
    of_pack = d_sines.new_empty((programs, len(packed.pack)))
    kernels.hidden_backward[(programs,)](
        packed.pack, packed.parts, bands, d_sines, sines, of_pack, shape.length, shape.max_length, per_program,
        **packed.constants, **packed.launch(_HIDDEN), num_stages=1,
    )  # fmt: skip
    of_channels = triton.cdiv(channels, _LAST["CHANNELS"])
    programs, per_program = shares(triton.cdiv(shape.length, _LAST["POSITIONS"]), max(1, _PROGRAMS // of_channels))
    of_last = d_sines.new_empty((programs, *packed.last.shape))
    kernels.last_backward[(of_channels, programs)](
        values, sines, rates, of_last, channels, *shape.numbers, per_program,
        W=packed.width, **packed.launch(_LAST), num_stages=1,
    )  # fmt: skip
    found = torch.split(of_pack.sum(0), [weight.numel() for weight in weights[:-1]])
    gradients = (*found, of_last.sum(0) * grad.scale[:, None])
    return [part.view_as(weight).to(weight.dtype) for part, weight in zip(gradients, weights, strict=True)]


def _largest(x: torch.Tensor, dim: int | tuple[int, ...] = ()) -> torch.Tensor:
    """The largest magnitudes, of everything or along a dimension; one where all is zero."""
    found = x.abs().amax(dim)
    return torch.where(found > 0, found, 1.0)


class _Packed:
    """Weights as the kernels take them."""

    def __init__(self, network: FilterNetwork) -> None:
        *small, last = (weight.detach() for weight in network.weights)
        self.last = last.float().contiguous()
        self.pack = torch.cat([value.flatten() for value in small]).float()
        self.parts = torch.stack(halves(self.pack))
        self.width, features = small[0].shape
        # At least as many as a product on tensor cores takes.
        padded = max(16, triton.next_power_of_2(features))
        self.constants = {
            "INNER": (len(small) - 3) // 2, "E": features, "PADDED": padded, "OCTAVES": network.shape.octaves,
            "W": self.width,
        }  # fmt: skip

    def launch(self, cut: dict[str, int]) -> dict[str, int]:
        """How a kernel is cut at this width: wider states take more warps to hold."""
        return {**cut, "num_warps": cut["num_warps"] * max(1, self.width // 64)}
