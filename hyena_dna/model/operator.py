"""The Hyena operator: element-wise gates and long convolutions in place of attention."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from hyena_dna.model.adapters import linear_weight
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.filter import ImplicitFilter
from hyena_dna.ops.long_conv import Implementation, Precision, choose, long_conv
from hyena_dna.ops.short_conv import short_conv

__all__ = ["HyenaOperator"]


class HyenaOperator(nn.Module):
    """y = H(u) u, a causal mixer whose matrix H(u) depends on its input, in O(length log length).

    With v, x^1 .. x^N projections of u (linear, then a short convolution), D_n the diagonal matrix of gate x^n and
    S_n the Toeplitz matrix of long filter h^n plus its skip weight on the diagonal:

        HyenaDNA's form (`leading_conv` false, N >= 2):    H(u) = D_N S_(N-1) ... D_2 S_1 D_1
        the Hyena paper's form (`leading_conv` true):      H(u) = D_N S_N ... D_2 S_2 D_1 S_1

    applied to v, followed by a linear output projection.

    Attributes:
        impl: implementation of the long convolution.
        precision: precision of the long convolution; None: `fast` under the autocast of a GPU, otherwise `high`.
    """

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        self.config = config
        width = (config.order + 1) * config.d_model
        self.in_proj = nn.Linear(config.d_model, width)
        self.short_filter = nn.Conv1d(width, width, config.short_filter_length, groups=width)
        self.filter_fn = ImplicitFilter(config)
        self.out_proj = nn.Linear(config.d_model, config.d_model)
        self.impl: Implementation = "auto"
        self.precision: Precision | None = None

    def forward(self, u: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
        """Mix positions.

        Args:
            u: (batch, length, d_model).
            padding: (batch, length), true where a row has ended; such positions are zeroed before every long
                convolution, so that nothing in them reaches the FFT. None where no row is padded.

        Returns:
            (batch, length, d_model); padded positions hold finite values without meaning.
        """
        config = self.config
        device = u.device.type
        lower = device == "cuda" and torch.is_autocast_enabled(device)
        precision = ("fast" if lower else "high") if self.precision is None else self.precision
        kernels = self.filter_fn(u.shape[1])
        skips = self.filter_fn.bias.view(config.n_filters, config.d_model)
        if lower and choose(u.transpose(1, 2), kernels[0], impl=self.impl, precision=precision) == "monarch":
            return self._fused(u.to(torch.get_autocast_dtype(device)), kernels, skips, padding)
        z = self.project(u, config.order)
        for n in range(config.order):
            convolution = n if config.leading_conv else n - 1
            if convolution >= 0:
                if padding is not None:
                    z = z.masked_fill_(padding[:, None], 0)
                kernel, skip = kernels[convolution], skips[convolution]
                z = long_conv(z, kernel, skip, impl=self.impl, precision=precision)
            # Checkpoints store the gates in reverse: x^1 is the last group before v, x^N the first.
            z = z * self.project(u, config.order - 1 - n)
        return F.linear(z.transpose(1, 2), linear_weight(self.out_proj), self.out_proj.bias)

    def _fused(
        self, u: torch.Tensor, kernels: torch.Tensor, skips: torch.Tensor, padding: torch.Tensor | None
    ) -> torch.Tensor:
        # Triton is there on GPUs only.
        from hyena_dna.ops.fused_mixer import MixerWeights, fused_mixer

        short = self.short_filter
        assert short.bias is not None
        weights = MixerWeights(
            linear_weight(self.in_proj), self.in_proj.bias, short.weight, short.bias,
            linear_weight(self.out_proj), self.out_proj.bias,
        )  # fmt: skip
        return fused_mixer(u, weights, kernels, skips, leading_conv=self.config.leading_conv, padding=padding)

    def project(self, u: torch.Tensor, group: int) -> torch.Tensor:
        """One group of channels after the input projection and the short convolution.

        Groups are computed when they are used, because all of them together would be the largest tensor of the model.

        Args:
            u: (batch, length, d_model).
            group: 0 to order - 1 for the gates x^N to x^1, order for v.

        Returns:
            (batch, d_model, length), channels first as the convolutions want it.
        """
        width = self.config.d_model
        channels = slice(group * width, (group + 1) * width)
        weight, bias = linear_weight(self.in_proj)[channels], self.in_proj.bias[channels]
        projected = torch.baddbmm(bias[:, None], weight.expand(len(u), -1, -1), u.transpose(1, 2))
        short = self.short_filter
        assert short.bias is not None
        return short_conv(projected, short.weight[channels], short.bias[channels])
