"""What is left to say when a loss is no longer a number."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hyena_dna.errors import RunError
from hyena_dna.files import atomic_open
from hyena_dna.genome.interval import Interval
from hyena_dna.training.readout import StepNumbers
from hyena_dna.training.run_folder import RunFolder

__all__ = ["report_divergence"]

_SHOWN = 3


def report_divergence(numbers: StepNumbers, windows: Sequence[Interval], folder: RunFolder, *, write: bool) -> RunError:
    """The error of a step whose loss or gradient is NaN or infinite, with the windows that it trained on.

    All windows go to `diverged.json` in the run's folder; the error names the first few. Weights of that step are in no
    checkpoint: numbers are judged before a checkpoint is written.

    Args:
        numbers: what the step measured.
        windows: what the step trained on, on all devices.
        folder: of the run.
        write: whether this process writes the file.
    """
    places = [str(window) for window in windows]
    loss = numbers.nll / numbers.weight if numbers.weight else float("nan")
    if write:
        with atomic_open(folder.diverged, "w") as handle:
            # As text: JSON has no NaN.
            record = {"step": numbers.step + 1, "loss": str(loss), "grad_norm": str(numbers.grad_norm)}
            json.dump({**record, "windows": places}, handle, indent=1)
    shown = ", ".join(places[:_SHOWN]) + (f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else "")
    return RunError(
        f"{folder.path}: step {numbers.step + 1} diverged: loss {loss}, gradient norm {numbers.grad_norm}; windows "
        f"{shown}, listed in {folder.diverged.name}; the last checkpoint is good (lower optim.lr, or use bf16 or fp32)"
    )
