"""The beginnings of a model's long filters, in the two forms that convolving a short stretch needs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch.fft import irfft, rfft

from hyena_dna.model.block import Block
from hyena_dna.model.model import HyenaDNA
from hyena_dna.model.operator import HyenaOperator
from hyena_dna.ops.fft_size import fast_fft_size

__all__ = ["LocalFilters", "operators"]

_KEPT_BYTES = {"cpu": 256 << 20, "cuda": 4 << 30}


def operators(model: HyenaDNA) -> list[HyenaOperator]:
    """The mixers of a model of Hyena operators, in order."""
    found = []
    for block in model.backbone.layers:
        assert isinstance(block, Block)
        assert isinstance(block.mixer, HyenaOperator)
        found.append(block.mixer)
    return found


class LocalFilters:
    """Convolves stretches of T positions with the first T taps of a model's filters, skip terms included.

    A causal convolution of a signal that is zero before a position p gives, up to p + T, what the first T taps give of
    its first T values. Spectra are computed once for every layer and T, and the least recently used are dropped.

    Args:
        model: its weights must not change while this is in use.
    """

    def __init__(self, model: HyenaDNA) -> None:
        self._operators = operators(model)
        self._made: OrderedDict[tuple[str, int, int, int], torch.Tensor] = OrderedDict()
        self._room: torch.Tensor | None = None
        self._room_length = 0
        device = model.lm_head.weight.device
        self._limit = _KEPT_BYTES.get(device.type, _KEPT_BYTES["cuda"])

    def padded(self, z: torch.Tensor) -> torch.Tensor:
        """Room for the input of `convolve`, zero from T on; the same room every time for one shape.

        Writing the input here in the first place saves the transform a padded copy.

        Args:
            z: (batch, d_model, T), of which only shape and type are used.

        Returns:
            (batch, d_model, size) with the size of the transform; what lies before T is anything.
        """
        shape = (*z.shape[:-1], fast_fft_size(2 * z.shape[-1] - 1))
        if self._room is None or self._room.shape != shape or self._room_length != z.shape[-1]:
            self._room, self._room_length = z.new_zeros(shape), z.shape[-1]
        return self._room

    def convolve(self, layer: int, index: int, padded: torch.Tensor, length: int) -> torch.Tensor:
        """Convolve with one filter of a layer.

        Args:
            layer: the layer.
            index: the filter.
            padded: (batch, d_model, size) as `padded` gives it.
            length: positions T that count.

        Returns:
            (batch, d_model, T), a part of a larger tensor.
        """
        size = padded.shape[-1]

        def make() -> torch.Tensor:
            # A skip term is one more tap at distance 0, and so a constant in the spectrum. The scale of the inverse
            # transform, a pass of its own over a GPU's memory, is in here as well.
            spectrum: torch.Tensor = rfft(self._taps(layer, length), n=size, norm="forward")
            return spectrum

        spectrum = self._keep(("spectrum", layer, length, size), make)[index]
        whole: torch.Tensor = irfft(rfft(padded).mul_(spectrum), n=size, norm="forward")
        return whole[..., :length]

    def spread(self, layer: int, index: int, z: torch.Tensor, length: int) -> torch.Tensor:
        """Convolve a few values: (batch, d_model, width), zero from there on -> (batch, d_model, length).

        A product of small matrices, (batch, width) by (width, length) for every channel, in place of transforms.
        """
        width = z.shape[-1]

        def make() -> torch.Tensor:
            taps = self._taps(layer, length)
            rows = [torch.nn.functional.pad(taps, (shift, 0))[..., :length] for shift in range(width)]
            return torch.stack(rows, dim=-2)  # (n_filters, d_model, width, length)

        matrices = self._keep(("matrix", layer, length, width), make)[index]
        return torch.bmm(z.transpose(0, 1), matrices).transpose(0, 1)

    def _taps(self, layer: int, length: int) -> torch.Tensor:
        """(n_filters, d_model, length)."""
        operator = self._operators[layer]
        # The model keeps its filters for the next forward pass; the skip term goes into a copy.
        taps: torch.Tensor = operator.filter_fn(length).clone()
        taps[..., 0] += operator.filter_fn.skips
        return taps

    def _keep(self, key: tuple[str, int, int, int], make: Callable[[], torch.Tensor]) -> torch.Tensor:
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = make()
            while len(self._made) > 1 and sum(tensor.nbytes for tensor in self._made.values()) > self._limit:
                self._made.popitem(last=False)
        else:
            self._made.move_to_end(key)
        return made
