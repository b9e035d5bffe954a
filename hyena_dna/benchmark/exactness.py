"""Is a result right? Convolutions against float64, parts of a model against the same part in float32.

A speed counts only when these hold.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from hyena_dna.benchmark.contenders import precision_of
from hyena_dna.benchmark.task import Task, build_task, operator_inputs
from hyena_dna.benchmark.workload import Contender, Settings, Workload
from hyena_dna.ops.long_conv.plain import plain_long_conv

__all__ = ["References", "error_limits", "exact_convolution", "largest_errors", "relative_error", "task_results"]

_Results = dict[str, torch.Tensor]

_CHANNELS = 4
# Numbers that are compared at a time: in float64 all at once would need several times the memory of what they came in.
_CHUNK = 1 << 24
_OPERATOR_LIMITS = {"high": 1e-5, "fast": 2e-3, None: 2e-2}
# Models in lower precision differ by the rounding of every layer, not by one convolution.
_MODEL_LIMITS = {True: (1e-3, 1e-2), False: (5e-2, 2e-1)}


def relative_error(value: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative L2 error in float64, computed where `value` is; not finite where a value is not.

    Args:
        value: any shape and floating dtype.
        expected: of the same shape, on any device.
    """
    assert value.shape == expected.shape, f"{tuple(value.shape)} against {tuple(expected.shape)}"
    difference, whole = torch.zeros(2, dtype=torch.float64, device=value.device)
    for found, right in zip(*(torch.split(one.flatten(), _CHUNK) for one in (value, expected)), strict=True):
        exact = right.to(value.device).double()
        whole = torch.hypot(whole, exact.norm())
        difference = torch.hypot(difference, (found.double() - exact).norm())
    return float(difference / whole.clamp_min(1e-300))


def error_limits(workload: Workload, contender: Contender, dtype: torch.dtype) -> tuple[float, float]:
    """The largest errors allowed, of outputs and of gradients.

    The convolution is held to its promise; peers that promise nothing, and whole parts of a model, to a bound that
    tells rounding from mistakes.
    """
    if workload.level == "operator":
        limit = _OPERATOR_LIMITS[precision_of(contender)]
        return limit, limit
    return _MODEL_LIMITS[dtype == torch.float32]


def task_results(task: Task) -> _Results:
    """Results of a task; of a convolution a few channels, spread from slow to fast filters."""
    with task.context():
        found = task.results()
    if task.workload.level == "operator":
        rows = _channels(task.settings.config.d_model)
        found = {name: value[:, rows] if value.dim() == 3 else value[rows] for name, value in found.items()}
    return {name: value.detach() for name, value in found.items()}


def _channels(width: int) -> list[int]:
    return sorted({round(index * (width - 1) / (_CHANNELS - 1)) for index in range(_CHANNELS)})


def exact_convolution(workload: Workload, settings: Settings, dtype: torch.dtype) -> _Results:
    """Outputs and gradients in float64, of the channels that `task_results` takes, for inputs rounded to `dtype`."""
    rows = _channels(settings.config.d_model)
    u, kernel, skip, grad = operator_inputs(workload, settings, dtype)
    inputs = [tensor.double().requires_grad_(workload.backward) for tensor in (u[:, rows], kernel[rows], skip[rows])]
    y = plain_long_conv(inputs[0], inputs[1], inputs[2])
    found = {"y": y.detach()}
    if workload.backward:
        gradients = torch.autograd.grad(y, inputs, grad[:, rows].double())
        found |= dict(zip(("d_u", "d_kernel", "d_skip"), gradients, strict=True))
    return found


class References:
    """What is right at one workload after the other, computed once for all contenders.

    Results are kept on the host, so that contenders are checked and timed with all of the device's memory.
    """

    def __init__(self) -> None:
        self._convolutions: dict[tuple[Workload, Settings, torch.dtype], _Results] = {}
        self._parts: dict[tuple[Workload, Settings, Contender], _Results | None] = {}

    def convolution(self, workload: Workload, settings: Settings, dtype: torch.dtype) -> _Results:
        """`exact_convolution`."""
        key = workload, settings, dtype
        if key not in self._convolutions:
            self._convolutions[key] = _on_host(exact_convolution(workload, settings, dtype))
        return self._convolutions[key]

    def part(self, workload: Workload, settings: Settings, contender: Contender) -> _Results | None:
        """A part of a model as a contender computes it in float32; None where that does not fit into memory."""
        key = workload, settings, contender
        if key not in self._parts:
            # Peers follow the precision of the run, which may be lower than that of what they are compared with.
            single = replace(settings, precision="fp32")
            try:
                self._parts[key] = _on_host(task_results(build_task(workload, contender, single)))
            except torch.OutOfMemoryError:
                self._parts[key] = None
        return self._parts[key]

    def forget(self) -> None:
        """Drop all results."""
        self._convolutions.clear()
        self._parts.clear()


def _on_host(results: _Results) -> _Results:
    return {name: value.cpu() for name, value in results.items()}


def largest_errors(found: _Results, expected: _Results) -> tuple[float, float | None]:
    """The largest error of outputs, and of gradients where there are any."""
    errors = {name: relative_error(found[name], value) for name, value in expected.items() if name in found}
    gradients = [error for name, error in errors.items() if name.startswith("d_")]
    # A maximum would lose a NaN.
    worst = torch.tensor(gradients).max().item() if gradients else None
    return errors["y"], worst
