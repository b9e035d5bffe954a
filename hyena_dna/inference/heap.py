"""What runs give back to the operating system: their memory depends on the model, not on the number of records."""

from __future__ import annotations

import ctypes

__all__ = ["trim_heap"]


def trim_heap() -> bool:
    """Give all pages back that the C library's heaps hold and nothing uses.

    Left alone, glibc keeps freed blocks of up to 32 MiB: after a chunk 100 MB and more, whose amount depends on what
    came before. Once a chunk this costs next to nothing; having every large block mapped and unmapped by itself
    (`mallopt`) would bring the peak down too, but cost half as much time as the model.

    Returns:
        Whether there was something to give back; False where the C library cannot.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and bool(trim(0))
