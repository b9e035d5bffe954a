"""What each optimiser step consists of: a pure function of the step's index.

A step trains on `batch_tokens` tokens whatever the window length, so that the learning rate means the same at every
stage of a sequence-length warm-up: windows of a quarter of the length come four times as many to a batch.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from hyena_dna.training.config import PretrainConfig

__all__ = ["StepPlan", "StepShape"]

# A framework's loop costs about a millisecond per batch; a batch of this many tokens takes a GPU two hundred.
_GROUP_TOKENS = 1 << 22
_GROUP_STEPS = 32


@dataclass(frozen=True, slots=True)
class StepShape:
    """Shape of one step's batch: `windows` rows of `length` tokens, by all devices together."""

    length: int
    windows: int

    @property
    def tokens(self) -> int:
        """Tokens that the step trains on."""
        return self.length * self.windows


@dataclass(frozen=True, slots=True)
class StepPlan:
    """All steps of a run, as consecutive stages of equal steps.

    Attributes:
        shapes: the shape of a step in each stage.
        ends: the first step after each stage.
    """

    shapes: tuple[StepShape, ...]
    ends: tuple[int, ...]

    @classmethod
    def make(cls, config: PretrainConfig, epoch_tokens: int, *, world_size: int = 1) -> StepPlan:
        """Lay out the steps of a run.

        Args:
            config: the run.
            epoch_tokens: bases of the training segments, which is what one epoch means.
            world_size: devices that share each step; windows per step are rounded to a multiple of it.
        """
        optim = config.optim
        shapes: list[StepShape] = []
        counts: list[int] = []
        for stage in optim.length_warmup:
            shapes.append(_shape(stage.length, optim.batch_tokens, world_size))
            counts.append(math.ceil(stage.tokens / shapes[-1].tokens))
        final = _shape(config.data.window, optim.batch_tokens, world_size)
        amount, unit = optim.length
        if unit == "steps":
            total = math.ceil(amount)
        else:
            tokens = amount if unit == "tokens" else amount * epoch_tokens
            warm = sum(shape.tokens * count for shape, count in zip(shapes, counts, strict=True))
            total = sum(counts) + max(0, math.ceil((tokens - warm) / final.tokens))
        shapes.append(final)
        counts.append(max(0, total - sum(counts)))
        ends: list[int] = []
        for count in counts:
            ends.append(min(total, (ends[-1] if ends else 0) + count))
        return cls(tuple(shapes), tuple(ends))

    @property
    def total_steps(self) -> int:
        """Number of steps of the run."""
        return self.ends[-1]

    @property
    def total_tokens(self) -> int:
        """Number of tokens of the run."""
        return self.tokens_before(self.total_steps)

    def shape(self, step: int) -> StepShape:
        """The shape of the batch of a step (0-based)."""
        return self.shapes[min(bisect_right(self.ends, step), len(self.shapes) - 1)]

    def tokens_before(self, step: int) -> int:
        """Tokens trained on by all steps before `step`."""
        tokens, begin = 0, 0
        for shape, end in zip(self.shapes, self.ends, strict=True):
            tokens += shape.tokens * (min(end, step) - begin)
            begin = min(end, step)
        return tokens

    def groups(self, start: int = 0) -> Iterator[range]:
        """Consecutive steps in groups that hide the cost of a framework's loop, from step `start` on."""
        while start < self.total_steps:
            count = max(1, min(_GROUP_STEPS, _GROUP_TOKENS // self.shape(start).tokens))
            yield range(start, min(start + count, self.total_steps))
            start += count


def _shape(length: int, batch_tokens: int, world_size: int) -> StepShape:
    windows = max(1, round(batch_tokens / length / world_size)) * world_size
    return StepShape(length, windows)
