"""Numbers of each step, brought to the host without making a GPU wait."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Readout", "StepNumbers"]

_GPU_INTERVAL = 16


class StepNumbers(NamedTuple):
    """What one optimiser step measured, summed over all devices.

    Attributes:
        step: index of the step, 0-based.
        nll: sum of weighted negative log-likelihoods, in nats.
        weight: sum of loss weights.
        grad_norm: norm of the gradient before clipping.
        stop: above zero when any device has been asked to stop.
    """

    step: int
    nll: float
    weight: float
    grad_norm: float
    stop: float


class _InFlight(NamedTuple):
    steps: list[int]
    host: Tensor
    arrived: torch.cuda.Event


class Readout:
    """Collects device tensors of step numbers and returns them as floats some steps later.

    On a GPU every sixteenth push starts one asynchronous copy to pinned memory and returns what the copy before it
    brought, so the host is never closer than sixteen steps behind the device. On a CPU each push returns at once. When
    numbers come back depends on the count of pushes alone, so all ranks of a distributed run see them at the same step.
    """

    def __init__(self, device: torch.device) -> None:
        self._interval = _GPU_INTERVAL if device.type == "cuda" else 1
        self._pending: list[tuple[int, Tensor]] = []
        self._in_flight: _InFlight | None = None

    def push(self, step: int, numbers: Tensor) -> list[StepNumbers]:
        """Take the numbers of a step, (4,) float64, and return those that have arrived."""
        self._pending.append((step, numbers))
        if len(self._pending) < self._interval:
            return []
        if not numbers.is_cuda:
            return self.drain()
        steps, stacked = self._take()
        host = torch.empty(stacked.shape, dtype=stacked.dtype, pin_memory=True)
        host.copy_(stacked, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record(torch.cuda.current_stream())
        before, self._in_flight = self._in_flight, _InFlight(steps, host, arrived)
        return _land(before)

    def drain(self) -> list[StepNumbers]:
        """Return everything pushed so far; waits for the device."""
        landed = _land(self._in_flight)
        self._in_flight = None
        if self._pending:
            steps, stacked = self._take()
            landed += _unpack(steps, stacked.cpu())
        return landed

    def _take(self) -> tuple[list[int], Tensor]:
        pending, self._pending = self._pending, []
        return [step for step, _ in pending], torch.stack([numbers for _, numbers in pending])


def _land(flight: _InFlight | None) -> list[StepNumbers]:
    if flight is None:
        return []
    flight.arrived.synchronize()
    return _unpack(flight.steps, flight.host)


def _unpack(steps: list[int], host: Tensor) -> list[StepNumbers]:
    return [StepNumbers(step, *row) for step, row in zip(steps, host.tolist(), strict=True)]
