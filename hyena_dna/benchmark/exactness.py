"""Is a result right? Convolutions against float64, parts of a model against the same part in float32.

A speed counts only when these hold.
"""

from __future__ import annotations

import torch

from hyena_dna.benchmark.contenders import precision_of
from hyena_dna.benchmark.plain import plain_long_conv
from hyena_dna.benchmark.task import Task, operator_inputs
from hyena_dna.benchmark.workload import Contender, Settings, Workload

__all__ = ["error_limits", "exact_convolution", "largest_errors", "relative_error", "task_results"]

_CHANNELS = 4
_OPERATOR_LIMITS = {"high": 1e-5, "fast": 2e-3, None: 2e-2}
# Models in lower precision differ by the rounding of every layer, not by one convolution.
_MODEL_LIMITS = {True: (1e-3, 1e-2), False: (5e-2, 2e-1)}


def relative_error(value: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative L2 error; not a number where the value is not finite."""
    difference = value.double() - expected.to(value.device).double()
    return float(difference.norm() / expected.double().norm().clamp_min(1e-300))


def error_limits(workload: Workload, contender: Contender, dtype: torch.dtype) -> tuple[float, float]:
    """The largest errors allowed, of outputs and of gradients.

    The convolution is held to its promise; peers that promise nothing, and whole parts of a model, to a bound that
    tells rounding from mistakes.
    """
    if workload.level == "operator":
        limit = _OPERATOR_LIMITS[precision_of(contender)]
        return limit, limit
    return _MODEL_LIMITS[dtype == torch.float32]


def task_results(task: Task) -> dict[str, torch.Tensor]:
    """Results of a task on the host; of a convolution a few channels, spread from slow to fast filters."""
    with task.context():
        found = task.results()
    if task.workload.level == "operator":
        rows = _channels(task.settings.config.d_model)
        found = {name: value[:, rows] if value.dim() == 3 else value[rows] for name, value in found.items()}
    return {name: value.detach().float().cpu() for name, value in found.items()}


def _channels(width: int) -> list[int]:
    return sorted({round(index * (width - 1) / (_CHANNELS - 1)) for index in range(_CHANNELS)})


def exact_convolution(workload: Workload, settings: Settings, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Outputs and gradients in float64, of the channels that `task_results` takes, for inputs rounded to `dtype`."""
    rows = _channels(settings.config.d_model)
    u, kernel, skip, grad = operator_inputs(workload, settings, dtype)
    inputs = [tensor.double().requires_grad_(workload.backward) for tensor in (u[:, rows], kernel[rows], skip[rows])]
    y = plain_long_conv(inputs[0], inputs[1], inputs[2])
    found = {"y": y.detach().cpu()}
    if workload.backward:
        gradients = torch.autograd.grad(y, inputs, grad[:, rows].double())
        found |= {name: g.cpu() for name, g in zip(("d_u", "d_kernel", "d_skip"), gradients, strict=True)}
    return found


def largest_errors(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> tuple[float, float | None]:
    """The largest error of outputs, and of gradients where there are any."""
    errors = {name: relative_error(found[name], value) for name, value in expected.items() if name in found}
    gradients = [error for name, error in errors.items() if name.startswith("d_")]
    # A maximum would lose a NaN.
    worst = torch.tensor(gradients).max().item() if gradients else None
    return errors["y"], worst
