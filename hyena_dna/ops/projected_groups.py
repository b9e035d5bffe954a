"""The groups of channels that a mixer multiplies with each other: short convolution and gate in one kernel, and back.

The definition is `hyena_dna.ops.short_conv` and a product in PyTorch; `hyena_dna.ops.fused_mixer` is tested against it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton

from hyena_dna.ops.gate_kernels import gate_backward, gate_forward

__all__ = ["GroupSums", "Groups", "OtherGradient"]

# Positions of a block of the gates, for one warp: the fastest by measurement.
_BLOCK = 512
# Blocks that one program of the backward pass takes, as far as there are enough for all multiprocessors: sums over its
# positions are made once.
_MOST_BLOCKS = 16
_PROGRAMS = 8448


class Groups:
    """Projections of G groups of channels and their short filters, which come in as they are asked for.

    Args:
        projected: (batch, G * width, length), what a linear layer makes without its bias, contiguous.
        in_bias: (G * width,), that bias.
        taps: (G * width, taps), the short filters; with
        bias: (G * width,), theirs.
        width: channels of a group.

    Attributes:
        count: G.
    """

    def __init__(
        self, projected: torch.Tensor, in_bias: torch.Tensor, taps: torch.Tensor, bias: torch.Tensor, width: int
    ) -> None:
        self.projected, self.width = projected, width
        self.in_bias, self.taps, self.bias = in_bias.contiguous(), taps.contiguous(), bias.contiguous()
        self.count = projected.shape[1] // width

    def gate(
        self, group: int, other: torch.Tensor | int | None, *, with_peaks: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """short(group), its short convolution, times something.

        Args:
            group: 0 to count - 1.
            other: a tensor (batch, width, length), contiguous; another group, for its short convolution; or None.
            with_peaks: whether the largest magnitude of every sequence is wanted.

        Returns:
            (batch, width, length), and (batch, width) float32 or None.
        """
        batch, all_channels, length = self.projected.shape
        channels = self.width
        y = self.projected.new_empty((batch, channels, length))
        block = _block(length)
        blocks = triton.cdiv(length, block)
        peaks = y.new_empty((batch, channels, blocks), dtype=torch.float32) if with_peaks else None
        values, second, kind = self._other(group, other)
        gate_forward[(batch * channels * blocks,)](
            self.projected, values, self.in_bias, self.taps, self.bias, y, peaks, group * channels, second,
            channels, all_channels, length,
            TAPS=self.taps.shape[1], OTHER=kind, BLOCK=block, PEAKS=with_peaks, num_warps=1,
        )  # fmt: skip
        return y, None if peaks is None else peaks.amax(2)

    def gate_gradients(
        self, group: int, other: torch.Tensor | int | None, grad: torch.Tensor, sums: GroupSums
    ) -> OtherGradient | None:
        """Gradients of `gate`, given that of its output: of the groups into `sums`, of a tensor as result."""
        batch, all_channels, length = self.projected.shape
        channels, taps = self.width, self.taps.shape[1]
        block = _block(length)
        blocks = triton.cdiv(length, block)
        per_program = max(1, min(_MOST_BLOCKS, batch * blocks * channels // _PROGRAMS))
        shares = triton.cdiv(batch * blocks, per_program)
        partials = grad.new_empty((2, shares, channels, taps + 2), dtype=torch.float32)
        values, second, kind = self._other(group, other)
        found = None
        if values is not None:
            found = OtherGradient(
                torch.empty_like(values), values.new_empty((batch, channels, blocks), dtype=torch.float32)
            )
        gate_backward[(channels * shares,)](
            self.projected, values, grad, self.in_bias, self.taps, self.bias, sums.projected,
            *(found or (None, None)), *partials, group * channels, second,
            batch, channels, all_channels, length, per_program, TAPS=taps, OTHER=kind, BLOCK=block, num_warps=1,
        )  # fmt: skip
        sums.add(group, partials[0])
        if isinstance(other, int):
            sums.add(other, partials[1])
        return found

    def _other(self, group: int, other: torch.Tensor | int | None) -> tuple[torch.Tensor | None, int, str]:
        """Values, first channel, and kind of what a group is multiplied by."""
        if isinstance(other, torch.Tensor):
            return other, group * self.width, "values"
        return (None, group * self.width, "none") if other is None else (None, other * self.width, "projection")


class OtherGradient(NamedTuple):
    """What `gate_gradients` finds where a group was multiplied by a tensor."""

    values: torch.Tensor
    """Gradient of the tensor, (batch, d_model, length)."""

    peaks: torch.Tensor
    """Its largest magnitudes, (batch, d_model, blocks)."""


class GroupSums:
    """Gradients of projections and short filters, filled group by group."""

    def __init__(self, groups: Groups) -> None:
        self.projected = torch.empty_like(groups.projected)
        channels, taps = groups.taps.shape
        self._small = self.projected.new_empty((channels, taps + 2), dtype=torch.float32)

    def add(self, group: int, partial: torch.Tensor) -> None:
        """Fill in a group's short filter and biases from parts (shares, width, taps + 2)."""
        channels = partial.shape[1]
        torch.sum(partial, 0, out=self._small[group * channels : (group + 1) * channels])

    @property
    def taps(self) -> torch.Tensor:
        """Of short filters, (G * d_model, taps)."""
        return self._small[:, :-2]

    @property
    def bias(self) -> torch.Tensor:
        """Of their biases, (G * d_model,)."""
        return self._small[:, -2]

    @property
    def in_bias(self) -> torch.Tensor:
        """Of the biases of the input projection, (G * d_model,)."""
        return self._small[:, -1]


def _block(length: int) -> int:
    """Positions of one program of the gates."""
    block: int = min(_BLOCK, max(16, triton.next_power_of_2(length)))
    return block
