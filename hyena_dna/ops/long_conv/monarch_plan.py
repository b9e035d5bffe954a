"""How the Monarch convolution splits a transform, and the tables that its kernels read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from hyena_dna.ops.long_conv.dispatch import MONARCH_LENGTH

__all__ = ["MonarchPlan", "monarch_plan"]

# Points that one program holds.
_TILE = 4096


@dataclass(frozen=True)
class MonarchPlan:
    """How a transform of `size` points is split, and its tables on one device.

    Attributes:
        size: points M, a power of two.
        n1: rows of the outer split; 1 where one kernel does it all.
        r1: first radix of a row.
        r2: second radix of a row.
        tile: rows that one program transforms.
        columns: columns that one program of the outer passes transforms.
        split: whether the columns' transform is split once more, into radix 16 twice.
        f1: (2, r1, r1) Fourier matrix; likewise f2 (2, r2, r2), and outer_f of the columns.
        twiddle: (2, r1, r2) of a row; likewise inner of a split column.
        outer_left: (2, n1, r1), float32, and outer_right (2, n1, r2), whose product is the twiddle between columns and
            rows.
        ramp: (2, size) where n1 is 1, else ramp_rows (2, n1) and ramp_columns (2, r1 * r2), whose product it is.
    """

    size: int
    n1: int
    r1: int
    r2: int
    tile: int
    columns: int
    split: bool
    f1: torch.Tensor
    f2: torch.Tensor
    outer_f: torch.Tensor
    twiddle: torch.Tensor
    inner: torch.Tensor
    outer_left: torch.Tensor
    outer_right: torch.Tensor
    ramp: torch.Tensor
    ramp_rows: torch.Tensor
    ramp_columns: torch.Tensor

    @property
    def n2(self) -> int:
        """Points of a row."""
        return self.r1 * self.r2

    @property
    def outer_launch(self) -> dict[str, Any]:
        """Constants of the kernels that work along columns."""
        return {
            "R": self.outer_f.shape[-1], "SPLIT": self.split, "N1": self.n1, "N2": self.n2, "COLUMNS": self.columns,
            "num_stages": 1,
        }  # fmt: skip

    @property
    def row_launch(self) -> dict[str, Any]:
        """Constants of the kernels that work along rows."""
        return {"R1": self.r1, "R2": self.r2, "T": self.tile, "num_stages": 1}

    @property
    def row_tables(self) -> tuple[torch.Tensor, ...]:
        """Tables of the kernels that work along rows."""
        return self.f1, self.f2, self.twiddle, self.outer_left, self.outer_right


def monarch_plan(length: int, device: torch.device) -> MonarchPlan:
    """The plan for sequences of `length` positions, with tables on `device`.

    Raises:
        ValueError: `length` is above `MONARCH_LENGTH`.
    """
    if not 1 <= length <= MONARCH_LENGTH:
        raise ValueError(f"the Monarch convolution takes 1 to {MONARCH_LENGTH:,} positions, not {length:,}")
    return _plan(max(256, 1 << (length - 1).bit_length()), device)


# Sizes are few, and none is ever dropped: a recorded CUDA graph reads the tables by their address.
@cache
def _plan(size: int, device: torch.device) -> MonarchPlan:
    n1 = 1 if size <= _TILE else max(16, size // _TILE)
    n2 = size // n1
    r1 = 1 << ((n2.bit_length() - 1) // 2)
    r2 = n2 // r1
    split = n1 == 256
    radix = 16 if split else n1

    def roots(
        rows: int, columns: int, period: int, *, step: int = 1, norm: float = 1.0, dtype: torch.dtype = torch.float16
    ) -> torch.Tensor:
        # Exponents are reduced in integers: a rounded angle of a million periods would be no angle at all.
        exponent = torch.outer(torch.arange(rows), torch.arange(columns) * step) % period
        angle = exponent.double() * (-2 * math.pi / period)
        return torch.stack([angle.cos(), angle.sin()]).mul_(norm).to(device, dtype)

    def ramp(positions: torch.Tensor) -> torch.Tensor:
        angle = positions.double() * (math.pi / (2 * size))
        return torch.stack([angle.cos(), angle.sin()]).to(device, torch.float32)

    def fourier(radix: int) -> torch.Tensor:
        return roots(radix, radix, radix, norm=radix**-0.5)

    return MonarchPlan(
        size=size,
        n1=n1,
        r1=r1,
        r2=r2,
        tile=min(_TILE // n2, n1) if n1 > 1 else _TILE // n2,
        columns=min(n2, 32 if split else _TILE // n1),
        split=split,
        f1=fourier(r1),
        f2=fourier(r2),
        outer_f=fourier(radix),
        twiddle=roots(r1, r2, n2),
        inner=roots(radix, radix, n1 if split else 1),
        outer_left=roots(n1, r1, size, step=r2, dtype=torch.float32),
        outer_right=roots(n1, r2, size, dtype=torch.float32),
        ramp=ramp(torch.arange(size if n1 == 1 else 1)),
        ramp_rows=ramp(torch.arange(n1) * n2),
        ramp_columns=ramp(torch.arange(n2)),
    )
