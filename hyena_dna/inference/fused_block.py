"""What a block does position by position, through fused kernels in float32 accuracy.

Layer norms become part of the linear layers behind them, GELU and the addition to the residual stream of those in front
(`hyena_dna.ops.fused_linear`); short convolutions run together with their gates (`hyena_dna.ops.fused_gate`). The
definitions are `hyena_dna.model.block.Block` and `hyena_dna.model.operator.HyenaOperator`.
"""

from __future__ import annotations

import torch

from hyena_dna.model.adapters import linear_weight
from hyena_dna.model.block import Block
from hyena_dna.model.model import HyenaDNA
from hyena_dna.model.operator import HyenaOperator
from hyena_dna.ops.fused_gate import Projection
from hyena_dna.ops.fused_linear import Moments, fused_linear, row_moments, split_linear

__all__ = ["FusedBlock", "fused_blocks"]

# The wide middle of the MLP then takes 512 MiB for a d_inner of 1,024.
_MLP_VALUES = 1 << 27


def fused_blocks(model: HyenaDNA) -> list[FusedBlock]:
    """The blocks of a float32 model of Hyena operators, in order."""
    return [FusedBlock(block) for block in model.backbone.layers if isinstance(block, Block)]


class FusedBlock:
    """The linear layers of one block with what surrounds them, without autograd.

    Args:
        block: a float32 block with a Hyena operator; its weights must not change while this is in use.

    Attributes:
        operator: the mixer of the block.
    """

    def __init__(self, block: Block) -> None:
        assert isinstance(block.mixer, HyenaOperator)
        operator, mlp = block.mixer, block.mlp
        self.operator = operator
        self._eps = block.norm1.eps, block.norm2.eps
        # Normalised rows of n values have a sum of squares of n at most; gated products know no bound.
        bound = operator.config.d_model**0.5
        self._in = split_linear(linear_weight(operator.in_proj), operator.in_proj.bias, block.norm1, bound=bound)
        self._out = split_linear(linear_weight(operator.out_proj), operator.out_proj.bias)
        self._fc1 = split_linear(linear_weight(mlp.fc1), mlp.fc1.bias, block.norm2, bound=bound)
        gains = linear_weight(mlp.fc1).detach() * block.norm2.weight.detach()
        # By Cauchy and Schwarz, and since GELU takes nothing further from zero.
        bound = float((bound * gains.norm(dim=1) + self._fc1.bias.abs()).max())
        self._fc2 = split_linear(linear_weight(mlp.fc2), mlp.fc2.bias, bound=bound)
        short = operator.short_filter
        assert short.bias is not None
        self._taps, self._short_bias = short.weight.detach().flatten(1).contiguous(), short.bias.detach()

    def moments(self, stream: torch.Tensor) -> Moments:
        """What the norm in front of the mixer needs to know: (batch, length, d_model) -> two of (batch, length)."""
        return row_moments(stream, self._eps[0])

    def project(self, stream: torch.Tensor, moments: Moments, groups: slice) -> list[Projection]:
        """Normalise a stream and project it.

        Args:
            stream: (batch, length, d_model), float32.
            moments: of the stream.
            groups: which groups of channels: 0 to order - 1 for the gates x^N to x^1, order for v.

        Returns:
            One projection of (batch, d_model, length) for each of the groups.
        """
        batch, length, width = stream.shape
        part = range(self.operator.config.order + 1)[groups]
        layer = self._in.outputs(slice(part.start * width, part.stop * width))
        # Rows of a multiple of 16 values keep wide accesses aligned.
        room = stream.new_empty(batch, len(part) * width, -(-length // 16) * 16)[..., :length]
        fused_linear(stream, layer, moments=moments, with_bias=False, out=room.transpose(1, 2))
        found = []
        for index, group in enumerate(part):
            values = room.narrow(1, index * width, width)
            channels = slice(group * width, (group + 1) * width)
            found.append(Projection(values, self._in.bias[channels], self._taps[channels], self._short_bias[channels]))
        return found

    def gate(self, convolutions: int) -> int:
        """The group that gates the output of the last of so many convolutions."""
        config = self.operator.config
        return config.order - convolutions - (0 if config.leading_conv else 1)

    def add(self, stream: torch.Tensor, mixed: torch.Tensor, *, past: int = 0) -> None:
        """Add the mixer's output to a stream, then that of the MLP, in place.

        Args:
            stream: (batch, past + length, d_model), float32, contiguous.
            mixed: (batch, d_model, length), what the mixer hands to its output projection.
            past: positions in front that get no output of the mixer.
        """
        fused_linear(mixed.transpose(1, 2), self._out, out=stream[:, past:], add=True)
        whole, chunk = stream.view(1, -1, stream.shape[-1]), max(1, _MLP_VALUES // len(self._fc1.high))
        for start in range(0, whole.shape[1], chunk):
            rows = whole[:, start : start + chunk]
            middle = fused_linear(rows, self._fc1, moments=row_moments(rows, self._eps[1]), gelu=True)
            fused_linear(middle, self._fc2, out=rows, add=True)
