"""Transforms between a sequence and a spectrum in which causal convolution is multiplication."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch.fft import fft, ifft, irfft, rfft

from hyena_dna.ops.fft_size import fast_fft_size

__all__ = ["RIGHT_ANGLE_LENGTH", "RealTransform", "RightAngleTransform", "Transform", "choose_transform"]

RIGHT_ANGLE_LENGTH = 120_000
"""Shortest sequence for which the right-angle transform is the faster one on a CPU."""

# MKL plans a transform at every call, which takes as long as to run it on several rows.
_PLANNED_ROWS = 32


class Transform(Protocol):
    """A linear map whose products are causal convolutions: signal(spectrum(u) * spectrum(k)) is u conv k.

    With the conjugate of one factor the result is the correlation at lags from zero up.

    Attributes:
        least_rows: rows of both factors below which the time goes into planning the transform.
        row_bytes: temporary memory of one row while two spectra are multiplied and transformed back.
    """

    least_rows: int
    row_bytes: int

    def spectrum(self, x: torch.Tensor) -> torch.Tensor:
        """(..., length), real -> (..., frequencies), complex, not to be kept apart from its transform."""

    def signal(self, spectrum: torch.Tensor) -> torch.Tensor:
        """(..., frequencies), complex, which may be overwritten -> (..., length), real."""


def choose_transform(length: int, dtype: torch.dtype, device: torch.device) -> Transform:
    """The faster transform of sequences of a length.

    Args:
        length: positions of a sequence.
        dtype: float32 or float64.
        device: where the sequences are.
    """
    if device.type == "cpu" and length >= RIGHT_ANGLE_LENGTH:
        return RightAngleTransform(length, dtype, device)
    return RealTransform(length, dtype)


class RealTransform:
    """Real FFT of a sequence padded with zeros to twice its length, so that nothing wraps around to its beginning."""

    def __init__(self, length: int, dtype: torch.dtype) -> None:
        self._length, self._dtype = length, dtype
        self._size = fast_fft_size(2 * length - 1)
        # Padded input, its spectrum, the inverse transform, and the copy that a complex-to-real transform destroys.
        self.row_bytes = 4 * self._size * dtype.itemsize
        self.least_rows = _PLANNED_ROWS

    def spectrum(self, x: torch.Tensor) -> torch.Tensor:
        """Real FFT of padded rows."""
        padded = torch.empty(*x.shape[:-1], self._size, dtype=self._dtype, device=x.device)
        padded[..., : self._length] = x
        padded[..., self._length :] = 0
        spectrum: torch.Tensor = rfft(padded)
        return spectrum

    def signal(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Inverse real FFT without the padding."""
        signal: torch.Tensor = irfft(spectrum, n=self._size)[..., : self._length]
        return signal


class RightAngleTransform:
    """Complex FFT of the sequence's own length, of the sequence times w^n with w = exp(i pi / (2 size)).

    What wraps around was multiplied by w^size = i once more than what does not, so that after division by w^n it is the
    imaginary part, and the real part is the causal convolution.
    """

    def __init__(self, length: int, dtype: torch.dtype, device: torch.device) -> None:
        self._length = length
        self._size = fast_fft_size(length, power_of_two=False)
        angles = torch.arange(length, dtype=torch.float64, device=device) * (math.pi / (2 * self._size))
        self._carrier = torch.complex(angles.cos().to(dtype), angles.sin().to(dtype))
        # Rotated input, its spectrum, the product's inverse, and the copy that a transform in place makes.
        self.row_bytes = 4 * self._size * self._carrier.itemsize
        self.least_rows = 1

    def spectrum(self, x: torch.Tensor) -> torch.Tensor:
        """FFT of rotated rows."""
        rotated = torch.empty(*x.shape[:-1], self._size, dtype=self._carrier.dtype, device=x.device)
        torch.mul(x, self._carrier, out=rotated[..., : self._length])
        rotated[..., self._length :] = 0
        return _transform_rows(fft, rotated)

    def signal(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Inverse FFT rotated back, real part."""
        rotated = _transform_rows(ifft, spectrum)[..., : self._length]
        return rotated.mul_(self._carrier.conj()).real


def _transform_rows(transform: Callable[..., torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
    """One call for each row: MKL transforms a long one by itself in half the time that it takes as one of several."""
    for row in rows.view(-1, rows.shape[-1]):
        transform(row, out=row)
    return rows
