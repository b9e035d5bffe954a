"""How time grows with length: fitted exponents, where two curves cross, and what lies beyond the last measurement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

__all__ = ["Exponent", "crossover", "extrapolate", "fit_exponent"]


class Exponent(NamedTuple):
    """t grows as L^value."""

    value: float
    low: float
    """Lower end of the 95 % confidence interval."""
    high: float
    """Upper end."""
    points: int


def fit_exponent(lengths: Sequence[int], times: Sequence[float]) -> Exponent | None:
    """Least-squares slope of log time over log length, with Student's interval; None for fewer than three points."""
    if len(lengths) < 3:
        return None
    fit = stats.linregress(np.log(lengths), np.log(times))
    width = float(stats.t.ppf(0.975, len(lengths) - 2)) * float(fit.stderr)
    return Exponent(float(fit.slope), float(fit.slope) - width, float(fit.slope) + width, len(lengths))


def extrapolate(lengths: Sequence[int], times: Sequence[float], length: int, *, least: float = 1.0) -> float | None:
    """Time at a length beyond the last, along the power law through the last two; None where nothing was measured.

    Args:
        lengths: ascending.
        times: at these.
        length: where.
        least: smallest exponent to go on with: at short lengths a GPU is idle, and time hardly grows.
    """
    if not lengths:
        return None
    slope = least
    if len(lengths) > 1:
        slope = max(least, math.log(times[-1] / times[-2]) / math.log(lengths[-1] / lengths[-2]))
    return float(times[-1] * math.exp(slope * math.log(length / lengths[-1])))


def crossover(lengths: Sequence[int], ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """The length from which on `ours` is faster, by interpolation on logarithms.

    Returns:
        The first length if ours is faster at all of them; infinity if it is not at the last one; None for no lengths.
    """
    if not lengths:
        return None
    ratios = [math.log(own / other) for own, other in zip(ours, theirs, strict=True)]
    if ratios[-1] >= 0:
        return math.inf
    for index in range(len(lengths) - 1, 0, -1):
        if ratios[index - 1] >= 0:
            share = ratios[index - 1] / (ratios[index - 1] - ratios[index])
            low, high = math.log(lengths[index - 1]), math.log(lengths[index])
            return math.exp(low + share * (high - low))
    return float(lengths[0])
