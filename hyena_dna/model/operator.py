"""The Hyena operator: element-wise gates and long convolutions in place of attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

from hyena_dna.model.adapters import linear_after_norm, linear_weight
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.filter import ImplicitFilter
from hyena_dna.ops.cpu_linear import linear, linear_channels_first
from hyena_dna.ops.long_conv import Implementation, Precision, choose, long_conv
from hyena_dna.ops.short_conv import MOST_FUSED_TAPS, short_conv
from hyena_dna.ops.threads import run_pieces
from hyena_dna.ops.workspace import Tile, cut_tiles, rows_per_chunk

if TYPE_CHECKING:
    from hyena_dna.ops.fused_filter import FilterNetwork
    from hyena_dna.ops.long_conv.monarch import Spectrum

__all__ = ["HyenaOperator"]

# Numbers per channel and position that are alive at once, counted twice because several tiles are: two groups of
# projections before and after the short convolution, or the inside of the MLP that follows before and after its GELU.
_TILE_BUFFERS = 16


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
        if self.is_tiled(u):
            y = torch.empty_like(u)
            self.mix_tiles(u.__getitem__, y.__setitem__, u, padding)
            return y
        if self.is_fused(u):
            return self.mix_fused(u, padding)
        config, skips, precision = self.config, self.filter_fn.skips, self._precision(u)
        kernels = self.filter_fn(u.shape[1])
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
        return linear(z.transpose(1, 2), linear_weight(self.out_proj), self.out_proj.bias)

    def _precision(self, u: torch.Tensor) -> Precision:
        return ("fast" if _is_lower(u) else "high") if self.precision is None else self.precision

    def is_fused(self, u: torch.Tensor) -> bool:
        """Whether `mix_fused` serves this input: under the autocast of a GPU, convolved on tensor cores."""
        if not _is_lower(u):
            return False
        # The skip weights have the dtype that filters are made of.
        given, precision = (u.transpose(1, 2), self.filter_fn.skips), self._precision(u)
        fits = self.config.short_filter_length <= MOST_FUSED_TAPS
        return fits and choose(*given, impl=self.impl, precision=precision, alone=False) == "monarch"

    def mix_fused(
        self,
        u: torch.Tensor,
        padding: torch.Tensor | None = None,
        norm: nn.LayerNorm | None = None,
        *,
        has_bias: bool = True,
    ) -> torch.Tensor:
        """What `forward` computes, through fused kernels.

        Args:
            u: as for `forward`; likewise padding.
            norm: the norm in front, where `u` lacks its gain and offset.
            has_bias: whether the output has the bias of the output projection.
        """
        # Triton is there on GPUs only.
        from hyena_dna.ops.fused_mixer import MixerWeights, fused_mixer

        u, short = u.to(torch.get_autocast_dtype("cuda")), self.short_filter
        assert short.bias is not None
        weights = MixerWeights(
            *linear_after_norm(self.in_proj, norm), short.weight, short.bias,
            linear_weight(self.out_proj), self.out_proj.bias if has_bias else None,
        )  # fmt: skip
        length, filters = u.shape[1], self.filter_fn
        kernels: torch.Tensor | FilterNetwork | tuple[Spectrum, ...] | None
        if not torch.is_grad_enabled():
            kernels = filters.spectra(length)
        elif (kernels := filters.network(length)) is None:
            kernels = filters(length)
        return fused_mixer(
            u, weights, kernels, self.filter_fn.skips, leading_conv=self.config.leading_conv, padding=padding
        )

    def project(self, u: torch.Tensor, group: int, count: int = 1) -> torch.Tensor:
        """Groups of channels after the input projection and the short convolution.

        Groups are computed when they are used, because all of them together would be the largest tensor of the model.

        Args:
            u: (batch, length, d_model).
            group: 0 to order - 1 for the gates x^N to x^1, order for v.
            count: how many groups from there on.

        Returns:
            (batch, count * d_model, length), channels first as the convolutions want it.
        """
        width = self.config.d_model
        channels = slice(group * width, (group + count) * width)
        weight, bias = linear_weight(self.in_proj)[channels], self.in_proj.bias[channels]
        short = self.short_filter
        assert short.bias is not None
        return short_conv(linear_channels_first(u, weight, bias), short.weight[channels], short.bias[channels])

    def is_tiled(self, u: torch.Tensor) -> bool:
        """Whether `mix_tiles` serves this input: on a CPU, without autograd and autocast, convolved by FFTs."""
        return (
            u.device.type == "cpu"
            and not torch.is_grad_enabled()
            and not torch.is_autocast_enabled("cpu")
            and u.dtype == self.in_proj.weight.dtype
            and u.dtype in (torch.float32, torch.float64)
            and self.impl in ("auto", "fft")
        )

    def mix_tiles(
        self,
        read: Callable[[Tile], torch.Tensor],
        write: Callable[[Tile, torch.Tensor], None],
        u: torch.Tensor,
        padding: torch.Tensor | None,
    ) -> None:
        """What `forward` computes, a tile of positions at a time, for inference.

        Fresh memory costs a CPU more than the arithmetic on it. Here a single tensor of all positions is alive, the
        one that is convolved; projections and gates exist for one tile, and are made when they are used.

        Args:
            read: gives the operator's input at a tile, (rows, positions, d_model).
            write: takes the operator's output at a tile, in the same shape, once the input there is no longer needed,
                so that it may take its place. Called for every tile once, in any order and from several threads.
            u: (batch, length, d_model), only asked for its shape and dtype.
            padding: as for `forward`.
        """
        config, (batch, length, width) = self.config, u.shape
        tiles = cut_tiles(batch, length, rows_per_chunk(u.device, _TILE_BUFFERS * width * u.element_size()))
        z = u.new_empty(batch, width, length)

        def start(tile: Tile) -> None:
            rows, positions = tile
            if config.leading_conv:
                z[rows, :, positions] = self._project_tile(read, tile, config.order)
            else:
                pair = self._project_tile(read, tile, config.order - 1, 2)
                torch.mul(pair[:, :width], pair[:, width:], out=z[rows, :, positions])

        def gate(tile: Tile, group: int) -> None:
            rows, positions = tile
            z[rows, :, positions].mul_(self._project_tile(read, tile, group))

        run_pieces(start, tiles)
        self._convolve_tiles(z, padding, lambda group: run_pieces(lambda tile: gate(tile, group), tiles))
        edges = [read(self._edge(tile)) for tile in tiles]

        def finish(piece: tuple[Tile, torch.Tensor]) -> None:
            tile, edge = piece
            rows, positions = tile
            seen = torch.cat([edge, read(tile)], 1)
            gated = self.project(seen, 0)[..., edge.shape[1] :].mul_(z[rows, :, positions])
            write(tile, linear(gated.transpose(1, 2), linear_weight(self.out_proj), self.out_proj.bias))

        run_pieces(finish, zip(tiles, edges, strict=True))

    def _convolve_tiles(self, z: torch.Tensor, padding: torch.Tensor | None, gate: Callable[[int], None]) -> None:
        """All long convolutions in place, with the gates in between."""
        config = self.config
        kernels = self.filter_fn(z.shape[-1])
        for n in range(config.n_filters):
            if n > 0:
                gate(config.n_filters - n)
            if padding is not None:
                z.masked_fill_(padding[:, None], 0)
            long_conv(z, kernels[n], self.filter_fn.skips[n], impl=self.impl, out=z)

    def _edge(self, tile: Tile) -> Tile:
        """The positions before a tile that the short convolution looks back to."""
        rows, positions = tile
        return rows, slice(max(0, positions.start - self.short_filter.weight.shape[-1] + 1), positions.start)

    def _project_tile(
        self, read: Callable[[Tile], torch.Tensor], tile: Tile, group: int, count: int = 1
    ) -> torch.Tensor:
        (rows, positions), (_, edge) = tile, self._edge(tile)
        projected = self.project(read((rows, slice(edge.start, positions.stop))), group, count)
        return projected[..., positions.start - edge.start :]


def _is_lower(u: torch.Tensor) -> bool:
    return u.device.type == "cuda" and torch.is_autocast_enabled("cuda")
