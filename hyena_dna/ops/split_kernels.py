"""Triton functions for products in float32 accuracy from tensor cores, with operands as two float16 halves each.

A float32 is the sum of two float16 in 22 bits, down to 3e-8: for operands of about one, products are as good as sums of
float32 are. Of the four products of halves, that of both low ones is below that and left out.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["halves", "split_dot"]


@triton.jit
def halves(x):
    """Two float16 tensors that add up to x."""
    high = x.to(tl.float16)
    return high, (x - high.to(tl.float32)).to(tl.float16)


@triton.jit
def split_dot(ah, al, bh, bl):
    """Product of two matrices, float32, from their halves; the small parts are summed first."""
    return tl.dot(ah, bh, tl.dot(ah, bl, tl.dot(al, bh)))
