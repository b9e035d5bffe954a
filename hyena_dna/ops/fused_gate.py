"""Short convolutions and gates of projected channels in float32, without autograd: what scoring variants needs.

The definitions that these are tested against are `hyena_dna.ops.short_conv` and products in PyTorch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton

from hyena_dna.ops.change_kernels import gate_columns

__all__ = ["Projection", "ReferenceCut", "fused_change", "fused_gate"]

_BLOCK = 1024


class Projection(NamedTuple):
    """A group of channels after a linear layer without its bias, and the short filter that they pass."""

    values: torch.Tensor
    """(batch, channels, positions), float32, adjacent along positions."""

    in_bias: torch.Tensor
    """(channels,), bias of the linear layer."""

    taps: torch.Tensor
    """(channels, taps), contiguous."""

    bias: torch.Tensor
    """(channels,), bias of the short filter."""


class ReferenceCut(NamedTuple):
    """Where the rows of a batch lie in what is kept of reference windows; each entry is that of `alleles` rows."""

    window: torch.Tensor
    """(batch / alleles,) int64, contiguous as the next two are, which window."""

    start: torch.Tensor
    """(batch / alleles,) int64, the kept position at which the scored ones begin."""

    outside: torch.Tensor
    """(batch / alleles,) int64, how many of the first positions of a projection lie before the window."""

    alleles: int


def fused_gate(a: Projection, b: Projection | torch.Tensor | None) -> torch.Tensor:
    """short(a), the short convolution of a projection, times short(b) or times values.

    Args:
        a: a projection.
        b: another one; or (batch, channels, positions) values, adjacent along positions; or None.

    Returns:
        (batch, channels, positions), float32, contiguous.
    """
    return _launch(a, b, torch.empty_like(a.values, memory_format=torch.contiguous_format))


def fused_change(
    a: Projection,
    b: Projection | torch.Tensor | None,
    cut: ReferenceCut,
    out: torch.Tensor,
    *,
    result: torch.Tensor | None = None,
    source: torch.Tensor | None = None,
) -> torch.Tensor:
    """`fused_gate` at the scored positions of alternative alleles, or its difference to that of their reference.

    Args:
        a: a projection, whose last `columns` positions are the scored ones; those before are the past of the filter.
        b: another one; or (batch, channels, columns), adjacent along columns, what changes in the output of a long
            convolution, `result` being that of the reference; or None.
        cut: where the scored positions lie in `result` and `source`.
        out: (batch, channels, columns), float32, adjacent along columns, where to write.
        result: (windows, channels, kept), contiguous.
        source: (windows, channels, kept), contiguous, the product of the reference, to be subtracted.

    Returns:
        `out`: short(a), times short(b) or times (b + result), minus `source` where there is one.

    Raises:
        ValueError: `result` is missing where `b` is a change, or given where it is not.
    """
    if isinstance(b, torch.Tensor) != (result is not None):
        raise ValueError("a change needs the result that it changes, and nothing else does")
    return _launch(a, b, out, cut, result, source)


def _launch(
    a: Projection,
    b: Projection | torch.Tensor | None,
    y: torch.Tensor,
    cut: ReferenceCut | None = None,
    result: torch.Tensor | None = None,
    source: torch.Tensor | None = None,
) -> torch.Tensor:
    if isinstance(b, Projection):
        other, kind = b, "projection"
    elif b is None:
        other, kind = a, "none"
    else:
        other, kind = a._replace(values=b), "values" if result is None else "change"
    batch, channels, columns = y.shape
    reference = result if source is None else source
    kept = 0 if reference is None else reference.shape[-1]
    for x in (result, source):
        assert x is None or (x.shape[1:] == (channels, kept) and x.is_contiguous())
    assert all(x.stride(-1) == 1 or x.shape[-1] == 1 for x in (a.values, other.values, y))
    window, start, outside, alleles = (None, None, None, 1) if cut is None else cut
    assert all(x is None or x.is_contiguous() for x in (window, start, outside))
    block = min(_BLOCK, triton.next_power_of_2(columns))
    gate_columns[(batch * channels * triton.cdiv(columns, block),)](
        a.values, other.values, a.in_bias, a.taps, a.bias, other.in_bias, other.taps, other.bias, result, source,
        window, start, outside, y, channels, a.values.shape[-1], columns, kept, alleles,
        *a.values.stride()[:2], *other.values.stride()[:2], *y.stride()[:2], TAPS=a.taps.shape[1], B_IS=kind,
        SUBTRACT=source is not None, HAS_CUT=cut is not None, BLOCK=block,
    )  # fmt: skip
    return y
