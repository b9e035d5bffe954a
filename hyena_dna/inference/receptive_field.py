"""How far back a model looks: influence by distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyena_dna.errors import InputError
from hyena_dna.inference.influence import Influence

__all__ = ["ReceptiveField", "by_distance", "receptive_field"]


@dataclass(frozen=True)
class ReceptiveField:
    """Influence on the next base by distance, over the output positions of a map.

    Attributes:
        mean: (length,) mean of |d logit_i / d x_(i - d)| over all rows i >= d, for each distance d in bp; NaN where no
            row is that far in.
        low: (length,) 10th percentile.
        high: (length,) 90th percentile.
        share: (length,) of all influence (sum of `mean`), the share that comes from at most d bp back.
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    share: NDArray[np.float64]

    def distance(self, share: float) -> int:
        """The distance in bp within which this share of the influence lies."""
        return int(np.searchsorted(self.share, share))


def by_distance(rows: NDArray[np.int64], values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Turn a map over input positions into one over distances.

    Args:
        rows: (rows,) output position of each row.
        values: (rows, length) by input position.

    Returns:
        (rows, length): entry [r, d] is values[r, rows[r] - d], NaN where that lies before the sequence.
    """
    places = rows[:, None] - np.arange(values.shape[1])
    found: NDArray[np.float64] = np.take_along_axis(values.astype(np.float64), np.maximum(places, 0), axis=1)
    found[places < 0] = np.nan
    return found


def receptive_field(influence: Influence) -> ReceptiveField:
    """Summarise an influence map by distance.

    Args:
        influence: from `influence_map`.

    Raises:
        InputError: the map is zero everywhere.
    """
    distances = by_distance(influence.rows, influence.map)
    reached = ~np.isnan(distances).all(0)
    mean, low, high = np.full((3, distances.shape[1]), np.nan)
    mean[reached] = np.nanmean(distances[:, reached], axis=0)
    low[reached], high[reached] = np.nanpercentile(distances[:, reached], [10, 90], axis=0)
    total = np.nancumsum(mean)
    if not total[-1] > 0:
        raise InputError("no base influences another: the map is zero everywhere")
    return ReceptiveField(mean, low, high, total / total[-1])
