"""How the programs of a kernel share work whose sums are added in one order."""

from __future__ import annotations

__all__ = ["shares"]


def shares(blocks: int, most: int) -> tuple[int, int]:
    """Cut blocks into consecutive shares of one size, of which the last may be short.

    Args:
        blocks: pieces of work, at least 1.
        most: shares there may be.

    Returns:
        Shares, and blocks of one.
    """
    per_share = -(-blocks // most)
    return -(-blocks // per_share), per_share
