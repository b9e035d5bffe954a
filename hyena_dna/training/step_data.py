"""The batches of each step: pure functions of the seed and the step, whoever cuts them.

Workers, resumed runs and other ranks all ask for a step by its number and get the same windows, so there is no position
of a sampler to lose and no way for two workers to serve the same sample twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from hyena_dna.datasets.batches import LossWeights, cut_batch
from hyena_dna.datasets.store import TokenStore
from hyena_dna.datasets.windows import WindowBatch, WindowSampler
from hyena_dna.training.engine import TokenBatch
from hyena_dna.training.plan import StepPlan
from hyena_dna.training.signals import reset_in_worker

__all__ = ["HostCutter", "StepData", "StepItem", "WindowCutter", "share_of", "step_loader"]


class WindowCutter(Protocol):
    """Turns drawn windows into token batches, in two halves: `prepare` may run in a worker, `load` may not."""

    def prepare(self, windows: WindowBatch, window: int) -> Any:
        """What travels to the process that trains."""
        ...

    def load(self, prepared: Any, window: int) -> TokenBatch:
        """The batch on the device."""
        ...


class HostCutter:
    """Cuts windows from memory-mapped stores on the CPU."""

    def __init__(self, stores: Sequence[TokenStore], weights: LossWeights, device: torch.device) -> None:
        self._stores = tuple(stores)
        self._weights = weights
        self._device = device
        self._table = torch.from_numpy(weights.table).to(device)

    def prepare(self, windows: WindowBatch, window: int) -> NDArray[np.uint8]:
        """Cut the windows: (3, batch, window) of inputs, targets and loss classes.

        One numpy array of bytes, which travels from a worker through a pipe and needs no shared memory.
        """
        batch = cut_batch(self._stores, windows, window, self._weights)
        return np.stack([batch.input_ids, batch.target_ids, batch.loss_class])

    def load(self, prepared: NDArray[np.uint8], window: int) -> TokenBatch:
        """Move a cut batch to the device and look its weights up there."""
        tensor = torch.from_numpy(prepared)
        if self._device.type == "cuda":
            tensor = tensor.pin_memory().to(self._device, non_blocking=True)
        input_ids, target_ids, loss_class = tensor
        return TokenBatch(input_ids, target_ids, self._table[loss_class.int()])

    def __getstate__(self) -> dict[str, Any]:
        # A worker prepares and never loads; it must not touch the device.
        return {**self.__dict__, "_table": None}


class StepItem(NamedTuple):
    """One step of one device.

    Attributes:
        step: index of the step, 0-based.
        window: length of its windows, in bp.
        passes: what `WindowCutter.prepare` made for each forward pass.
    """

    step: int
    window: int
    passes: list[Any]


def share_of(windows: WindowBatch, rank: int, world_size: int, accumulate: int) -> list[WindowBatch]:
    """The windows of one device, split over the forward passes of a step; never an empty pass."""
    count = len(windows)
    begin, end = rank * count // world_size, (rank + 1) * count // world_size
    passes = min(accumulate, end - begin)
    bounds = [begin + index * (end - begin) // passes for index in range(passes + 1)]
    return [windows[low:high] for low, high in pairwise(bounds)]


class StepData(Dataset[list[StepItem]]):
    """Map-style data set over groups of consecutive steps.

    Args:
        plan: the steps of the run.
        samplers: for every window length of the plan, what draws its windows.
        cutter: cuts them.
        accumulate: forward passes of a step.
        rank: index of this device.
        world_size: devices that share each step.
    """

    def __init__(
        self,
        plan: StepPlan,
        samplers: dict[int, WindowSampler],
        cutter: WindowCutter,
        *,
        accumulate: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._plan = plan
        self._samplers = samplers
        self._cutter = cutter
        self._accumulate = accumulate
        self._rank = rank
        self._world_size = world_size

    def __getitem__(self, steps: range) -> list[StepItem]:
        """Everything that the given steps train on."""
        return [self.item(step) for step in steps]

    def item(self, step: int) -> StepItem:
        """What one step trains on."""
        window = self._plan.shape(step).length
        parts = share_of(self.windows(step), self._rank, self._world_size, self._accumulate)
        return StepItem(step, window, [self._cutter.prepare(part, window) for part in parts])

    def windows(self, step: int) -> WindowBatch:
        """The windows of a step, of all devices."""
        shape = self._plan.shape(step)
        return self._samplers[shape.length].sample(step, shape.windows)


class _Groups(Sampler[range]):
    def __init__(self, plan: StepPlan, start: int) -> None:
        self._groups = list(plan.groups(start))

    def __iter__(self) -> Iterator[range]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)


def step_loader(data: StepData, plan: StepPlan, *, start: int, workers: int) -> DataLoader[list[StepItem]]:
    """A loader over groups of steps, from step `start` on.

    Its own generator keeps the loader from drawing on the global random state when it begins.
    """
    return DataLoader(
        data,
        batch_size=None,
        sampler=_Groups(plan, start),
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=reset_in_worker,
        generator=torch.Generator().manual_seed(0),
        persistent_workers=False,
    )


def _as_it_is(items: list[StepItem]) -> list[StepItem]:
    return items
