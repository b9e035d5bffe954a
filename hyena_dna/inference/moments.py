"""Second moments of hidden states over the positions of a record: what a mean over positions averages away.

A motif moves some channels, together, at a few positions. The mean of a channel hardly shows that; its standard
deviation does, and the covariance of two channels shows that they moved together. Covariances of all pairs would be
too many numbers, so they are taken of a few fixed random directions (bilinear pooling with a random projection, as in
Gao et al. 2016, "Compact bilinear pooling").
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["combine_moments", "directions", "moment_width", "piece_moments"]

_SEED = 0


def directions(channels: int, count: int) -> NDArray[np.float32]:
    """Fixed random directions in channel space, the same on every machine.

    Returns:
        (channels, count), every entry 1 / sqrt(channels) or its negative.
    """
    signs = np.random.Generator(np.random.Philox(_SEED)).integers(0, 2, (channels, count))
    scaled: NDArray[np.float32] = ((2 * signs - 1) / np.sqrt(channels)).astype(np.float32)
    return scaled


def moment_width(channels: int, count: int) -> int:
    """Numbers of a record: means, standard deviations, and covariances of `count` directions."""
    return 2 * channels + count * (count + 1) // 2


def piece_moments(hidden: torch.Tensor, inside: torch.Tensor, count: int, layers: int) -> torch.Tensor:
    """Sums over the positions of each piece, and sums of products of deviations from the mean of the piece.

    Deviations, because the difference of large squares would lose small spreads to rounding.

    Args:
        hidden: (pieces, length, channels), float32; several layers side by side.
        inside: (pieces, length), which positions belong to the piece.
        count: directions; each layer is normalised at each position before it is projected.
        layers: number of layers in the channels.

    Returns:
        (pieces, 2 * channels) for no directions; else with `count` sums and their products, upper triangle, behind.
    """
    weights = inside[:, None].to(hidden.dtype)
    size = weights.sum(2).clamp(min=1)
    sums = torch.bmm(weights, hidden)[:, 0]
    deviations = hidden - (sums / size)[:, None]
    parts = [sums, torch.bmm(weights, deviations.square())[:, 0]]
    if count:
        split = hidden.view(*hidden.shape[:-1], layers, -1)
        normal = torch.nn.functional.layer_norm(split, split.shape[-1:]).flatten(-2)
        projected = normal @ torch.from_numpy(directions(hidden.shape[-1], count)).to(hidden.device)
        totals = torch.bmm(weights, projected)[:, 0]
        projected = (projected - (totals / size)[:, None]) * inside[..., None]
        row, column = torch.triu_indices(count, count, device=hidden.device)
        parts += [totals, torch.bmm(projected.transpose(1, 2), projected)[:, row, column]]
    return torch.cat(parts, 1)


def combine_moments(
    values: NDArray[np.float32], sizes: NDArray[np.int64], begins: NDArray[np.int64], count: int
) -> NDArray[np.float32]:
    """Moments of records from those of their pieces (Chan, Golub and LeVeque 1983).

    Args:
        values: (pieces, ...), from `piece_moments`, the pieces of a record one after the other.
        sizes: (pieces,) positions of each.
        begins: (records,) first piece of each.
        count: directions.

    Returns:
        (records, `moment_width`): means, standard deviations, covariances.
    """
    channels = (values.shape[1] - count - count * (count + 1) // 2) // 2 if count else values.shape[1] // 2
    parts = values.astype(np.float64)
    total = np.add.reduceat(parts, begins, axis=0)
    number = np.add.reduceat(sizes, begins)[:, None].astype(np.float64)
    several = len(begins) < len(values)

    def second(
        within: NDArray[np.float64], sums: slice, row: NDArray[np.int64], column: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        if several:
            # What lies between the means of the pieces.
            piece, whole = parts[:, sums], total[:, sums]
            within = within + np.add.reduceat(piece[:, row] * piece[:, column] / sizes[:, None], begins, axis=0)
            within -= whole[:, row] * whole[:, column] / number
        return within / number

    each = np.arange(channels)
    variance = second(total[:, channels : 2 * channels], slice(0, channels), each, each)
    found = [total[:, :channels] / number, np.sqrt(np.maximum(variance, 0))]
    if count:
        row, column = np.triu_indices(count)
        sums = slice(2 * channels, 2 * channels + count)
        found.append(second(total[:, sums.stop :], sums, row, column))
    return np.concatenate(found, axis=1).astype(np.float32)
