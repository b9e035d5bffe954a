"""How long a task takes and how much memory it needs."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np
import torch

from hyena_dna.benchmark.contenders import Unsupported
from hyena_dna.benchmark.task import Task, build_task
from hyena_dna.benchmark.workload import Contender, Settings, Workload

__all__ = ["OutOfMemory", "Probe", "Timing", "TooSlow", "probe", "time_together"]

_WARM_UP, _MOST_WARM_UP_SECONDS = 10, 1.0
# On a GPU the first iteration compiles kernels and records them, and the second is the first of its kind.
_LEAST_WARM_UP = 2
_ITERATIONS, _SECONDS = 20, 3.0
_CPU_ITERATIONS = 5
_FLUSH_BYTES = 256 << 20


class OutOfMemory(Exception):
    """A cell needs more memory than there is."""


class TooSlow(Exception):
    """One iteration takes longer than a cell may; the first argument says how many seconds it was given."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds of single iterations.

    Attributes:
        median: half are faster.
        p10: a tenth are faster.
        p90: a tenth are slower.
        best: the fastest.
        iterations: how many.
    """

    median: float
    p10: float
    p90: float
    best: float
    iterations: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """Summarise measured seconds, at least one."""
        low, middle, high = (float(value) * 1e3 for value in np.quantile(seconds, [0.1, 0.5, 0.9]))
        return cls(middle, low, high, min(seconds) * 1e3, len(seconds))


@dataclass(frozen=True)
class Probe:
    """What one iteration needs.

    Attributes:
        seconds: of the second iteration, the first being slower.
        peak_bytes: highest memory: of tensors on a GPU, or of a process of its own on a CPU.
    """

    seconds: float
    peak_bytes: int


def probe(workload: Workload, contender: Contender, settings: Settings, *, seconds: float) -> Probe:
    """Run a cell twice: on a CPU in a process of its own, which tells its memory from that of others.

    Args:
        workload: what to do.
        contender: who does it.
        settings: of the run.
        seconds: about how long an iteration may take; the process is stopped at twice as much and a minute.

    Raises:
        OutOfMemory: it does not fit.
        TooSlow: it took too long.
        Unsupported: the contender cannot do it.
    """
    if settings.device != "cpu":
        return _probe(workload, contender, settings, seconds)
    limit = 2 * seconds + 60
    # Forked from a server that has imported everything and computed nothing, so that memory is that of the cell.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        future = pool.submit(_probe, workload, contender, settings, seconds)
        try:
            return future.result(timeout=limit)
        except FutureTimeout:
            for process in list((pool._processes or {}).values()):
                process.kill()
            raise TooSlow(limit) from None
        except BrokenProcessPool:
            # Linux ends a process that asks for more memory than there is.
            raise OutOfMemory from None


def _probe(workload: Workload, contender: Contender, settings: Settings, seconds: float) -> Probe:
    torch.set_num_threads(settings.threads)
    device = torch.device(settings.device)
    try:
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        task = build_task(workload, contender, settings)
        with task.context():
            elapsed = _iteration(task)
            if elapsed < seconds:
                elapsed = _iteration(task)
    except torch.OutOfMemoryError:
        raise OutOfMemory from None
    except RuntimeError as error:
        # What a CPU allocator says, in a RuntimeError.
        if "allocate memory" in str(error) or "not enough memory" in str(error):
            raise OutOfMemory from None
        if "No available kernel" in str(error):
            raise Unsupported("FlashAttention does not run here in this precision") from None
        raise
    except MemoryError:
        raise OutOfMemory from None
    if device.type == "cuda":
        return Probe(elapsed, torch.cuda.max_memory_allocated(device))
    return Probe(elapsed, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _iteration(task: Task) -> float:
    task.prepare()
    _wait(task.device)
    began = time.perf_counter()
    task.run()
    _wait(task.device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_together(tasks: Sequence[Task], estimates: Sequence[float], *, seconds: float) -> list[Timing]:
    """Time tasks in turn, one iteration each, so that what else the machine does meets all of them.

    At least 20 iterations (CPU: 5) or 3 seconds of each, after a warm-up, within `seconds` of each.

    Args:
        tasks: what to time, on one device.
        estimates: seconds of one iteration of each.
        seconds: the most that a task may take in all.
    """
    device = tasks[0].device
    cuda = device.type == "cuda"
    flush = cuda and tasks[0].workload.level == "operator"
    cache = torch.empty(_FLUSH_BYTES, dtype=torch.uint8, device=device) if flush else None
    wanted = []
    for task, estimate in zip(tasks, estimates, strict=True):
        warm_up = max(_LEAST_WARM_UP, min(_WARM_UP, int(_MOST_WARM_UP_SECONDS / estimate))) if cuda else 1
        with task.context():
            took = min(estimate, *(_iteration(task) for _ in range(warm_up)))
        wanted.append(max(1, min(_repeats(took, cuda=cuda), int(seconds / took))))
    measured: list[list[float]] = [[] for _ in tasks]
    for turn in range(max(wanted)):
        for task, times, count in zip(tasks, measured, wanted, strict=True):
            if turn < count:
                with task.context():
                    times.append(_timed(task, cache) if cuda else _iteration(task))
    return [Timing.of(times) for times in measured]


def _repeats(estimate: float, *, cuda: bool) -> int:
    least, most = (_ITERATIONS, 10 * _ITERATIONS) if cuda else (_CPU_ITERATIONS, 10 * _CPU_ITERATIONS)
    return max(least if least * estimate <= _SECONDS or not cuda else 3, min(most, int(_SECONDS / estimate)))


def _timed(task: Task, cache: torch.Tensor | None) -> float:
    task.prepare()
    if cache is not None:
        cache.zero_()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    task.run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3
