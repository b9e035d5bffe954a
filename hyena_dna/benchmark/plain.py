"""The plain formulation as a peer: a mixer in eager PyTorch around `plain_long_conv`, no chunks."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from hyena_dna.errors import InputError
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.operator import HyenaOperator
from hyena_dna.ops.long_conv.plain import plain_long_conv

__all__ = ["PlainOperator", "make_plain"]


class PlainOperator(HyenaOperator):
    """The Hyena operator written down step by step, with the parameters of `HyenaOperator`.

    All projections at once, one depthwise convolution over them, filters made anew in every pass.

    Raises:
        InputError: the recurrence begins with a convolution, which published models do not.
    """

    def __init__(self, config: HyenaConfig) -> None:
        if config.leading_conv:
            raise InputError("the plain formulation is that of HyenaDNA, without a leading convolution")
        super().__init__(config)

    def train(self, mode: bool = True) -> PlainOperator:
        """As every module, except that filters are never kept."""
        super().train(mode)
        self.filter_fn.train()
        return self

    def forward(self, u: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, length, d_model) -> the same; padding is not supported."""
        assert padding is None
        config, length = self.config, u.shape[1]
        kernels = self.filter_fn(length)
        skips = self.filter_fn.skips
        short = self.short_filter
        projected = self.in_proj(u).transpose(1, 2)
        taps = short.weight.shape[-1]
        mixed = F.conv1d(projected, short.weight, short.bias, padding=taps - 1, groups=short.groups)[..., :length]
        *gates, z = torch.split(mixed, config.d_model, dim=1)
        for gate, kernel, skip in zip(reversed(gates[1:]), kernels, skips, strict=True):
            z = plain_long_conv(z * gate, kernel, skip)
        y: torch.Tensor = self.out_proj((z * gates[0]).transpose(1, 2))
        return y


def make_plain(model: nn.Module, config: HyenaConfig) -> None:
    """Replace every mixer of a model by a `PlainOperator` with the same parameters."""
    for block in model.modules():
        mixer = getattr(block, "mixer", None)
        if isinstance(mixer, HyenaOperator):
            plain = PlainOperator(config)
            plain.load_state_dict(mixer.state_dict())
            block.mixer = plain
