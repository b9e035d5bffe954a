"""The implicit long filters: h(t) = window(t) * network(positional features of t)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from hyena_dna.model.config import HyenaConfig
from hyena_dna.ops.workspace import rows_per_chunk

if TYPE_CHECKING:
    from hyena_dna.ops.fused_filter import FilterNetwork
    from hyena_dna.ops.long_conv.monarch import Spectrum

__all__ = ["ImplicitFilter", "Sine", "decay_rates", "positional_features"]

# Filters that evaluation keeps, of one mixer. CUDA: enough for the spectra of 256 channels at 2^20 positions.
_KNOWN_BYTES = {"cpu": 32 << 20, "cuda": 5 << 28}


def positional_features(positions: torch.Tensor, config: HyenaConfig) -> torch.Tensor:
    """Time, cosines and sines of absolute positions (HyenaDNA's complex exponential features).

    Columns: t = n / (max_length - 1); cos(f w) for every band f; -sin(f w) for every band f, with w = 2 pi n /
    max_length and (filter_emb_dim - 1) / 2 bands. `linear`: spread evenly from 1e-4 to one less than their number;
    `octaves`: f w = 2 pi n / P, where the periods P are powers of two, evenly spread by their exponents.

    Args:
        positions: (length,), positions n in bp from the start of the filter. In float32 the linear features are rounded
            step by step as the published tables are, which published weights were trained with.
        config: of the filters.

    Returns:
        (length, filter_emb_dim), in the dtype of `positions`.
    """
    dtype, device = positions.dtype, positions.device
    if config.filter_waves == "octaves":
        periods = _periods(config, dtype, device)
        # Exact, whatever the position: of a product with a frequency rounding would leave little at far ones.
        phase = 2 * math.pi * (positions[:, None].remainder(periods) / periods)
    else:
        phase = _bands(config.filter_emb_dim, dtype, device) * (2 * math.pi * positions[:, None] / config.max_length)
    return torch.cat([_time(positions, config.max_length)[:, None], phase.cos(), -phase.sin()], dim=1)


def _bands(emb_dim: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    bands = (emb_dim - 1) // 2
    return torch.linspace(1e-4, bands - 1, bands, dtype=dtype, device=device)


def _periods(config: HyenaConfig, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Periods of the waves in bp, longest first; some come twice where there are more waves than octaves."""
    longest = max(2, (config.max_length - 1).bit_length())
    exponents = torch.linspace(longest, 2, (config.filter_emb_dim - 1) // 2, dtype=torch.float64, device=device)
    return torch.bitwise_left_shift(torch.ones((), dtype=torch.int64, device=device), exponents.round().long()).to(
        dtype
    )


def decay_rates(config: HyenaConfig, *, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Decay per unit of time of every filter channel's window, from slow to fast.

    A channel falls to `modulation_target` at its share of max_length: rates between -ln(target) / slow_decay and
    -ln(target) / fast_decay, evenly or geometrically spaced (`modulation_rates`).

    Returns:
        (n_filters * d_model,), positive.
    """
    depth = -math.log(config.modulation_target)
    slowest, fastest = depth / config.modulation_slow_decay, depth / config.modulation_fast_decay
    channels = config.n_filters * config.d_model
    if config.modulation_rates == "geometric":
        exponents = torch.linspace(0, 1, channels, dtype=dtype, device=device)
        return slowest * (fastest / slowest) ** exponents
    return torch.linspace(slowest, fastest, channels, dtype=dtype, device=device)


@lru_cache(maxsize=16)
def _tables(config: HyenaConfig, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Frequencies of the features as the fused kernels take them, and decay rates, float32."""
    with torch.inference_mode(False):
        rates = decay_rates(config, dtype=torch.float32, device=device)
        if config.filter_waves == "octaves":
            return 1 / _periods(config, torch.float32, device), rates
        return _bands(config.filter_emb_dim, torch.float32, device), rates


def _time(positions: torch.Tensor, max_length: int) -> torch.Tensor:
    return positions / max(1, max_length - 1)


class Sine(nn.Module):
    """sin(freq * x) with a learned frequency per feature."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.freq = nn.Parameter(torch.empty(1, features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(rows, features) -> (rows, features)."""
        return torch.sin(self.freq.to(x.dtype) * x)


class _KnownFilters:
    """Filters or their spectra by length, of one state of the parameters that they were made from."""

    def __init__(self) -> None:
        self._state: list[tuple[torch.Tensor, int, int]] = []
        self._inference = False
        self._kept: dict[object, tuple[torch.Tensor, ...]] = {}

    def __getstate__(self) -> dict[str, object]:
        # A copy has parameters of its own, and a file has no use for what can be computed.
        return _KnownFilters().__dict__

    def find(self, module: nn.Module, key: object) -> tuple[torch.Tensor, ...] | None:
        """What was kept under a key, if no parameter was replaced, moved or written to since."""
        state = [(value, value.data_ptr(), value._version) for value in module.parameters()]
        same = len(state) == len(self._state) and all(
            pointer == old_pointer and version == old_version and value.dtype == old.dtype
            for (value, pointer, version), (old, old_pointer, old_version) in zip(state, self._state, strict=True)
        )
        # Tensors made in inference mode cannot be used everywhere outside it.
        inference = torch.is_inference_mode_enabled()
        if not same or inference != self._inference:
            # The alias keeps the memory from being given to another tensor, and shares the count of writes.
            self._state = [(value.detach(), pointer, version) for value, pointer, version in state]
            self._inference, self._kept = inference, {}
        return self._kept.get(key)

    def keep(self, key: object, tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Keep tensors under a key, where there is room."""
        limit = _KNOWN_BYTES.get(tensors[0].device.type, _KNOWN_BYTES["cuda"])
        size = _bytes(tensors)
        if size <= limit:
            while sum(map(_bytes, self._kept.values())) + size > limit:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = tensors
        return tensors


def _bytes(tensors: tuple[torch.Tensor, ...]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


class ImplicitFilter(nn.Module):
    """All long filters of one mixer, from a few thousand parameters at any length.

    The network is a chain of linear layers with one shared sine between them. Positions, network and window are
    float32 (float64 for float64 weights) under every autocast: at bfloat16 a million positions have fewer than two
    thousand distinct values, and the filters come out wrong by 10-20 %. So it is with what `network` describes, but for
    the last layer, which nothing amplifies: its operands are float16, like those of the convolution behind it.
    """

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        self.config = config
        width, channels = config.filter_order, config.n_filters * config.d_model
        self.bias = nn.Parameter(torch.empty(channels))
        # Children carry the names of published checkpoints: even numbers are linear layers, "1" is the shared sine.
        self.implicit_filter = nn.ModuleDict({"0": nn.Linear(config.filter_emb_dim, width), "1": Sine(width)})
        for layer in range(1, config.filter_num_inner_mlps + 1):
            self.implicit_filter[str(2 * layer)] = nn.Linear(width, width)
        self.implicit_filter[str(2 * config.filter_num_inner_mlps + 2)] = nn.Linear(width, channels, bias=False)
        self._known = _KnownFilters()

    @property
    def skips(self) -> torch.Tensor:
        """Weights of the direct terms, (n_filters, d_model)."""
        return self.bias.view(self.config.n_filters, self.config.d_model)

    def forward(self, length: int) -> torch.Tensor:
        """Evaluate the filters at positions 0 to length - 1.

        In evaluation mode and without autograd, filters are kept until a parameter changes (of every mixer up to 32 MiB
        on a CPU, 1 GiB on a GPU), so that batches of one length share them.

        Args:
            length: number of positions, at most `max_length`.

        Returns:
            (n_filters, d_model, length), not to be written to.
        """
        if self.training or torch.is_grad_enabled():
            self._forget()
            return self._all(length)
        # Parameters made in inference mode do not count what is written to them.
        if self.bias.is_inference():
            return self._all(length)
        (kernel,) = self._known.find(self, length) or self._known.keep(length, (self._all(length),))
        return kernel

    def spectra(self, length: int) -> tuple[Spectrum, ...]:
        """Filters as the fused long convolution takes them, kept as `forward` keeps its own. Not differentiable.

        Args:
            length: number of positions.

        Returns:
            One spectrum of (d_model, length) kernels for each of n_filters, with the direct terms in them.
        """
        # Triton is there on GPUs only.
        from hyena_dna.ops.fused_mixer import network_spectra
        from hyena_dna.ops.long_conv.monarch import Spectrum, monarch_spectrum

        def make() -> tuple[torch.Tensor, ...]:
            network = self.network(length)
            if network is not None:
                made = network_spectra(network, self.skips)
            else:
                made = tuple(monarch_spectrum(*pair) for pair in zip(self._all(length), self.skips, strict=True))
            return tuple(part for spectrum in made for part in (spectrum.values, spectrum.bound))

        if self.training or self.bias.is_inference():
            parts = make()
        else:
            key = ("spectra", length)
            parts = self._known.find(self, key) or self._known.keep(key, make())
        return tuple(Spectrum(*pair) for pair in zip(parts[::2], parts[1::2], strict=True))

    def network(self, length: int) -> FilterNetwork | None:
        """What the fused kernels make the filters from; None where they do not take such a network.

        With autograd, what `spectra` kept is forgotten, as by `forward`.

        Args:
            length: number of positions, at most `max_length`.
        """
        if self.training or torch.is_grad_enabled():
            self._forget()
        # Triton is there on GPUs only.
        from hyena_dna.ops.fused_filter import FilterNetwork, FilterShape, is_supported

        config = self.config
        if not is_supported(config.filter_order, config.filter_emb_dim, config.modulation_shift):
            return None
        first, *inner, last = (layer for layer in self.implicit_filter.values() if isinstance(layer, nn.Linear))
        sine = self.implicit_filter["1"]
        assert isinstance(sine, Sine)
        weights = [first.weight, first.bias, sine.freq]
        weights += [value for layer in inner for value in (layer.weight, layer.bias)]
        octaves = config.filter_waves == "octaves"
        shape = FilterShape(length, float(config.max_length), config.modulation_shift, octaves)
        return FilterNetwork(shape, *_tables(config, self.bias.device), (*weights, last.weight))

    def _forget(self) -> None:
        # Fused optimisers write to parameters without counting it, so what was kept may be of an earlier step.
        self._known = _KnownFilters()

    def _all(self, length: int) -> torch.Tensor:
        device = self.bias.device
        with torch.autocast(device.type, enabled=False):
            if torch.is_grad_enabled():
                kernel = self._evaluate(0, length)
            else:
                kernel = torch.empty(len(self.bias), length, dtype=self._dtype, device=device)
                position_bytes = (2 * self.config.filter_order + 2 * len(self.bias)) * self._dtype.itemsize
                count = rows_per_chunk(device, position_bytes)
                for start in range(0, length, count):
                    stop = min(start + count, length)
                    kernel[:, start:stop] = self._evaluate(start, stop)
        return kernel.view(self.config.n_filters, self.config.d_model, length)

    @property
    def _dtype(self) -> torch.dtype:
        return torch.promote_types(self.bias.dtype, torch.float32)

    def _evaluate(self, start: int, stop: int) -> torch.Tensor:
        """(n_filters * d_model, stop - start)."""
        config, dtype, device = self.config, self._dtype, self.bias.device
        positions = torch.arange(start, stop, dtype=dtype, device=device)
        *hidden, last = (layer for layer in self.implicit_filter.values() if isinstance(layer, nn.Linear))
        x = positional_features(positions, config)
        for layer in hidden:
            x = self.implicit_filter["1"](F.linear(x, layer.weight.to(dtype), layer.bias.to(dtype)))
        kernel = last.weight.to(dtype) @ x.T
        rates = decay_rates(config, dtype=dtype, device=device)
        window = torch.outer(-rates, _time(positions, config.max_length)).exp_().add_(config.modulation_shift)
        return kernel * window
