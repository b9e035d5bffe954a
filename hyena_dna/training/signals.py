"""Stopping a run from outside: a signal asks, the loop answers at the end of the step."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["StopSignals", "reset_in_worker"]

# From linux/prctl.h.
_PR_SET_PDEATHSIG = 1

_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143}


class StopSignals:
    """Catch SIGINT, SIGTERM and SIGUSR1 (the warning that batch systems send) while the context is open.

    The first signal only sets `exit_code`; a second SIGINT ends the process at once.

    Attributes:
        exit_code: None until a signal came; then 130 (SIGINT) or 143 (SIGTERM, SIGUSR1).
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._previous = {number: signal.getsignal(number) for number in _EXIT_CODES}
        self.install()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Install the handlers again, after a library put its own in their place."""
        for number in _EXIT_CODES:
            signal.signal(number, self._handle)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self.exit_code == 130:
            # Not an exception: libraries catch those and tidy up for seconds, and nothing here is half written.
            os._exit(130)
        self.exit_code = _EXIT_CODES[signal.Signals(number)]


def reset_in_worker(_: int) -> None:
    """Give a data worker its own manners: Ctrl-C is the parent's business, SIGTERM ends the worker, and so does the
    end of the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if sys.platform == "linux":
        # A worker notices by itself that its parent was killed, but then waits for ever to flush a pipe that nobody
        # reads any more.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
