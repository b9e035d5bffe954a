"""Independent pieces of work side by side on CPU threads, each from its first operation to its last.

PyTorch splits every single operation among its threads and makes them wait for each other after it. Where a piece of
work fits a core's cache, it is faster to give whole pieces to threads: nothing moves between cores, nobody waits, and
on a machine that others use too a thread that is interrupted does not hold up the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

__all__ = ["run_pieces"]

_T = TypeVar("_T")

# Pieces have temporaries of their own, so that memory grows with their number at a time.
_MOST = 8


def run_pieces(function: Callable[[_T], None], pieces: Iterable[_T]) -> None:
    """Call a function with every piece, several at a time, without autograd. The order is not defined.

    Args:
        function: what it writes for one piece no other piece reads or writes.
        pieces: its arguments.

    Raises:
        Exception: what `function` raises.
    """
    pieces, threads = list(pieces), torch.get_num_threads()
    workers = min(threads, _MOST)
    if min(workers, len(pieces)) == 1:
        for piece in pieces:
            function(piece)
        return
    # Modes belong to threads.
    inference = torch.is_inference_mode_enabled()

    def run(piece: _T) -> None:
        with torch.inference_mode() if inference else torch.no_grad():
            function(piece)

    try:
        for _ in _pool(os.getpid(), workers, threads // workers).map(run, pieces):
            pass
    finally:
        # Setting the number in a worker also sets it for threads that PyTorch has yet to start.
        torch.set_num_threads(threads)


@lru_cache(maxsize=4)
def _pool(process: int, workers: int, threads: int) -> ThreadPoolExecutor:
    """Threads of a process, each of which uses `threads` itself; a fork has none of its parent's."""
    return ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads,))
