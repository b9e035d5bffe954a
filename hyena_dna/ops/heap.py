"""What the C library does with freed memory: give it back, or keep it for what comes next."""

from __future__ import annotations

import ctypes

__all__ = ["keep_heap", "trim_heap"]

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_heap() -> bool:
    """Keep what the main thread frees, until the process ends, for what soon needs as much again: steps of training.

    glibc maps every block above 32 MiB by itself and unmaps it when it is freed, so that the next one is page after
    page cleared by the system: a sixth of a training step on two cores. With this the process stays as large as it was
    at its largest.

    Returns:
        Whether the C library can.
    """
    choose = getattr(ctypes.CDLL(None), "mallopt", None)
    return choose is not None and bool(choose(_MMAP_MAX, 0) and choose(_TRIM_THRESHOLD, -1))


def trim_heap() -> bool:
    """Give all pages back that the C library's heaps hold and nothing uses.

    For runs whose memory is to depend on the model, not on the number of records.

    Left alone, glibc keeps freed blocks of up to 32 MiB: after a chunk 100 MB and more, whose amount depends on what
    came before. Once a chunk this costs next to nothing; having every large block mapped and unmapped by itself
    (`mallopt`) would bring the peak down too, but cost half as much time as the model.

    Returns:
        Whether there was something to give back; False where the C library cannot.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and bool(trim(0))
