"""How the Monarch convolution splits a transform, and the tables that its kernels read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from hyena_dna.ops.long_conv.dispatch import MONARCH_LENGTH

__all__ = ["MOST_TILE_POINTS", "MonarchPlan", "fragment_order", "monarch_plan"]

MOST_TILE_POINTS = 4096
"""Points that one program holds: longer sequences take several passes."""


@dataclass(frozen=True)
class MonarchPlan:
    """How a transform of `size` points is split, and its tables on one device.

    Frequencies of whole sequences are k - 1/4; the quarter lies in the tables that are marked so.

    Attributes:
        size: points M, a power of two.
        n1: rows of the outer split; 1 where one kernel does it all.
        r1: first radix of a row.
        r2: second radix of a row.
        tile: rows that one program transforms.
        columns: columns that one program of the first pass transforms.
        columns_back: columns that one program of the last pass does.
        split: whether the columns' transform is split once more, into radix 16 twice.
        f1: (2, r1, r1) Fourier matrix, with the quarter where n1 is 1; f2 (2, r2, r2) without.
        there: (2, r1 * tile * r2), the twiddle of `tile` rows as (r1, tile * r2), on the way to the spectrum, in the
            order of `fragment_order`; with the quarter where n1 is 1.
        there_half: likewise of half as many rows, at least one, for kernels that hold two transforms at a time.
        back: likewise of all of them on the way back, as (r1 * tile, r2).
        f_outer: (2, n1, n1) Fourier matrix of the columns, or of the first half of a split one; with the quarter.
        f_inner: (2, 16, 16) Fourier matrix of the second half.
        inner: (2, 16, 16) twiddle of a split column, with the quarter.
        outer_left: (2, n1, r1), float32, and outer_right (2, n1, r2), whose product is the twiddle between columns and
            rows; with the quarter.
    """

    size: int
    n1: int
    r1: int
    r2: int
    tile: int
    columns: int
    columns_back: int
    split: bool
    f1: torch.Tensor
    f2: torch.Tensor
    there: torch.Tensor
    there_half: torch.Tensor
    back: torch.Tensor
    f_outer: torch.Tensor
    f_inner: torch.Tensor
    inner: torch.Tensor
    outer_left: torch.Tensor
    outer_right: torch.Tensor

    @property
    def n2(self) -> int:
        """Points of a row."""
        return self.r1 * self.r2

    @property
    def outer_launch(self) -> dict[str, Any]:
        """Constants of the kernels that work along columns."""
        return {
            "R": self.f_outer.shape[-1], "SPLIT": self.split, "N1": self.n1, "N2": self.n2, "num_stages": 1
        }  # fmt: skip

    @property
    def row_launch(self) -> dict[str, Any]:
        """Constants of the kernels that work along rows."""
        return {"R1": self.r1, "R2": self.r2, "T": self.tile, "num_stages": 1}

    @property
    def outer(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Tables of the twiddle between columns and rows."""
        return self.outer_left, self.outer_right

    @property
    def column_tables(self) -> tuple[torch.Tensor, ...]:
        """Tables of the kernels that work along columns."""
        return self.f_outer, self.f_inner, self.inner


def fragment_order(rows: int, columns: int) -> torch.Tensor:
    """The order in which four warps hold the result of a product: flat indices into (rows, columns).

    A product on Hopper's tensor cores has 64 rows, 16 for each warp. A lane holds two neighbours of a row, and of the
    eighth row below, in every eight columns; in two times eight columns these are eight values, which one instruction
    loads. Products of fewer rows are not made that way, and keep the order they have.

    Args:
        rows: any number; for those of other products than described, indices are in their usual order.
        columns: a multiple of 16.
    """
    index = torch.arange(rows * columns)
    if rows % 64:
        return index
    # (product, warp, half, row of eight), (pair of eights, eight, pair of columns, column)
    return index.view(rows // 64, 4, 2, 8, columns // 16, 2, 4, 2).permute(0, 4, 1, 3, 6, 5, 2, 7).flatten()


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
    n1 = 1 if size <= MOST_TILE_POINTS else max(16, size // MOST_TILE_POINTS)
    n2 = size // n1
    # Products of 64 rows and more are twice as fast: the larger radix first.
    r2 = 1 << ((n2.bit_length() - 1) // 2)
    r1 = n2 // r2
    split = n1 == 256
    radix = 16 if split else n1

    def roots(
        rows: int, columns: int, period: int, *, step: int = 1, quarter: bool = False, norm: float = 1.0,
        dtype: torch.dtype = torch.float16,
    ) -> torch.Tensor:  # fmt: skip
        # Exponents are reduced in integers: a rounded angle of a million periods would be no angle at all.
        frequency = 4 * torch.arange(rows) - int(quarter)
        exponent = torch.outer(frequency, torch.arange(columns) * step) % (4 * period)
        angle = exponent.double() * (-2 * math.pi / (4 * period))
        return torch.stack([angle.cos(), angle.sin()]).mul_(norm).to(device, dtype)

    def fourier(radix: int, *, quarter: bool = False) -> torch.Tensor:
        return roots(radix, radix, radix, quarter=quarter, norm=radix**-0.5)

    tile = min(MOST_TILE_POINTS // n2, n1) if n1 > 1 else MOST_TILE_POINTS // n2
    twiddle = roots(r1, r2, n2, quarter=n1 == 1)

    def twiddles(tile: int, rows: int) -> torch.Tensor:
        repeated = twiddle[:, :, None].expand(2, r1, tile, r2).reshape(2, r1 * tile * r2)
        return repeated[:, fragment_order(rows, r1 * tile * r2 // rows)]

    return MonarchPlan(
        size=size,
        n1=n1,
        r1=r1,
        r2=r2,
        tile=tile,
        columns=min(n2, 32 if split else MOST_TILE_POINTS // n1),
        columns_back=min(n2, 64 if split else MOST_TILE_POINTS // n1),
        split=split,
        f1=fourier(r1, quarter=n1 == 1),
        f2=fourier(r2),
        there=twiddles(tile, r1),
        there_half=twiddles(max(1, tile // 2), r1),
        back=twiddles(tile, r1 * tile),
        f_outer=fourier(radix, quarter=True),
        f_inner=fourier(radix),
        inner=roots(radix, radix, radix * radix, quarter=True),
        outer_left=roots(n1, r1, size, step=r2, quarter=True, dtype=torch.float32),
        outer_right=roots(n1, r2, size, quarter=True, dtype=torch.float32),
    )
