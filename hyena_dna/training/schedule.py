"""The learning rate of each step."""

from __future__ import annotations

import math
from typing import Literal, Protocol

__all__ = ["Schedule", "lr_scale"]


class Schedule(Protocol):
    """What decides the learning rate of each step."""

    @property
    def schedule(self) -> Literal["cosine", "constant"]:
        """Course after the warm-up."""

    @property
    def warmup_fraction(self) -> float:
        """Share of the steps with a rising rate."""

    @property
    def min_lr_ratio(self) -> float:
        """Last rate as a share of the peak."""


def lr_scale(step: int, total_steps: int, config: Schedule) -> float:
    """The learning rate of a step (0-based) as a share of the peak.

    It rises linearly over the first `warmup_fraction` of the steps, so that the step after them is the first at the
    peak, then follows half a cosine down to `min_lr_ratio` at the last step, or stays constant.
    """
    warmup = math.ceil(config.warmup_fraction * total_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(1, total_steps - 1 - warmup)
    return config.min_lr_ratio + (1 - config.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
