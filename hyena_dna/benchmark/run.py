"""A whole benchmark: every workload, every contender, within a time."""

from __future__ import annotations

import gc
import logging
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch

from hyena_dna.benchmark.contenders import Unsupported, chosen_implementation, dtype_of, used
from hyena_dna.benchmark.exactness import References, error_limits, largest_errors, task_results
from hyena_dna.benchmark.floor import Machine, floor
from hyena_dna.benchmark.scaling import extrapolate
from hyena_dna.benchmark.task import Task, build_task
from hyena_dna.benchmark.timing import OutOfMemory, Timing, TooSlow, probe, time_together
from hyena_dna.benchmark.workload import Contender, Settings, Workload

__all__ = ["Benchmark", "Cell", "Limits", "Status"]

_log = logging.getLogger("hyena_dna")

Status = Literal["ok", "wrong", "OOM", "unsupported", "extrapolated", "slow", "budget"]

_REFERENCE = Contender("high", recompute=True)
_PLAIN_REFERENCE = Contender("plain", recompute=True)
_PLAIN_LENGTH = 32_768
_CHECKED_CHANNELS = 16


@dataclass(frozen=True)
class Limits:
    """What a run may take, in seconds: one cell, and all of them."""

    cell: float
    budget: float


@dataclass(frozen=True)
class Cell:
    """One contender at one workload.

    Attributes:
        workload: what was done.
        contender: who did it.
        status: `ok`; `wrong`, the speed is refused because a result is; `OOM`; `unsupported`; `extrapolated` from
            shorter lengths; `slow`, stopped; `budget`, not run.
        used: what ran: tier of operators, implementation of the long convolution.
        timing: milliseconds; of an extrapolated cell the median alone means something.
        tokens_per_second: at the median.
        peak_bytes: highest memory.
        floor_seconds: least time of the Hyena model on this machine; None for attention.
        error: relative L2 error of the output, of the long convolution against float64.
        gradient_error: the largest of the gradients'.
        convolution_error: of this contender's long convolution alone, outputs and gradients, where a part of a model
            was timed.
        note: why, where something is not as wanted.
    """

    workload: Workload
    contender: Contender
    status: Status
    used: str = ""
    timing: Timing | None = None
    peak_bytes: int | None = None
    floor_seconds: float | None = None
    error: float | None = None
    gradient_error: float | None = None
    convolution_error: float | None = None
    note: str = ""

    @property
    def median(self) -> float | None:
        """Milliseconds, measured or extrapolated."""
        return None if self.timing is None else self.timing.median

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens per second at the median."""
        return None if self.timing is None else self.workload.tokens / self.timing.median * 1e3

    @property
    def floor_share(self) -> float | None:
        """Least time divided by the time taken."""
        if self.timing is None or self.floor_seconds is None:
            return None
        return self.floor_seconds / self.timing.median * 1e3

    def to_dict(self) -> dict[str, Any]:
        """For JSON; figures that do not exist are null."""
        return {
            "level": self.workload.level,
            "backward": self.workload.backward,
            "sweep": self.workload.sweep,
            "length": self.workload.length,
            "batch": self.workload.batch,
            "contender": self.contender.name,
            "status": self.status,
            "used": self.used,
            "ms": None if self.timing is None else asdict(self.timing),
            "tokens_per_second": self.tokens_per_second,
            "peak_bytes": self.peak_bytes,
            "floor_ms": None if self.floor_seconds is None else self.floor_seconds * 1e3,
            "floor_share": self.floor_share,
            "error": _finite(self.error),
            "gradient_error": _finite(self.gradient_error),
            "convolution_error": _finite(self.convolution_error),
            "note": self.note,
        }


def _finite(value: float | None) -> float | str | None:
    # JSON has no NaN.
    return value if value is None or math.isfinite(value) else str(value)


_Series = tuple[str, bool, str, str]


class Benchmark:
    """Runs workloads in order and yields the cells of each.

    Args:
        workloads: what to do, shorter lengths of a sweep first.
        contenders: who does it.
        settings: of the run.
        limits: seconds.
        machine: for the floors.
    """

    def __init__(
        self,
        workloads: Sequence[Workload],
        contenders: Sequence[Contender],
        settings: Settings,
        limits: Limits,
        machine: Machine,
    ) -> None:
        self._workloads, self._contenders = workloads, contenders
        self._settings, self._limits, self._machine = settings, limits, machine
        self._device = torch.device(settings.device)
        self._measured: dict[_Series, list[tuple[int, float]]] = defaultdict(list)
        self._ended: dict[_Series, Status] = {}
        self._references = References()
        self._convolutions: dict[tuple[str, int, bool], tuple[float, str]] = {}

    def cells(self) -> Iterator[list[Cell]]:
        """The cells of one workload after the other."""
        began = time.perf_counter()
        torch.set_num_threads(self._settings.threads)
        for workload in self._workloads:
            left = self._limits.budget - (time.perf_counter() - began)
            cells = [self._first(workload, contender, left) for contender in self._contenders]
            waiting = [index for index, cell in enumerate(cells) if cell.status == "ok"]
            # On a CPU contenders run in turn, since other programs disturb; on a GPU alone, since memory is short.
            groups = [waiting] if self._device.type == "cpu" else [[index] for index in waiting]
            for group in groups:
                for index, cell in zip(group, self._measure([cells[i] for i in group]), strict=True):
                    cells[index] = cell
            self._references.forget()
            for cell in cells:
                if cell.status == "ok" and cell.median is not None:
                    self._measured[_series(cell.workload, cell.contender)].append((workload.length, cell.median / 1e3))
            yield cells

    def _first(self, workload: Workload, contender: Contender, left: float) -> Cell:
        """A cell with its memory and a first estimate of its time (in `timing`), or why it is not to be timed."""
        series = _series(workload, contender)
        cell = Cell(workload, contender, "ok", used=used(contender, workload, self._settings))
        before = self._measured[series]
        lengths, times = [length for length, _ in before], [seconds for _, seconds in before]
        expected = extrapolate(lengths, times, workload.length, least=_least_exponent(workload))
        if series in self._ended:
            return replace(cell, status=self._ended[series], note="as at a shorter length")
        if expected is not None and expected > self._limits.cell:
            ms = expected * 1e3
            note = f"from {', '.join(f'{length:,}' for length in lengths[-2:])}"
            return replace(cell, status="extrapolated", timing=Timing(ms, ms, ms, ms, 0), note=note)
        if left <= 0 or (expected is not None and 3 * expected > left):
            return replace(cell, status="budget", note="the time of the run was over")
        try:
            found = probe(workload, contender, self._settings, seconds=self._limits.cell)
        except Unsupported as error:
            return replace(cell, status="unsupported", note=str(error))
        except OutOfMemory:
            if workload.sweep == "batch-1":
                self._ended[series] = "OOM"
            return replace(cell, status="OOM")
        except TooSlow as error:
            self._ended[series] = "slow"
            return replace(cell, status="slow", note=f"stopped after {error.args[0]:.0f} s")
        ms = found.seconds * 1e3
        return replace(
            cell, timing=Timing(ms, ms, ms, ms, 1), peak_bytes=found.peak_bytes, floor_seconds=self._floor(cell)
        )

    def _floor(self, cell: Cell) -> float | None:
        if cell.contender.base == "transformer" or self._settings.config.order != 2:
            return None
        least = floor(
            cell.workload,
            self._settings.config,
            value_bytes=dtype_of(cell.contender, self._settings).itemsize,
            tensor_cores=self._device.type == "cuda",
        )
        return least.seconds(self._machine)

    def _measure(self, cells: list[Cell]) -> list[Cell]:
        """Check, then time; cells that fail the check lose their time."""
        pairs = [self._checked(cell) for cell in cells]
        checked = [cell for cell, _ in pairs]
        tasks = [task for _, task in pairs if task is not None]
        if tasks:
            estimates = [(cell.median or 0.0) / 1e3 for cell in checked if cell.status == "ok"]
            try:
                timed = iter(time_together(tasks, estimates, seconds=self._limits.cell))
                checked = [replace(c, timing=next(timed)) if c.status == "ok" else c for c in checked]
            except torch.OutOfMemoryError:
                # Whose memory it was cannot be told; where memory is short, a group is one cell.
                note = "while it was timed"
                checked = [replace(c, status="OOM", timing=None, note=note) if c.status == "ok" else c for c in checked]
        del pairs, tasks
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return checked

    def _checked(self, cell: Cell) -> tuple[Cell, Task | None]:
        """A cell with its errors and its task, or why it is not to be timed and None."""
        try:
            return self._check(cell)
        except Unsupported as error:
            return replace(cell, status="unsupported", timing=None, note=str(error)), None
        except torch.OutOfMemoryError:
            return replace(cell, status="OOM", timing=None, note="in the check of its results"), None

    def _check(self, cell: Cell) -> tuple[Cell, Task | None]:
        """The cell with its errors, and its task where these are small enough."""
        workload, contender, settings = cell.workload, cell.contender, self._settings
        dtype = dtype_of(contender, settings)
        expected = None
        # What is right comes before the task, which would take memory from it.
        if workload.level == "operator":
            expected = self._references.convolution(workload, settings, dtype)
        elif contender.base != "transformer":
            error, wrong = self._convolution(contender, workload)
            cell = replace(cell, convolution_error=error)
            if wrong:
                return replace(cell, status="wrong", timing=None, note=wrong), None
            reference = _reference(workload, contender)
            if reference is not None:
                expected = self._references.part(workload, settings, reference)
                if expected is None:
                    cell = replace(cell, note="not compared: the reference does not fit into memory")
        task = build_task(workload, contender, settings)
        if expected is None:
            return cell, task
        error, gradient = largest_errors(task_results(task), expected)
        cell = replace(cell, error=error, gradient_error=gradient)
        wrong = _verdict(error, gradient, error_limits(workload, contender, dtype))
        return (replace(cell, status="wrong", timing=None, note=wrong), None) if wrong else (cell, task)

    def _convolution(self, contender: Contender, workload: Workload) -> tuple[float, str]:
        """Largest error of a contender's long convolution at a length, and what is wrong with it, if anything is."""
        # Options change what is around the convolution.
        key = (contender.base, workload.length, workload.backward)
        if key not in self._convolutions:
            part = Workload("operator", workload.backward, "batch-1", workload.length, 1)
            width = self._settings.config.d_model if self._device.type == "cuda" else _CHECKED_CHANNELS
            config = self._settings.config.model_copy(update={"d_model": width})
            settings = replace(self._settings, config=config)
            if contender.base == "fast":
                # What mixers use, whatever a convolution of this size would for itself.
                contender = replace(contender, base=chosen_implementation(contender, workload, self._settings))
            dtype = dtype_of(contender, settings)
            expected = self._references.convolution(part, settings, dtype)
            error, gradient = largest_errors(task_results(build_task(part, contender, settings)), expected)
            wrong = _verdict(error, gradient, error_limits(part, contender, dtype))
            worst = error if gradient is None else max(error, gradient)
            self._convolutions[key] = worst, f"long convolution: {wrong}" if wrong else ""
        return self._convolutions[key]


def _reference(workload: Workload, contender: Contender) -> Contender | None:
    """What a part of a Hyena model is compared with; None where there is nothing."""
    if contender.base != "high":
        return _REFERENCE
    return _PLAIN_REFERENCE if workload.length <= _PLAIN_LENGTH else None


def _least_exponent(workload: Workload) -> float:
    """The least that time grows by with length, as a power: attention over short sequences is a small part of it."""
    return 1.0 if workload.sweep == "batch-1" else 0.0


def _series(workload: Workload, contender: Contender) -> _Series:
    return workload.level, workload.backward, workload.sweep, contender.name


def _verdict(error: float, gradient: float | None, limits: tuple[float, float]) -> str:
    """What is wrong, or nothing."""
    # Written so that NaN fails.
    if not error <= limits[0]:
        return f"refused: relative error {error:.1e} is above {limits[0]:.0e}"
    if gradient is not None and not gradient <= limits[1]:
        return f"refused: relative error of gradients {gradient:.1e} is above {limits[1]:.0e}"
    return ""
